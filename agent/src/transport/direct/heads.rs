//! Maps of headers that go round: the library takes that of a request for its own, and makes that of the response of it
//! (HTTP/1.1) or a new one (HTTP/2). Either serves the next request, so that a request allocates none.

use std::cell::RefCell;

use http::HeaderMap;

/// Most maps that are kept: as many as are likely to come back before the next request wants one.
const MOST_KEPT: usize = 256;
/// Most headers that a kept map has room for: what one target answers must not become the size of them all.
const MOST_HEADERS: usize = 64;

/// The maps of one worker that are free, all of them empty.
#[derive(Debug, Default)]
pub(super) struct Heads {
    free: RefCell<Vec<HeaderMap>>,
}

impl Heads {
    /// A copy, in a free map where there is one.
    pub(super) fn copy_of(&self, headers: &HeaderMap) -> HeaderMap {
        let Some(mut copy) = self.free.borrow_mut().pop() else { return headers.clone() };
        for (name, value) in headers {
            copy.append(name.clone(), value.clone());
        }
        copy
    }

    /// Takes a map that nobody needs any more.
    pub(super) fn take_back(&self, mut headers: HeaderMap) {
        let mut free = self.free.borrow_mut();
        // Room for further values of one name is no part of the capacity.
        if free.len() < MOST_KEPT && headers.len().max(headers.capacity()) <= MOST_HEADERS {
            headers.clear();
            free.push(headers);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, HOST, HeaderValue, SET_COOKIE, VIA};

    use super::*;

    #[test]
    fn a_copy_has_what_was_asked_for_and_nothing_of_what_was_before() {
        let heads = Heads::default();
        let mut wanted = HeaderMap::new();
        for (name, value) in [(ACCEPT, "*/*"), (VIA, "a"), (HOST, "x"), (VIA, "b")] {
            wanted.append(name, HeaderValue::from_static(value));
        }
        let mut earlier = HeaderMap::new();
        for _ in 0..3 {
            earlier.append(SET_COOKIE, HeaderValue::from_static("a=b"));
        }
        heads.take_back(earlier);
        for _ in 0..2 {
            let copy = heads.copy_of(&wanted);
            assert_eq!(copy, wanted);
            assert_eq!(copy.get_all(VIA).iter().collect::<Vec<_>>(), ["a", "b"]);
            heads.take_back(copy);
        }
    }

    /// Neither many headers nor many values of one make every kept map large.
    #[test]
    fn a_large_map_is_not_kept() {
        let heads = Heads::default();
        heads.take_back(HeaderMap::with_capacity(MOST_HEADERS + 1));
        let mut values = HeaderMap::new();
        for _ in 0..=MOST_HEADERS {
            values.append(SET_COOKIE, HeaderValue::from_static("a=b"));
        }
        heads.take_back(values);
        assert!(heads.free.borrow().is_empty());
        for _ in 0..=MOST_KEPT {
            heads.take_back(HeaderMap::new());
        }
        assert_eq!(heads.free.borrow().len(), MOST_KEPT);
    }
}
