//! What was used last, and no more of it than that: a target may lead to ever new origins.

use std::rc::Rc;

/// Origins that one owner of connections keeps something of.
const MOST: usize = 100;

/// The items that were used last, the last one first. An owner has few of them, so looking through a list is faster than
/// hashing.
#[derive(Debug)]
pub(super) struct Recent<T> {
    items: Vec<Rc<T>>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Recent { items: Vec::new() }
    }
}

impl<T> Recent<T> {
    /// The item that is meant, if it is there.
    pub(super) fn find(&mut self, is_meant: impl Fn(&T) -> bool) -> Option<Rc<T>> {
        let at = self.items.iter().position(|item| is_meant(item))?;
        self.items[..=at].rotate_right(1);
        self.items.first().map(Rc::clone)
    }

    /// Adds an item; the one goes that was used longest ago, unless somebody is using it.
    pub(super) fn add(&mut self, item: T) -> Rc<T> {
        let item = Rc::new(item);
        self.items.insert(0, Rc::clone(&item));
        while self.items.len() > MOST
            && let Some(unused) = self.items.iter().rposition(|item| Rc::strong_count(item) == 1)
        {
            self.items.remove(unused);
        }
        item
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::transport) const MOST_KEPT: usize = MOST;

    impl<T> Recent<T> {
        pub(in crate::transport) fn len(&self) -> usize {
            self.items.len()
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut recent = Recent::default();
        let held = recent.add(0);
        for number in 1..=MOST {
            assert_eq!(recent.find(|item| *item == 1).is_some(), number > 1);
            recent.add(number);
        }
        let has = |recent: &mut Recent<usize>, number| recent.find(|item| *item == number).is_some();
        assert!(has(&mut recent, 1) && !has(&mut recent, 2) && has(&mut recent, 3));
        assert!(Rc::ptr_eq(&held, &recent.find(|item| *item == 0).unwrap_or_default()), "it is used");
        assert_eq!(recent.len(), MOST);
        drop(held);
        (1_000..1_000 + MOST).for_each(|number| drop(recent.add(number)));
        assert!(!has(&mut recent, 0) && recent.len() == MOST);
    }
}
