//! How many connections one address has that show no certificate: so many that nobody else gets in are none of a browser's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::attempts::network;

/// Most of them: a fleet of so many agents behind one address can still join at once.
const MOST: usize = 1_000;

/// Connections by address.
#[derive(Clone, Default)]
pub(super) struct Strangers {
    by_network: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The place of one connection, until it is dropped.
pub(super) struct Place {
    strangers: Strangers,
    network: IpAddr,
}

impl Strangers {
    /// A place for a connection from there; none if it has too many.
    pub(super) fn place_for(&self, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut all = self.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(network).or_default();
        if *taken >= MOST {
            return None;
        }
        *taken += 1;
        Some(Place { strangers: self.clone(), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.strangers.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.network) {
            *taken -= 1;
            if *taken == 0 {
                all.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_every_place() {
        let strangers = Strangers::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut places: Vec<Place> = (0..MOST).filter_map(|_| strangers.place_for(one)).collect();
        assert_eq!(places.len(), MOST);
        assert!(strangers.place_for(one).is_none());
        assert!(strangers.place_for(other).is_some());
        places.pop();
        assert!(strangers.place_for(one).is_some(), "a place that is left is free");
        places.clear();
        assert!(strangers.by_network.lock().is_ok_and(|all| all.is_empty()), "nothing is kept of who has gone");
    }
}
