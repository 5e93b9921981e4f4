//! Which coordinator an agent obeys.

use super::mutants::{self, Mutant};

/// Remembers the highest term that was heard of. A coordinator counts its starts, so one with a lower term is an earlier
/// life of it, or its message was long under way: it may no longer command.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    term: u64,
}

impl Fence {
    /// A command of this term came: may it be obeyed?
    pub fn admits(&mut self, term: u64) -> bool {
        if term < self.term && !mutants::is(Mutant::ObeysLowerTerm) {
            return false;
        }
        self.term = self.term.max(term);
        true
    }

    /// The highest term so far.
    pub fn term(&self) -> u64 {
        self.term
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_term_is_not_obeyed() {
        let mut fence = Fence::default();
        assert!(fence.admits(3) && fence.admits(3) && fence.admits(5));
        assert!(!fence.admits(4) && fence.admits(5));
        assert_eq!(fence.term(), 5);
    }
}
