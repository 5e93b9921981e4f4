//! The certificate authority of a coordinator: one CA for one fleet, made by itself.

use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

use crate::identity::{AGENT_URI, COORDINATOR_URI, SKEW_S, pem};
use crate::{AccessError, AccessFolder, Fingerprint, Identity, now_s, sha256};

/// Its files.
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// For how long the CA counts.
const CA_LIFETIME: Duration = Duration::from_secs(DAY.as_secs() * 3_650);
/// For how long the certificate of a coordinator counts; it makes another one at its next start after two thirds of it.
const COORDINATOR_LIFETIME: Duration = Duration::from_secs(DAY.as_secs() * 365);

/// A certificate that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate (PEM).
    pub certificate: String,
    /// That of the CA (PEM).
    pub ca: String,
}

/// The CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// For how long the certificate of an agent counts, when nobody says something else.
    pub const AGENT_LIFETIME: Duration = Duration::from_secs(DAY.as_secs() * 90);

    /// The CA of a folder; made when the folder has none.
    ///
    /// # Errors
    /// When it can't be read or made, or only half of it is there.
    pub fn open(folder: &AccessFolder) -> Result<Self, AccessError> {
        // A folder that can't be written can't be locked either; so the lock is for those who find less than both files.
        if let (Some(certificate), Some(key)) = (folder.read(CERTIFICATE)?, folder.read(KEY)?) {
            return Authority::of(&certificate, &key);
        }
        let _lock = folder.lock()?;
        let incomplete = |name: &str| {
            let why = "the other file of the CA is there and this one is not; restore it, or move the other one away";
            Err(AccessError::file(&folder.path(name), why))
        };
        match (folder.read(CERTIFICATE)?, folder.read(KEY)?) {
            (Some(certificate), Some(key)) => Authority::of(&certificate, &key),
            (Some(_), None) => incomplete(KEY),
            (None, Some(_)) => incomplete(CERTIFICATE),
            (None, None) => Authority::make(folder),
        }
    }

    fn make(folder: &AccessFolder) -> Result<Self, AccessError> {
        let wrong = AccessError::certificate("can't make a CA");
        let key = KeyPair::generate().map_err(&wrong)?;
        let certificate = authority_params().self_signed(&key).map_err(&wrong)?;
        folder.write(KEY, &key.serialize_pem())?;
        folder.write(CERTIFICATE, &certificate.pem())?;
        Authority::of(&certificate.pem(), &key.serialize_pem())
    }

    fn of(certificate: &str, key: &str) -> Result<Self, AccessError> {
        let wrong = AccessError::certificate("the CA of the access folder");
        let key = KeyPair::from_pem(key).map_err(&wrong)?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|error| AccessError::Certificate {
            what: "the CA of the access folder",
            why: error.to_string(),
        })?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(&wrong)?;
        Ok(Authority { issuer, pem: pem(&der), certificate: der })
    }

    /// By which tokens name it.
    pub fn fingerprint(&self) -> Fingerprint {
        sha256(&self.certificate)
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for an agent of that name whose key is in this request (PKCS #10, PEM). Nothing but the key is taken
    /// from the request.
    ///
    /// # Errors
    /// When the request is none.
    pub fn sign_agent(&self, name: &str, request: &str, lifetime: Duration) -> Result<Issued, AccessError> {
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(AccessError::certificate("the request for a certificate"))?;
        let certificate = self.sign(agent_params(name, lifetime)?, &request.public_key)?;
        Ok(Issued { certificate: certificate.pem(), ca: self.pem.clone() })
    }

    /// A certificate with a new key for an agent of that name.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn issue_agent(&self, name: &str, lifetime: Duration) -> Result<Identity, AccessError> {
        self.issue(agent_params(name, lifetime)?)
    }

    /// A certificate with a new key for a coordinator that is reached under these names: DNS names and IP addresses.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn issue_coordinator(&self, names: &[String]) -> Result<Identity, AccessError> {
        let wrong = AccessError::certificate("a name for the coordinator's certificate");
        let mut params = CertificateParams::new(names).map_err(&wrong)?;
        params.subject_alt_names.push(SanType::URI(COORDINATOR_URI.try_into().map_err(&wrong)?));
        params.distinguished_name.push(DnType::CommonName, "groundswell coordinator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(lasting(params, COORDINATOR_LIFETIME))
    }

    fn issue(&self, params: CertificateParams) -> Result<Identity, AccessError> {
        let key = KeyPair::generate().map_err(AccessError::certificate("can't make a key"))?;
        let certificate = self.sign(params, &key)?;
        Identity::from_pem(&certificate.pem(), &key.serialize_pem(), &self.pem)
    }

    fn sign(&self, mut params: CertificateParams, key: &impl PublicKeyData) -> Result<Certificate, AccessError> {
        // 127 random bits: positive, and never twice (RFC 5280, 4.1.2.2).
        let mut serial: [u8; 16] = rand::random();
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.signed_by(key, &self.issuer).map_err(AccessError::certificate("can't sign a certificate"))
    }
}

fn authority_params() -> CertificateParams {
    let mut params = lasting(CertificateParams::default(), CA_LIFETIME);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "groundswell CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn agent_params(name: &str, lifetime: Duration) -> Result<CertificateParams, AccessError> {
    let wrong = AccessError::certificate("the certificate of an agent");
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.push(SanType::URI(AGENT_URI.try_into().map_err(&wrong)?));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(lasting(params, lifetime))
}

fn lasting(mut params: CertificateParams, lifetime: Duration) -> CertificateParams {
    let at = |s: u64| i64::try_from(s).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let now = now_s();
    params.not_before = at(now.saturating_sub(SKEW_S)).unwrap_or(params.not_before);
    params.not_after = at(now.saturating_add(lifetime.as_secs())).unwrap_or(params.not_after);
    params
}
