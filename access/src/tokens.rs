//! The tokens of a coordinator: `tokens.json` has their hashes, never the tokens.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::folder::Changing;
use crate::token::hex;
use crate::{AccessError, AccessFolder, Fingerprint, Role, Token, now_s};

/// The file.
pub(crate) const FILE: &str = "tokens.json";

/// What a token that is to be made allows.
#[derive(Debug, Clone, Copy)]
pub struct NewToken {
    /// What its bearer may do.
    pub role: Role,
    /// For how long.
    pub lifetime: Duration,
    /// How often it can be used to join; none for any number of times.
    pub uses: Option<u32>,
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// Its id.
    pub id: String,
    /// What its bearer may do.
    pub role: Role,
    /// SHA-256 of its secret, in hexadecimal digits.
    hash: String,
    /// Until when it counts, in seconds since 1970 (UTC).
    pub expires_s: u64,
    /// How often it can still be used to join; none for any number of times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u32>,
}

/// All of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<TokenEntry>,
}

impl Changing for Tokens {
    fn add(&mut self, given: Self) {
        self.tokens.extend(given.tokens);
    }
}

impl Tokens {
    /// The entry of a token that counts at that moment. The secret is compared in constant time.
    pub(crate) fn find(&self, token: &Token, at_s: u64) -> Option<&TokenEntry> {
        let hash = hex(&token.hash());
        let is_it =
            |entry: &&TokenEntry| entry.id == token.id && bool::from(entry.hash.as_bytes().ct_eq(hash.as_bytes()));
        let entry = self.tokens.iter().find(is_it)?;
        (entry.role == token.role && at_s < entry.expires_s && entry.uses_left != Some(0)).then_some(entry)
    }
}

impl TokenEntry {
    pub(crate) fn of(token: &Token, expires_s: u64, uses_left: Option<u32>) -> Self {
        TokenEntry { id: token.id.clone(), role: token.role, hash: hex(&token.hash()), expires_s, uses_left }
    }

    /// Whether it still allows anything.
    pub fn counts(&self) -> bool {
        now_s() < self.expires_s && self.uses_left != Some(0)
    }
}

impl AccessFolder {
    /// Makes a token. This is the only time that its text is known.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn create_token(&self, new: NewToken, ca: Fingerprint) -> Result<Token, AccessError> {
        let token = Token::draw(new.role, ca);
        let expires_s = now_s().saturating_add(new.lifetime.as_secs());
        let entry = TokenEntry::of(&token, expires_s, new.uses);
        self.change(FILE, |tokens: &mut Tokens| {
            // Those that nobody can use any more; a day later nobody wonders about them either.
            tokens.tokens.retain(|entry| entry.expires_s.saturating_add(24 * 3_600) > now_s());
            tokens.tokens.push(entry);
            Ok(())
        })?;
        Ok(token)
    }

    /// The tokens, in the order in which they were made.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn tokens(&self) -> Result<Vec<TokenEntry>, AccessError> {
        Ok(self.json::<Tokens>(FILE)?.tokens)
    }

    /// Whether a text is a token for this role that will count for so long still.
    ///
    /// # Errors
    /// When the tokens can't be read.
    pub fn has_token(&self, text: &str, role: Role, lifetime: Duration) -> Result<bool, AccessError> {
        let Ok(token) = Token::parse(text) else { return Ok(false) };
        let until = now_s().saturating_add(lifetime.as_secs());
        Ok(token.role == role && self.json::<Tokens>(FILE)?.find(&token, until).is_some())
    }

    /// Makes a token count no more.
    ///
    /// # Errors
    /// When there is none of that id, or the file can't be changed.
    pub fn revoke_token(&self, id: &str) -> Result<(), AccessError> {
        self.change(FILE, |tokens: &mut Tokens| {
            let before = tokens.tokens.len();
            tokens.tokens.retain(|entry| entry.id != id);
            if tokens.tokens.len() == before {
                return Err(AccessError::NotThere(format!(
                    "there is no token {id}; groundswell tokens list has their ids"
                )));
            }
            Ok(())
        })
    }

    /// Takes one use of a token. False when it allows none.
    pub(crate) fn use_token(&self, token: &Token) -> Result<bool, AccessError> {
        self.change(FILE, |tokens: &mut Tokens| {
            let Some(id) = tokens.find(token, now_s()).map(|entry| entry.id.clone()) else { return Ok(false) };
            for entry in tokens.tokens.iter_mut().filter(|entry| entry.id == id) {
                entry.uses_left = entry.uses_left.map(|left| left.saturating_sub(1));
            }
            Ok(true)
        })
    }
}
