//! Registering agents: each boot of an agent gets a number of its own. Many that come at once go into one commit, as
//! what they will send later does; else five hundred would wait for five hundred syncs of the disk.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use super::checksum::checksum;
use super::database::writing;
use super::error::Trouble;
use super::{Inner, Store, StoreError};

/// Agents that wait for their number.
pub(super) struct Registrations {
    waiting: Mutex<Vec<Registration>>,
    /// Whoever has it registers all that wait.
    turn: Semaphore,
}

struct Registration {
    agent: String,
    /// All 64 bits; the database only compares them.
    boot: i64,
    answer: oneshot::Sender<u64>,
}

impl Default for Registrations {
    fn default() -> Self {
        Registrations { waiting: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Registrations {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Registration>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The number of an agent's start, durable when this returns. The same boot of the same agent gets the same one, a
    /// new boot a greater one, and no two of them share one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn incarnation(&self, agent: &str, boot: u64) -> Result<u64, StoreError> {
        let Inner { registrations, .. } = &*self.inner;
        loop {
            self.inner.check_stopped()?;
            let (answer, answered) = oneshot::channel();
            registrations.waiting().push(Registration { agent: agent.to_owned(), boot: boot.cast_signed(), answer });
            // Never closed.
            let turn = registrations.turn.acquire().await;
            let all = std::mem::take(&mut *registrations.waiting());
            if !all.is_empty() {
                let numbers = self.inner.register(&all).await?;
                for (registration, number) in all.into_iter().zip(numbers) {
                    // One that does not wait any more comes again and gets the same.
                    let _ = registration.answer.send(number);
                }
            }
            drop(turn);
            if let Ok(number) = answered.await {
                return Ok(number);
            }
            // Whoever was at it failed or went away in the middle.
        }
    }
}

impl Inner {
    /// The numbers of all of these, in one transaction.
    async fn register(&self, all: &[Registration]) -> Result<Vec<u64>, StoreError> {
        let inner = self;
        writing!(inner, "register an agent", transaction => {
            let mut numbers = Vec::with_capacity(all.len());
            for Registration { agent, boot, .. } in all {
                let known: Option<(i64, i64)> =
                    sqlx::query_as("SELECT number, checksum FROM incarnations WHERE agent = $1 AND boot = $2")
                        .bind(agent).bind(boot).fetch_optional(&mut *transaction).await?;
                let sum = |number: i64| checksum(&[agent.as_str().into(), (*boot).into(), number.into()]);
                let number = if let Some((number, stored)) = known {
                    inner.compare(stored, sum(number), || format!("incarnation {number} of agent {agent}"))?;
                    number
                } else {
                    let number: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(number), 0) + 1 FROM incarnations")
                        .fetch_one(&mut *transaction).await?;
                    sqlx::query("INSERT INTO incarnations (number, agent, boot, checksum) VALUES ($1, $2, $3, $4)")
                        .bind(number).bind(agent).bind(boot).bind(sum(number)).execute(&mut *transaction).await?;
                    number
                };
                numbers.push(number.unsigned_abs());
            }
            Ok::<Vec<u64>, Trouble>(numbers)
        })
    }
}
