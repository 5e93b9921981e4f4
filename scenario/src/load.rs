//! How much load, and when: the loads that a phase may have.

use std::time::Duration;

/// The load of one phase.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// Closed model: users that start the next iteration when the last has ended.
    Users {
        /// Users over time.
        curve: Curve,
    },
    /// Open model: iterations start on schedule, however slow the target is.
    Rate {
        /// Iterations a second over time.
        curve: Curve,
        /// How arrivals are spaced.
        arrivals: Arrivals,
        /// Most iterations at the same time over the whole cluster; what comes beyond waits.
        max_in_flight: u32,
        /// Most arrivals that wait over the whole cluster; what comes beyond is shed.
        queue: u32,
    },
    /// A fixed amount of work.
    Iterations {
        /// Iterations in all (for per-user loads: `users` times the number each).
        total: u64,
        /// How users divide them.
        sharing: Sharing,
        /// Users at work.
        users: u32,
        /// No iteration starts later than this after the phase's start; what is left is counted as not generated.
        limit: Duration,
    },
}

/// How users divide a fixed number of iterations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Each user takes the next one that its agent owns.
    Shared,
    /// Each user makes `total / users`.
    PerUser,
}

/// How arrivals of an open load are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrivals {
    /// Evenly: the k-th where the integral of the rate reaches k.
    #[default]
    Uniform,
    /// At random, as independent callers do: a Poisson process given its number of arrivals.
    Poisson,
}

/// A piecewise linear function of time that starts at the phase's start: users, or iterations a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Segments one after another; at least one, none of zero length.
    pub segments: Vec<Segment>,
}

/// One linear piece of a [`Curve`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// Value at its start.
    pub from: f64,
    /// Value at its end.
    pub to: f64,
    /// Its length, above zero.
    pub length: Duration,
}

impl Load {
    /// How long the load goes on; none where the work decides (iterations).
    pub fn length(&self) -> Option<Duration> {
        match self {
            Load::Users { curve } | Load::Rate { curve, .. } => Some(curve.length()),
            Load::Iterations { .. } => None,
        }
    }

    /// No iteration starts later than this after the phase's start.
    pub fn limit(&self) -> Duration {
        match self {
            Load::Users { curve } | Load::Rate { curve, .. } => curve.length(),
            Load::Iterations { limit, .. } => *limit,
        }
    }
}

impl Curve {
    /// The same value all along.
    pub fn constant(value: f64, length: Duration) -> Self {
        Curve { segments: vec![Segment { from: value, to: value, length }] }
    }

    /// Sum of the segments' lengths.
    pub fn length(&self) -> Duration {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// The greatest value.
    pub fn peak(&self) -> f64 {
        self.segments.iter().flat_map(|segment| [segment.from, segment.to]).fold(0.0, f64::max)
    }

    /// The value at an offset from the start; zero after the end.
    pub fn at(&self, offset: Duration) -> f64 {
        let mut start = Duration::ZERO;
        for segment in &self.segments {
            if offset < start + segment.length {
                let part = (offset - start).as_secs_f64() / segment.length.as_secs_f64();
                return segment.from + (segment.to - segment.from) * part;
            }
            start += segment.length;
        }
        0.0
    }
}
