//! Browsers that have logged in. A session is forgotten when the coordinator ends, when its time is over, and when its token
//! counts no more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use groundswell_access::{Gate, Grant};
use tokio::time::Instant;

/// A working day.
pub(in crate::server) const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// Most sessions at a time; the oldest goes.
const MAX_SESSIONS: usize = 1_000;

/// The sessions, by what their cookie says.
#[derive(Debug, Default)]
pub(in crate::server) struct Sessions {
    all: Mutex<HashMap<String, (Grant, Instant)>>,
}

impl Sessions {
    /// Begins one. Returns what its cookie says: 32 random bytes.
    pub(in crate::server) fn begin(&self, grant: Grant) -> String {
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, since)| since.elapsed() < LIFETIME);
        if all.len() >= MAX_SESSIONS
            && let Some(oldest) = all.iter().min_by_key(|(_, (_, since))| *since).map(|(id, _)| id.clone())
        {
            all.remove(&oldest);
        }
        all.insert(id.clone(), (grant, Instant::now()));
        id
    }

    /// What the one who has this cookie may do.
    pub(in crate::server) fn grant(&self, id: &str, gate: &Gate) -> Option<Grant> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let (grant, since) = all.get(id)?;
        (since.elapsed() < LIFETIME && gate.still_counts(grant)).then(|| grant.clone())
    }

    pub(in crate::server) fn end(&self, id: &str) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
