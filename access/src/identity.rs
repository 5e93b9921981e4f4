//! A certificate with its key, and what a certificate says about who has it.

use std::fmt::Write as _;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::folder::AccessFolder;
use crate::{AccessError, token::hex};

/// Files of an agent's identity.
const CERTIFICATE: &str = "agent.pem";
const KEY: &str = "agent.key";
const CA: &str = "ca.pem";

/// How much earlier than it was issued a certificate counts: clocks differ.
pub(crate) const SKEW_S: u64 = 300;
/// What stands in the certificate of an agent, as a URI among its names.
pub(crate) const AGENT_URI: &str = "urn:groundswell:agent";
/// What stands in the certificate of a coordinator.
pub(crate) const COORDINATOR_URI: &str = "urn:groundswell:coordinator";

/// A certificate with its key and the CA that issued it.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, and the CA's after it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    certificate_pem: String,
    key_pem: String,
    ca_pem: String,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            certificate_pem: self.certificate_pem.clone(),
            key_pem: self.key_pem.clone(),
            ca_pem: self.ca_pem.clone(),
        }
    }
}

impl Identity {
    /// From PEM texts.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn from_pem(certificate: &str, key: &str, ca: &str) -> Result<Self, AccessError> {
        let wrong =
            |what| move |why: rustls_pki_types::pem::Error| AccessError::Certificate { what, why: why.to_string() };
        let one = |text: &str, what| CertificateDer::from_pem_slice(text.as_bytes()).map_err(wrong(what));
        Ok(Identity {
            chain: vec![one(certificate, "the certificate")?, one(ca, "the CA's certificate")?],
            key: PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(wrong("the key"))?,
            certificate_pem: certificate.to_owned(),
            key_pem: key.to_owned(),
            ca_pem: ca.to_owned(),
        })
    }

    /// The identity of an agent that is kept in a folder; none when there is none.
    ///
    /// # Errors
    /// When what is there is no identity.
    pub fn load(folder: &Path) -> Result<Option<Self>, AccessError> {
        let folder = AccessFolder::open(folder)?;
        match (folder.read(CERTIFICATE)?, folder.read(KEY)?, folder.read(CA)?) {
            (Some(certificate), Some(key), Some(ca)) => Identity::from_pem(&certificate, &key, &ca).map(Some),
            _ => Ok(None),
        }
    }

    /// Keeps it in a folder: `agent.pem`, `agent.key`, `ca.pem`, mode 0600.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn save(&self, folder: &Path) -> Result<(), AccessError> {
        let folder = AccessFolder::open(folder)?;
        folder.write(KEY, &self.key_pem)?;
        folder.write(CA, &self.ca_pem)?;
        folder.write(CERTIFICATE, &self.certificate_pem)
    }

    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What its certificate says.
    ///
    /// # Errors
    /// When that is not what an agent's says.
    pub fn subject(&self) -> Result<Subject, AccessError> {
        let certificate = self.chain.first().map(AsRef::as_ref).unwrap_or_default();
        Subject::of(certificate).map_err(|why| AccessError::Certificate { what: "the certificate", why })
    }
}

/// What an agent asks a coordinator to sign: a key of its own, which never leaves it.
pub struct Request {
    key: KeyPair,
    /// The request (PKCS #10, PEM).
    pub pem: String,
}

impl Request {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new() -> Result<Self, AccessError> {
        let wrong = AccessError::certificate("can't make a key");
        let key = KeyPair::generate().map_err(&wrong)?;
        // The coordinator decides what stands in the certificate.
        let pem = CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
        Ok(Request { key, pem: pem.map_err(&wrong)? })
    }

    /// The identity that the answer makes of it.
    ///
    /// # Errors
    /// When the answer is no certificate.
    pub fn granted(&self, certificate_pem: &str, ca_pem: &str) -> Result<Identity, AccessError> {
        Identity::from_pem(certificate_pem, &self.key.serialize_pem(), ca_pem)
    }
}

/// Whose certificate it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The agent's name.
    pub name: String,
    /// Serial number, in hexadecimal digits.
    pub serial: String,
    /// When it was issued, in seconds since 1970 (UTC).
    pub issued_s: u64,
    /// Until when it counts, in seconds since 1970 (UTC).
    pub expires_s: u64,
}

impl Subject {
    /// Reads the certificate of an agent (DER). That it was issued by the right CA has to be known already.
    ///
    /// # Errors
    /// Says why it is none.
    pub fn of(certificate: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        if !names.iter().any(|name| matches!(name, GeneralName::URI(AGENT_URI))) {
            return Err("it is not the certificate of an agent".to_owned());
        }
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = name.ok_or_else(|| "it has no name".to_owned())?;
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Ok(Subject {
            name: name.to_owned(),
            serial: hex(certificate.raw_serial()),
            issued_s: seconds(certificate.validity().not_before).saturating_add(SKEW_S),
            expires_s: seconds(certificate.validity().not_after),
        })
    }
}

/// A certificate as PEM (RFC 7468).
pub(crate) fn pem(certificate: &[u8]) -> String {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in base64.as_bytes().chunks(64) {
        // Into a String: this can't fail.
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    text + "-----END CERTIFICATE-----\n"
}
