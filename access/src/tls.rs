//! TLS of both sides: version 1.3, certificates of the coordinator's own CA.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme, version,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{AccessError, Authority, Fingerprint, Identity, sha256};

/// By what a coordinator is known.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Its CA has this SHA-256; tokens have it.
    Fingerprint(Fingerprint),
    /// Its CA is one of these.
    Ca(Vec<CertificateDer<'static>>),
}

impl Trust {
    /// The CA of a PEM text.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn from_pem(text: &str) -> Result<Self, AccessError> {
        let wrong = |why: String| AccessError::Certificate { what: "the CA's certificate", why };
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        match all.map_err(|error| wrong(error.to_string()))? {
            none if none.is_empty() => Err(wrong("there is no certificate in it".to_owned())),
            all => Ok(Trust::Ca(all)),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unusable(error: impl std::fmt::Display) -> AccessError {
    AccessError::Certificate { what: "TLS can't be set up", why: error.to_string() }
}

/// What a coordinator serves with. Agents show their certificates; people, who have tokens, show none.
///
/// # Errors
/// When the certificates can't be used.
pub fn server_config(authority: &Authority, identity: &Identity) -> Result<Arc<ServerConfig>, AccessError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).map_err(unusable)?;
    let agents = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(unusable)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(agents)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a coordinator is reached with; agents show their identity.
///
/// # Errors
/// When the certificates can't be used.
pub fn client_config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, AccessError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByTrust { trust: trust.clone() }));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).map_err(unusable)?
        }
        None => builder.with_no_client_auth(),
    };
    // A resumed session would skip the certificates, and with them a revocation.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Verifies a coordinator against the CA that a user named, the whole of it or its hash. Names, times and signatures are
/// webpki's work.
#[derive(Debug)]
struct ByTrust {
    trust: Trust,
}

impl ByTrust {
    fn roots(&self, shown: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        match &self.trust {
            Trust::Ca(all) => {
                for ca in all {
                    roots.add(ca.clone())?;
                }
            }
            Trust::Fingerprint(wanted) => {
                let of_token = shown.iter().find(|certificate| sha256(certificate) == *wanted);
                let of_token = of_token.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                roots.add(of_token.clone().into_owned())?;
            }
        }
        Ok(roots)
    }
}

impl ServerCertVerifier for ByTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.roots(intermediates)?;
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
