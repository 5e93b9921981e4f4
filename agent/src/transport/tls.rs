//! The TLS settings that HTTP and WebSocket connections of an agent share.

use std::sync::Arc;

use groundswell_scenario::http::{HttpVersion, Identity, TlsOptions};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ALL_VERSIONS, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;

/// TLS settings, built once for an agent; clones share the session cache.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: ClientConfig,
}

/// Why TLS can't be set up as the plan wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("a certificate or key of the plan can't be read: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

impl Tls {
    /// The plan's certificate authorities, else the machine's own; none at all checked where the plan says `insecure`.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[_] = if options.only_1_3 { &[&TLS13] } else { ALL_VERSIONS };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
        let builder = if options.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny { provider }))
        } else if let Some(pem) = &options.authorities {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate?)?;
            }
            builder.with_root_certificates(roots)
        } else {
            match builder.clone().with_platform_verifier() {
                Ok(builder) => builder,
                Err(error) => {
                    // A machine without certificate authorities (a bare container) can still test plain HTTP.
                    tracing::warn!(%error, "no certificate authorities on this machine: https targets will fail with class tls_unknown_issuer");
                    builder.with_root_certificates(RootCertStore::empty())
                }
            }
        };
        let config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?
            }
        };
        Ok(Tls { config })
    }

    /// For connections that speak this version of HTTP, agreed on in the handshake (RFC 7301).
    pub(crate) fn config(&self, version: HttpVersion) -> ClientConfig {
        let mut config = self.config.clone();
        config.alpn_protocols = match version {
            HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
            HttpVersion::Http2 => vec![b"h2".to_vec()],
        };
        config
    }
}

/// `insecure: true`: any certificate will do, but the handshake itself must be sound.
#[derive(Debug)]
struct AcceptAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
