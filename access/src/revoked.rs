//! Certificates that count no more: `revoked.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::folder::Changing;
use crate::{AccessError, AccessFolder, Subject, now_s};

/// The file.
pub(crate) const FILE: &str = "revoked.json";

/// A revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Certificates of this name that were issued until then count no more, in seconds since 1970 (UTC).
    pub issued_until_s: u64,
}

/// All of them, by the agent's name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Revoked {
    pub(crate) agents: BTreeMap<String, Revocation>,
}

impl Changing for Revoked {
    fn add(&mut self, given: Self) {
        for (name, revocation) in given.agents {
            let known = self.agents.entry(name).or_insert(revocation);
            known.issued_until_s = known.issued_until_s.max(revocation.issued_until_s);
        }
    }
}

impl Revoked {
    pub(crate) fn has(&self, subject: &Subject) -> bool {
        self.agents.get(&subject.name).is_some_and(|revocation| subject.issued_s <= revocation.issued_until_s)
    }
}

impl AccessFolder {
    /// Makes every certificate count no more that an agent of that name has by now. One that it is given later counts,
    /// but a token to join gives it none ([`crate::Gate::join`]).
    ///
    /// # Errors
    /// When the file can't be changed.
    pub fn revoke_agent(&self, name: &str) -> Result<(), AccessError> {
        self.change(FILE, |revoked: &mut Revoked| {
            revoked.agents.insert(name.to_owned(), Revocation { issued_until_s: now_s() });
            Ok(())
        })
    }

    /// The revocations, by the agent's name.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn revoked(&self) -> Result<BTreeMap<String, Revocation>, AccessError> {
        Ok(self.json::<Revoked>(FILE)?.agents)
    }
}
