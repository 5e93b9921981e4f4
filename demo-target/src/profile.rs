//! The latency of each route.
//!
//! | route | median | 99th percentile, about |
//! |---|---|---|
//! | `/api/graph/stats` | 4 ms | 11 ms |
//! | `/api/graph/nodes` | 8 ms | 23 ms |
//! | `/api/graph/traverse/{id}` | 12 ms | 34 ms |
//! | `/api/graph/categories/{name}` | 60 ms | 170 ms |
//!
//! Log-normal, as service times of real servers nearly are, with one request in a hundred three times as slow.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

/// Spread of the logarithm of the service time.
const SIGMA: f64 = 0.4;
/// Part of the requests that are slow, and how much slower they are.
const SLOW: (f64, f64) = (0.01, 3.0);

/// A route with a latency of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/api/graph/stats`
    Stats,
    /// `/api/graph/nodes`
    Nodes,
    /// `/api/graph/traverse/{id}`
    Traverse,
    /// `/api/graph/categories/{name}`
    Categories,
}

impl Route {
    fn median(self) -> f64 {
        match self {
            Route::Stats => 0.004,
            Route::Nodes => 0.008,
            Route::Traverse => 0.012,
            Route::Categories => 0.060,
        }
    }
}

/// Time that the n-th request takes to work on. The same arguments always give the same time.
pub fn service_time(seed: u64, route: Route, n: u64, scale: f64) -> Duration {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(route as u64);
    // Blocks are counted, so each request has numbers of its own without those of the requests before it.
    generator.set_word_pos(u128::from(n) * 16);
    let Ok(distribution) = LogNormal::new(route.median().ln(), SIGMA) else { return Duration::ZERO };
    let slow = if generator.random_bool(SLOW.0) { SLOW.1 } else { 1.0 };
    Duration::try_from_secs_f64(distribution.sample(&mut generator) * slow * scale).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_latencies() {
        let times = |seed| (0..100).map(|n| service_time(seed, Route::Nodes, n, 1.0)).collect::<Vec<_>>();
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
        assert_ne!(service_time(1, Route::Stats, 5, 1.0), service_time(1, Route::Nodes, 5, 1.0));
    }

    #[test]
    fn the_profile_is_what_its_table_says() {
        for (route, median, p99) in [(Route::Stats, 4.0, 11.0), (Route::Categories, 60.0, 170.0)] {
            let mut times: Vec<f64> = (0..20_000).map(|n| service_time(7, route, n, 1.0).as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            let near = |value: f64, wanted: f64| (value - wanted).abs() < wanted * 0.15;
            assert!(near(times[10_000], median), "median {}", times[10_000]);
            assert!(near(times[19_800], p99), "p99 {}", times[19_800]);
        }
    }

    #[test]
    fn without_scale_it_answers_at_once() {
        assert_eq!(service_time(1, Route::Stats, 0, 0.0), Duration::ZERO);
    }
}
