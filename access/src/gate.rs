//! What a running coordinator asks: who is it, and what may they do.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use subtle::ConstantTimeEq;

use crate::revoked::{self, Revoked};
use crate::tokens::{self, Tokens};
use crate::{
    AccessError, AccessFolder, Authority, Fingerprint, Identity, Issued, NewToken, Role, Subject, Token, TokenEntry,
    now_s, server_config, sha256,
};

/// The coordinator's certificate; it is made again when this file does not suit any more.
const CERTIFICATE: &str = "coordinator.pem";
const KEY: &str = "coordinator.key";
const NAMES: &str = "coordinator.names";
/// Shortest text that counts as a token of one's own.
const MIN_STATIC: usize = 20;

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such token, or it counts no more.
    #[error("this token is unknown, revoked or expired; ask for another one: groundswell tokens create")]
    Unknown,
    /// The agent was turned out.
    #[error(
        "agent {name} was revoked, and a token to join does not undo that; give it a certificate \
         (groundswell certs agent {name}), or another name"
    )]
    Revoked {
        /// Its name.
        name: String,
    },
    /// It allows something else.
    #[error("this token is for role {}; role {} is needed here", .has.name(), .needs.name())]
    Role {
        /// What it allows.
        has: Role,
        /// What is needed.
        needs: Role,
    },
}

/// Somebody was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// By which token: an id that is no secret.
    pub by: String,
    /// What they may do.
    pub role: Role,
}

/// A token that its user made: known by its text alone, for as long as the coordinator runs.
pub struct StaticToken {
    role: Role,
    hash: [u8; 32],
    id: String,
}

impl StaticToken {
    /// The token in a file.
    ///
    /// # Errors
    /// When the file can't be read, or is too short to be a secret.
    pub fn read(role: Role, path: &Path) -> Result<Self, AccessError> {
        let text = std::fs::read_to_string(path).map_err(|error| AccessError::file(path, error))?;
        let text = text.trim();
        if text.len() < MIN_STATIC {
            let why = format!("a token has at least {MIN_STATIC} characters; make one: openssl rand -hex 32");
            return Err(AccessError::file(path, why));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(StaticToken { role, hash: sha256(text.as_bytes()), id: format!("file {name}") })
    }
}

/// What stands between a coordinator and everybody else.
pub struct Gate {
    folder: AccessFolder,
    authority: Authority,
    pub(crate) identity: Identity,
    statics: Vec<StaticToken>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    tokens: Tokens,
    /// Those of [`Gate::passing_token`].
    passing: Tokens,
    revoked: Revoked,
    stamps: [Option<(SystemTime, u64)>; 2],
}

impl Gate {
    /// Opens a folder, with a CA and a certificate for these names, both made when they are not there.
    ///
    /// # Errors
    /// When something of it can't be used.
    pub fn open(folder: &Path, names: &BTreeSet<String>, statics: Vec<StaticToken>) -> Result<Self, AccessError> {
        Gate::of(AccessFolder::open(folder)?, names, statics)
    }

    /// The same with a folder that is open.
    ///
    /// # Errors
    /// When something of it can't be used.
    pub fn of(folder: AccessFolder, names: &BTreeSet<String>, statics: Vec<StaticToken>) -> Result<Self, AccessError> {
        let authority = Authority::open(&folder)?;
        let identity = certificate(&folder, &authority, names)?;
        let gate = Gate { folder, authority, identity, statics, state: RwLock::default() };
        gate.reload()?;
        Ok(gate)
    }

    /// The folder.
    pub fn folder(&self) -> &AccessFolder {
        &self.folder
    }

    /// Its CA.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The fingerprint of its CA.
    pub fn fingerprint(&self) -> Fingerprint {
        self.authority.fingerprint()
    }

    /// What to serve with.
    ///
    /// # Errors
    /// When the certificates can't be used.
    pub fn tls(&self) -> Result<Arc<rustls::ServerConfig>, AccessError> {
        server_config(&self.authority, &self.identity)
    }

    /// Whether there is any token that counts.
    pub fn has_tokens(&self) -> bool {
        !self.statics.is_empty() || self.read().tokens.tokens.iter().any(TokenEntry::counts)
    }

