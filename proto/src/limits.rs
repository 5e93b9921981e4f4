//! Protocol version and the limits of what either side accepts.

use std::time::Duration;

/// Version of the protocol and of the plan language. Both sides must speak the same one: a plan travels as its source,
/// so an agent of another version could read another meaning into it.
pub const PROTOCOL: u32 = 5;

/// Largest message that carries a plan (plan text up to 1 MiB, data files up to 32 MiB in all).
pub const MAX_PLAN_MESSAGE_BYTES: usize = 40 << 20;

/// Largest message of an agent. A delta of 1,000 steps with four series of 2 KiB each fits.
pub const MAX_AGENT_MESSAGE_BYTES: usize = 8 << 20;

/// Most that the figures of a delta may hold when they are unpacked.
pub const MAX_FIGURES_BYTES: usize = 16 << 20;

/// Longest text that is taken from an agent, such as why it can't take part, in bytes; what is longer is cut off.
pub const MAX_TEXT_BYTES: usize = 4 << 10;

/// Most rooms in one delta.
pub const MAX_ROOMS: usize = 10_000;

/// A session without a Hello after this long is closed.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// Messages that wait for one slow reader before its session is given up.
pub const SESSION_QUEUE: usize = 64;

/// How often an agent probes the coordinator's clock, which is its heartbeat too.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// An agent without a run whose session is away for this long is forgotten.
pub const AWAY_LIMIT: Duration = Duration::from_secs(10);

/// Most runs that an agent may hold something of.
pub const MAX_HELD: usize = 64;

/// Most labels of an agent.
pub const MAX_LABELS: usize = 64;

/// Longest name of an agent, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
