//! From ordinal to intended offset: when each operation of a phase is due, and which users are at work when.
//!
//! Pure functions of the plan: every agent computes the same ones, and its [`Share`](crate::Share) says which ordinals
//! are its own. So no agent needs to be told when to send anything.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Beta, Distribution};

use crate::load::{Arrivals, Curve, Segment};

const NS_PER_S: u64 = 1_000_000_000;

/// Arrivals of an open load: S(k), the intended offset of operation k from the phase's start.
///
/// With uniform arrivals, operation k is due where the integral of the rate passes k: at a constant rate R at k/R. With
/// Poisson arrivals their number is the integral, rounded, and given this number they are independent of each other.
/// Either way S(k) never decreases and is computed without the operations before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    total: u64,
    spacing: Spacing,
}

#[derive(Debug, Clone, PartialEq)]
enum Spacing {
    /// One constant rate of `operations` in `ns`: whole numbers, without a rounding error at any k.
    Constant { operations: u128, ns: u128 },
    /// Where the integral of the rate passes k.
    Integral(Integral),
    /// Sorted uniform variates over the integral of the rate.
    Poisson { integral: Integral, seed: u64, stream: u32 },
}

impl Schedule {
    /// The schedule of a rate (operations a second). `seed` is the plan's, `stream` tells this phase from the others.
    pub fn new(rate: &Curve, arrivals: Arrivals, seed: u64, stream: u32) -> Self {
        match arrivals {
            Arrivals::Uniform => Schedule::constant(rate).unwrap_or_else(|| {
                let integral = Integral::of(rate);
                // Those k below the integral; a float beyond 64 bits becomes the greatest u64.
                Schedule { total: integral.whole.ceil() as u64, spacing: Spacing::Integral(integral) }
            }),
            Arrivals::Poisson => {
                let integral = Integral::of(rate);
                let total = integral.whole.round() as u64;
                Schedule { total, spacing: Spacing::Poisson { integral, seed, stream } }
            }
        }
    }

    /// Number of arrivals.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When arrival `k` (from 0) is due, from the phase's start; none from [`Schedule::total`] on.
    pub fn offset(&self, k: u64) -> Option<Duration> {
        if k >= self.total {
            return None;
        }
        Some(match &self.spacing {
            // In range: operation k is due before the end of a length that is a Duration.
            Spacing::Constant { operations, ns } => duration_of_ns(u128::from(k) * ns / operations),
            Spacing::Integral(integral) => integral.inverse(k as f64),
            Spacing::Poisson { integral, seed, stream } => {
                integral.inverse(order_statistic(k, self.total, integral.whole, *seed, *stream))
            }
        })
    }

