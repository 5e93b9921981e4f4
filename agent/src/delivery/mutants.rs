//! Faults planted on purpose, so that a test can show that the simulator of the protocol finds them.
//!
//! Only the feature `mutants` compiles them in. Without it the switch is a constant and costs nothing.

/// One planted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The lease counts from the receipt of the grant.
    LeaseFromReceipt,
    /// What was handed out once is handed out again with other content.
    ChangedAfterExposure,
    /// A delta is freed as soon as it was handed out.
    FreedBeforeAcknowledged,
    /// A release is answered with yes although its moment has passed.
    LateRelease,
    /// A refused release is taken when it is asked for again.
    ForgetsRefusal,
    /// A coordinator of a lower term is obeyed.
    ObeysLowerTerm,
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
