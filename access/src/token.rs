//! Tokens as text: what a coordinator prints and people copy.
//!
//! `gs.ROLE.ID.SECRET.CA`: the role; an id to list and revoke it by; 32 random bytes; the SHA-256 of the coordinator's CA
//! certificate, so that whoever has the token knows the coordinator by it and needs no other file. Bytes are base64url
//! without padding (RFC 4648, 5).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Role, sha256};

/// SHA-256 of a certificate's DER.
pub type Fingerprint = [u8; 32];

/// Why a text is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no token of groundswell, which looks like gs.join.1a2b3c4d.….…; copy the whole of it")]
pub struct BadToken;

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What its bearer may do.
    pub role: Role,
    /// Its id: no secret.
    pub id: String,
    secret: [u8; 32],
    /// The CA of the coordinator that it is for.
    pub ca: Fingerprint,
}

/// Without the secret.
impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Token({} {})", self.role.name(), self.id)
    }
}

impl Token {
    /// A new one, from the system's random numbers.
    pub fn draw(role: Role, ca: Fingerprint) -> Self {
        let id: [u8; 4] = rand::random();
        Token { role, id: hex(&id), secret: rand::random(), ca }
    }

    /// Reads one.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [prefix, role, id, secret, ca] = parts[..] else { return Err(BadToken) };
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let id_is_one = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (prefix, Role::of_name(role), id_is_one, bytes(secret), bytes(ca)) {
            ("gs", Some(role), true, Some(secret), Some(ca)) => Ok(Token { role, id: id.to_owned(), secret, ca }),
            _ => Err(BadToken),
        }
    }

    /// The text. Whoever has it has what it allows.
    pub fn text(&self) -> String {
        let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("gs.{}.{}.{}.{}", self.role.name(), self.id, base64(&self.secret), base64(&self.ca))
    }

    /// What is kept of the secret. Its 256 bits are random, so that a plain hash can't be guessed back.
    pub(crate) fn hash(&self) -> [u8; 32] {
        sha256(&self.secret)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn text_and_back() {
        for role in Role::ALL {
            let token = Token::draw(role, [7; 32]);
            assert_eq!(Token::parse(&format!(" {}\n", token.text())).unwrap(), token);
            assert!(!format!("{token:?}").contains(&token.text()[20..60]));
        }
        assert_ne!(Token::draw(Role::Run, [7; 32]).text(), Token::draw(Role::Run, [7; 32]).text());
    }

    #[test]
    fn what_is_no_token() {
        let good = Token::draw(Role::Join, [7; 32]).text();
        let cut = &good[..good.len() - 1];
        let wrong = [String::new(), "gs".to_owned(), cut.to_owned(), good.replace("join", "root"), format!("{good}.x")];
        for text in wrong {
            assert_eq!(Token::parse(&text), Err(BadToken), "{text}");
        }
    }
}