    /// How many arrivals are due before an offset from the phase's start.
    pub fn count_before(&self, offset: Duration) -> u64 {
        let (mut low, mut high) = (0, self.total);
        while low < high {
            let middle = low + (high - low) / 2;
            // Offsets never decrease.
            match self.offset(middle) {
                Some(due) if due < offset => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// One rate all along that is a whole number a second, a minute or an hour, as nearly every rate is.
    fn constant(rate: &Curve) -> Option<Self> {
        let [Segment { from, to, length }] = rate.segments.as_slice() else { return None };
        if from != to || *from <= 0.0 {
            return None;
        }
        let (operations, seconds) = [1_u64, 60, 3600].into_iter().find_map(|seconds| {
            let operations = (from * seconds as f64).round();
            // The parser's division, back and forth, is off by one place at most.
            let whole = (operations / seconds as f64 - from).abs() <= from * f64::EPSILON;
            (whole && (1.0..1e15).contains(&operations)).then_some((operations as u128, seconds))
        })?;
        let ns = u128::from(seconds * NS_PER_S);
        // k × ns / operations < length for those k below length × operations / ns.
        let total = length.as_nanos().checked_mul(operations)?.div_ceil(ns);
        Some(Schedule { total: u64::try_from(total).ok()?, spacing: Spacing::Constant { operations, ns } })
    }
}

/// The integral of a curve, from 0 at its start, with its inverse.
#[derive(Debug, Clone, PartialEq)]
struct Integral {
    pieces: Vec<Piece>,
    whole: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    start: Duration,
    segment: Segment,
    /// The integral up to its start.
    before: f64,
}

impl Integral {
    fn of(curve: &Curve) -> Self {
        let (mut start, mut whole) = (Duration::ZERO, 0.0);
        let mut pieces = Vec::with_capacity(curve.segments.len());
        for segment in &curve.segments {
            pieces.push(Piece { start, segment: *segment, before: whole });
            start = start.saturating_add(segment.length);
            let sum = whole + f64::midpoint(segment.from, segment.to) * segment.length.as_secs_f64();
            // More than 64 bits of operations can't be numbered, and an infinite sum can't be parted.
            whole = snap(sum).min(u64::MAX as f64);
        }
        Integral { pieces, whole }
    }

    /// Where the integral passes `y`. Where it stays at `y` for a while (a rate of 0), that is at the end of this time:
    /// whoever asks for no load at first gets none.
    fn inverse(&self, y: f64) -> Duration {
        let piece = self.pieces.partition_point(|piece| piece.before <= y).saturating_sub(1);
        self.pieces
            .get(piece)
            .map_or(Duration::ZERO, |piece| piece.start.saturating_add(piece.inverse(y - piece.before)))
    }
}

impl Piece {
    /// Time from its start until its own integral is `y`: the root of `slope/2 t² + from t = y`, in the form that does not
    /// subtract near equals.
    fn inverse(&self, y: f64) -> Duration {
        let Segment { from, to, length } = self.segment;
        let seconds = length.as_secs_f64();
        let slope = (to - from) / seconds;
        // Where the rate rises, both sides of the fraction grow with y, and rounding could swap the times of two y that
        // are equal but for the last places. Without those places there are no such two.
        let y = f64::from_bits(y.max(0.0).to_bits() & !0x3f);
        let root = (from * from + 2.0 * slope * y).max(0.0).sqrt();
        let time = if y > 0.0 { 2.0 * y / (from + root) } else { 0.0 };
        // No NaN (0/0 was excluded); infinite where the rate is 0, then the end.
        Duration::try_from_secs_f64(time).unwrap_or(length).min(length)
    }
}

/// A sum of rates × times that is a whole number but for the rounding of floats is this number.
fn snap(sum: f64) -> f64 {
    let nearest = sum.round();
    if (sum - nearest).abs() <= 1e-9 + sum * 1e-14 { nearest } else { sum }
}

/// The `k`-th of `n` sorted independent uniform variates over 0 to `whole`, without drawing the others.
///
/// The i-th least of m uniform variates over an interval is distributed as Beta(i, m + 1 - i) over it, and given it those
/// on either side are again independent and uniform (Devroye, Non-Uniform Random Variate Generation, 1986, V.3). So the
/// middle one is drawn, then the middle one of the half that holds k, and so on; what each draw gives depends only on the
/// seed and on the part that it halves.
fn order_statistic(k: u64, n: u64, whole: f64, seed: u64, stream: u32) -> f64 {
    let (mut low, mut high) = (0, n);
    let (mut least, mut most) = (0.0, whole);
    loop {
        let middle = low + (high - low) / 2;
        let part = draw_beta((middle - low + 1) as f64, (high - middle) as f64, [seed, u64::from(stream), low, high]);
        let value = (least + (most - least) * part).clamp(least, most);
        match k.cmp(&middle) {
            std::cmp::Ordering::Equal => return value,
            std::cmp::Ordering::Less => (high, most) = (middle, value),
            std::cmp::Ordering::Greater => (low, least) = (middle + 1, value),
        }
    }
}

fn draw_beta(alpha: f64, beta: f64, key: [u64; 4]) -> f64 {
    let mut bytes = [0; 32];
    for (place, word) in bytes.chunks_exact_mut(8).zip(key) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    // Both parameters are at least 1, so there is a distribution; its middle would be the next best thing.
    Beta::new(alpha, beta).map_or(0.5, |beta| beta.sample(&mut ChaCha8Rng::from_seed(bytes)))
}

fn duration_of_ns(ns: u128) -> Duration {
    let ns_per_s = u128::from(NS_PER_S);
    // A remainder of a division by 10^9 fits.
    Duration::new(u64::try_from(ns / ns_per_s).unwrap_or(u64::MAX), (ns % ns_per_s) as u32)
}

/// Users of a closed load: who is at work when.
///
/// User j (from 0) is at work while the curve is above j: a constant curve of N has users 0 to N-1 all along, and in a
/// ramp from 0 the first one starts at once and user j when the curve passes j.
#[derive(Debug, Clone, PartialEq)]
pub struct Attendance {
    curve: Curve,
}

impl Attendance {
    /// The attendance of a curve of users.
    pub fn new(users: &Curve) -> Self {
        Attendance { curve: users.clone() }
    }

    /// Users in all: those at work at the peak.
    pub fn users(&self) -> u32 {
        snap(self.curve.peak()).ceil() as u32
    }

    /// When a user is at work, as offsets (from, to) from the phase's start: ascending, apart from each other, none empty.
    pub fn intervals(&self, user: u32) -> Vec<(Duration, Duration)> {
        let mut intervals: Vec<(Duration, Duration)> = Vec::new();
        let mut start = Duration::ZERO;
        for segment in &self.curve.segments {
            if let Some((from, to)) = above(segment, f64::from(user)) {
                let (from, to) = (start.saturating_add(from), start.saturating_add(to));
                match intervals.last_mut() {
                    Some(last) if last.1 == from => last.1 = to,
                    _ => intervals.push((from, to)),
                }
            }
            start = start.saturating_add(segment.length);
        }
        intervals
    }
}

/// Where in a segment its value is above a level.
fn above(segment: &Segment, level: f64) -> Option<(Duration, Duration)> {
    let Segment { from, to, length } = *segment;
    // Only asked for where the level lies between the two ends.
    let crossing = || {
        let part = (level - from) / (to - from);
        Duration::try_from_secs_f64(length.as_secs_f64() * part).unwrap_or(length).min(length)
    };
    let interval = match (from > level, to > level) {
        (true, true) => (Duration::ZERO, length),
        (true, false) => (Duration::ZERO, crossing()),
        (false, true) => (crossing(), length),
        (false, false) => return None,
    };
    (interval.0 < interval.1).then_some(interval)
}

#[cfg(test)]
mod tests;
