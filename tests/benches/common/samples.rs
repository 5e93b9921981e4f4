//! Samples that look like those of a target.

use groundswell_stats::{Outcome, Phases, Sample, StepId};

/// The nth operation of a flow of so many steps. Log-normal response times with a median of 5 ms and a p99 of 16 ms, by
/// the method of Box and Muller from a hash of the ordinal.
pub(crate) fn sample(nth: u64, steps: u32) -> Sample {
    let uniform = |salt: u64| (mixed(nth * 2 + salt) >> 11) as f64 / (1_u64 << 53) as f64;
    let normal = (-2.0 * (1.0 - uniform(0)).ln()).sqrt() * (std::f64::consts::TAU * uniform(1)).cos();
    let service_us = (5_000.0 * (0.5 * normal).exp()) as u64;
    Sample {
        step: StepId((nth % u64::from(steps)) as u32),
        response_us: service_us + 20,
        service_us,
        send_lag_us: 20 + nth % 50,
        phases: Phases { first_byte_us: Some(service_us), body_us: Some(nth % 9), ..Phases::default() },
        outcome: Outcome::Ok,
        follow_ups: 0,
        bytes_sent: 0,
        bytes_received: 2,
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
