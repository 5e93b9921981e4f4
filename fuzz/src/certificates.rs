//! What is said to be a certificate, a request for one, or a token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use groundswell_access::{AccessFolder, Authority, Identity, Subject, Token};

/// Whom certificates are issued to.
const NAME: &str = "agent-7";

thread_local! {
    static AUTHORITY: Authority = {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = AccessFolder::open(folder.path()).expect("an access folder");
        Authority::open(&folder).expect("a CA")
    };
}

/// Bytes are a certificate or not, and a request or not; what a CA makes of a request is the certificate of whom it was told,
/// whatever the request says; a token that is read is the one that was written.
///
/// # Panics
/// When that does not hold.
pub fn certificate(bytes: &[u8]) {
    if let Ok(subject) = Subject::of(bytes) {
        assert!(subject.serial.bytes().all(|digit| digit.is_ascii_hexdigit()), "{subject:?}");
    }
    signed(&pem("CERTIFICATE REQUEST", bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    signed(text);
    if let Ok(identity) = Identity::from_pem(text, text, text) {
        let _ = identity.subject();
    }
    if let Ok(token) = Token::parse(text) {
        assert_eq!(Token::parse(&token.text()).as_ref(), Ok(&token));
    }
}

fn signed(request: &str) {
    AUTHORITY.with(|authority| {
        let Ok(issued) = authority.sign_agent(NAME, request, Authority::AGENT_LIFETIME) else { return };
        let der = der(&issued.certificate);
        let subject = Subject::of(&der).expect("it is the certificate of an agent");
        assert_eq!(subject.name, NAME);
        let lasts = Duration::from_secs(subject.expires_s - subject.issued_s);
        assert!(lasts <= Authority::AGENT_LIFETIME + Duration::from_secs(1), "{subject:?}");
        assert_ne!(issued.certificate, issued.ca);
    });
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
}

fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    BASE64.decode(lines.collect::<String>()).expect("it is PEM")
}