    /// Whether there was any token ever. Who has revoked all of them wants none to be made without being asked.
    pub fn had_tokens(&self) -> bool {
        !self.statics.is_empty() || self.read().stamps[0].is_some()
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn create_token(&self, new: NewToken) -> Result<Token, AccessError> {
        let token = self.folder.create_token(new, self.fingerprint())?;
        self.reload()?;
        Ok(token)
    }

    /// Makes a token that counts for as long as this gate is there, and stands in no file.
    pub fn passing_token(&self, role: Role) -> Token {
        let token = Token::draw(role, self.fingerprint());
        let entry = TokenEntry::of(&token, u64::MAX, None);
        self.state.write().unwrap_or_else(PoisonError::into_inner).passing.tokens.push(entry);
        token
    }

    /// Looks whether tokens or revocations have changed since the last look.
    ///
    /// # Errors
    /// When they can't be read; then those of before stay.
    pub fn reload(&self) -> Result<(), AccessError> {
        let stamps = [self.folder.stamp(tokens::FILE), self.folder.stamp(revoked::FILE)];
        if stamps == self.read().stamps {
            return Ok(());
        }
        let (tokens, revoked) = (self.folder.json(tokens::FILE)?, self.folder.json(revoked::FILE)?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        (state.tokens, state.revoked, state.stamps) = (tokens, revoked, stamps);
        Ok(())
    }

    /// What the bearer of this text may do.
    ///
    /// # Errors
    /// When it is no token that counts.
    pub fn grant(&self, text: &str) -> Result<Grant, Denied> {
        let text = text.trim();
        let hash = sha256(text.as_bytes());
        // Each comparison takes the same time, however close it comes.
        let of_file = self.statics.iter().rfind(|token| bool::from(token.hash.ct_eq(&hash)));
        if let Some(token) = of_file {
            return Ok(Grant { by: token.id.clone(), role: token.role });
        }
        let token = Token::parse(text).map_err(|_| Denied::Unknown)?;
        if let Some(grant) = self.known(&token) {
            return Ok(grant);
        }
        // It may have been made since the last look. Where the file can't be read, what was known before counts.
        let _ = self.reload();
        self.known(&token).ok_or(Denied::Unknown)
    }

    fn known(&self, token: &Token) -> Option<Grant> {
        let state = self.read();
        let entry = state.tokens.find(token, now_s()).or_else(|| state.passing.find(token, now_s()))?;
        Some(Grant { by: entry.id.clone(), role: entry.role })
    }

    /// The same, for something that needs a role.
    ///
    /// # Errors
    /// When it is no token that counts, or allows something else.
    pub fn grant_for(&self, text: &str, needs: Role) -> Result<Grant, Denied> {
        let grant = self.grant(text)?;
        if grant.role.covers(needs) { Ok(grant) } else { Err(Denied::Role { has: grant.role, needs }) }
    }

    /// Whether the token of a grant still counts.
    pub fn still_counts(&self, grant: &Grant) -> bool {
        let is_static = self.statics.iter().any(|token| token.id == grant.by);
        let state = self.read();
        let mut entries = state.tokens.tokens.iter().chain(&state.passing.tokens);
        is_static || entries.any(|entry| entry.id == grant.by && entry.counts())
    }

    /// A certificate for an agent of that name: who has a token to join may have one, unless an agent of that name was
    /// revoked.
    ///
    /// # Errors
    /// When the token does not allow it (the inner one), or no certificate can be made.
    pub fn join(&self, token: &str, name: &str, request: &str) -> Result<Result<Issued, Denied>, AccessError> {
        if let Err(denied) = self.grant_for(token, Role::Join) {
            return Ok(Err(denied));
        }
        self.reload()?;
        if self.read().revoked.agents.contains_key(name) {
            return Ok(Err(Denied::Revoked { name: name.to_owned() }));
        }
        // Before the token is used up: a request that is none costs nothing.
        let issued = self.authority.sign_agent(name, request, Authority::AGENT_LIFETIME)?;
        if let Ok(token) = Token::parse(token) {
            let counts = self.is_limited(&token.id);
            if counts && !self.folder.use_token(&token)? {
                return Ok(Err(Denied::Unknown));
            }
            self.reload()?;
        }
        Ok(Ok(issued))
    }

    /// Whether an agent's certificate counts no more.
    pub fn is_revoked(&self, subject: &Subject) -> bool {
        now_s() >= subject.expires_s || self.read().revoked.has(subject)
    }

    fn is_limited(&self, id: &str) -> bool {
        self.read().tokens.tokens.iter().any(|entry| entry.id == id && entry.uses_left.is_some())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The coordinator's certificate: that of the folder if it is for these names and lasts, else a new one, which a folder
/// that can't be written does not keep.
fn certificate(
    folder: &AccessFolder,
    authority: &Authority,
    names: &BTreeSet<String>,
) -> Result<Identity, AccessError> {
    let names: Vec<String> = names.iter().cloned().collect();
    let for_names = format!("{}\n{}\n", crate::token::hex(&authority.fingerprint()), names.join("\n"));
    if folder.read(NAMES)?.as_ref() == Some(&for_names)
        && let (Some(certificate), Some(key), Some(ca)) =
            (folder.read(CERTIFICATE)?, folder.read(KEY)?, folder.read("ca.pem")?)
    {
        let kept = Identity::from_pem(&certificate, &key, &ca)?;
        if lasts(&kept) {
            return Ok(kept);
        }
    }
    let identity = authority.issue_coordinator(&names)?;
    let keep = || {
        folder.write(KEY, identity.key_pem())?;
        folder.write(CERTIFICATE, identity.certificate_pem())?;
        folder.write(NAMES, &for_names)
    };
    if let Err(error) = keep() {
        tracing::info!(%error, "the coordinator's certificate is kept in memory");
    }
    Ok(identity)
}

/// Whether a third of its time is left.
fn lasts(identity: &Identity) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let certificate = identity.chain.first().map(AsRef::as_ref).unwrap_or_default();
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
        let validity = certificate.validity();
        let left = validity.not_after.timestamp().saturating_sub(i64::try_from(now_s()).unwrap_or(i64::MAX));
        left.saturating_mul(3) > validity.not_after.timestamp().saturating_sub(validity.not_before.timestamp())
    })
}
