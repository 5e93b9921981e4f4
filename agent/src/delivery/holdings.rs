//! Which assignments an agent holds, and what it answers when one is to end.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_scenario::Assignment;

use super::mutants::{self, Mutant};

/// The answer to an order to end an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The assignment ends at that moment; somebody else may own its ordinals from there on.
    Released,
    /// It goes on as before: the moment had passed, so some of what follows it may be on its way to the target already.
    Refused,
}

/// The assignments of one incarnation in one run. All times are the run's.
///
/// Orders may come again, after a reconnect for instance: what was given is not given twice, and an answer that was given
/// once is never another one later, because the coordinator acts on it.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    held: BTreeMap<u32, Assignment>,
    answers: BTreeMap<(u32, Duration), Answer>,
}

impl Holdings {
    /// Takes an assignment. Returns whether it is a new one.
    pub fn give(&mut self, assignment: Assignment) -> bool {
        let known = self.held.contains_key(&assignment.generation);
        if !known {
            self.held.insert(assignment.generation, assignment);
        }
        !known
    }

    /// Ends an assignment at the run's moment `at`, and holds `instead` from then on; both or none of it. Only a moment
    /// that is still ahead is taken, because nothing that is intended from there on has been issued. So where a worker has
    /// taken up something before its time, `now` is what that is intended for.
    pub fn end(&mut self, generation: u32, at: Duration, instead: Option<Assignment>, now: Duration) -> Answer {
        let before = self.answers.get(&(generation, at)).copied();
        let before = before.filter(|answer| !(mutants::is(Mutant::ForgetsRefusal) && *answer == Answer::Refused));
        if let Some(answer) = before {
            return answer;
        }
        let ahead = at > now || mutants::is(Mutant::LateRelease);
        let answer = match self.held.get_mut(&generation) {
            // Another end is in force already: only that one was ever promised to somebody.
            Some(held) if ahead && held.until.is_none() => {
                held.until = Some(at);
                if let Some(instead) = instead {
                    self.give(instead);
                }
                Answer::Released
            }
            Some(_) | None => Answer::Refused,
        };
        self.answers.insert((generation, at), answer);
        answer
    }

    /// In the order in which they were made.
    pub fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.held.values()
    }

    /// Is nothing held at this moment of the run and after it?
    pub fn is_over(&self, now: Duration) -> bool {
        self.held.values().all(|held| held.until.is_some_and(|until| until <= now))
    }
}

#[cfg(test)]
mod tests {
    use groundswell_scenario::Share;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn from(generation: u32, from: u64) -> Assignment {
        Assignment { generation, share: Share::whole(), from: s(from), until: None }
    }

    fn holdings() -> Holdings {
        let mut holdings = Holdings::default();
        assert!(holdings.give(from(1, 0)));
        holdings
    }

    #[test]
    fn what_is_given_again_changes_nothing() {
        let mut holdings = holdings();
        assert_eq!(holdings.end(1, s(10), None, s(5)), Answer::Released);
        assert!(!holdings.give(from(1, 0)));
        assert_eq!(holdings.assignments().next().and_then(|held| held.until), Some(s(10)));
        assert!(!holdings.is_over(s(9)) && holdings.is_over(s(10)));
    }

    #[test]
    fn an_end_that_is_ahead_is_taken_with_what_comes_instead() {
        let mut holdings = holdings();
        assert_eq!(holdings.end(1, s(10), Some(from(2, 10)), s(9)), Answer::Released);
        let held: Vec<_> = holdings.assignments().map(|held| (held.generation, held.until)).collect();
        assert_eq!(held, [(1, Some(s(10))), (2, None)]);
    }

    #[test]
    fn an_end_that_has_passed_is_refused_and_changes_nothing() {
        let mut holdings = holdings();
        for now in [10, 11] {
            assert_eq!(holdings.end(1, s(10), Some(from(2, 10)), s(now)), Answer::Refused);
        }
        assert_eq!(holdings.assignments().cloned().collect::<Vec<_>>(), [from(1, 0)]);
    }

    #[test]
    fn an_answer_stands() {
        let mut holdings = holdings();
        assert_eq!(holdings.end(1, s(10), None, s(10)), Answer::Refused);
        assert_eq!(holdings.end(1, s(10), None, s(9)), Answer::Refused, "asked again");
        assert_eq!(holdings.end(1, s(20), None, s(11)), Answer::Released);
        assert_eq!(holdings.end(1, s(20), None, s(25)), Answer::Released, "asked again, after it has ended");
        assert_eq!(holdings.end(1, s(30), None, s(11)), Answer::Refused, "it ends at 20");
        assert_eq!(holdings.end(7, s(30), Some(from(8, 30)), s(11)), Answer::Refused, "never given");
        assert!(holdings.give(from(7, 0)));
        assert_eq!(holdings.end(7, s(30), Some(from(8, 30)), s(11)), Answer::Refused, "the answer stands");
    }
}
