//! Faults planted on purpose, so that a test can show that the simulator of the protocol finds them.
//!
//! Only the feature `mutants` compiles them in. Without it the switch is a constant and costs nothing.

/// One planted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A delta that came before is taken again.
    NoDuplicateCheck,
    /// A delta is taken although one before it is missing.
    NoGapCheck,
    /// What is not yet committed is acknowledged.
    AcknowledgeBeforeCommit,
    /// What is not yet committed is merged.
    MergeBeforeCommit,
    /// One that joins starts without waiting for the releases.
    LostRelease,
    /// An answer is taken for one to the last question, whichever it answers.
    AnyAnswer,
    /// A survivor gets another part of a lost share than its own.
    WrongStripe,
    /// An agent that was given up is granted a lease again.
    StaleIncarnationActs,
    /// A restarted coordinator does not wait for leases that it granted before.
    RestartForgetsLeases,
    /// A share is dealt out when a lease may still be running.
    NoMargin,
    /// Another boot gets the incarnation of the one before it.
    IncarnationReused,
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants a fault in this thread, or takes it out.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }

    /// Is this fault planted?
    pub(crate) fn is(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub(crate) use switch::is;
#[cfg(feature = "mutants")]
pub use switch::plant;

/// Is this fault planted?
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
