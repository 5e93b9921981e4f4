//! What the agents of the fleet say: figures that were made and packed beforehand, so that the generator costs little.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use groundswell_proto::v1;
use groundswell_stats::{Delta, Recorder};
use prost::Message;

use crate::samples::sample;

/// Series of a step: response time, service time, send lag, first byte, body.
pub(crate) const SERIES: u64 = 5;

/// The deltas of a run, by second and variant.
pub(crate) struct Script {
    seconds: Vec<Vec<Vec<u8>>>,
    pub(crate) steps: u32,
    /// Of a series in a second.
    pub(crate) samples: u64,
}

impl Script {
    /// Figures of so many seconds and steps, in so many variants a second, each with so many samples in every series. No
    /// two have the same samples: the totals fill their buckets as they would with a target.
    pub(crate) fn new(seconds: u64, steps: u32, samples: u64, variants: u64) -> anyhow::Result<Self> {
        let mut recorder = Recorder::new(steps as usize);
        let operations = samples * u64::from(steps);
        let mut made = 0;
        let mut delta = |second: u64| {
            for nth in made..made + operations {
                let sample = sample(nth, steps);
                recorder.scheduled(sample.step, 1);
                recorder.issued(sample.step);
                recorder.finished(&sample);
            }
            made += operations;
            let (from_us, to_us) = (second * 1_000_000, (second + 1) * 1_000_000);
            unfinished(&Delta { from_us, to_us, steps: recorder.seal(), ..Delta::default() })
        };
        let seconds = (0..seconds).map(|second| (0..variants).map(|_| delta(second)).collect());
        Ok(Script { seconds: seconds.collect::<anyhow::Result<_>>()?, steps, samples })
    }

    /// Length of the run.
    pub(crate) fn seconds(&self) -> u64 {
        self.seconds.len() as u64
    }

    /// The figures of an agent's nth second, from 0, with how far it has decided its assignment of that generation.
    pub(crate) fn figures(&self, agent: u64, second: u64, generation: u32) -> Vec<u8> {
        let variants = &self.seconds[second as usize];
        let cursor = v1::Cursor { scenario: 0, phase: 0, decided: (second + 1) * self.samples, generation };
        // Messages one after the other are one message (the encoding guide of Protocol Buffers, "Last One Wins").
        let own = v1::Figures { cursors: vec![cursor], ..v1::Figures::default() }.encode_to_vec();
        finished(&variants[(agent % variants.len() as u64) as usize], &own)
    }

    /// Bytes of a delta's figures, on average.
    pub(crate) fn mean_bytes(&self) -> f64 {
        let all = (0..self.seconds()).map(|second| self.figures(0, second, 0).len()).sum::<usize>();
        all as f64 / self.seconds() as f64
    }
}

/// Packed as agents do, but without an end, at a whole byte.
fn unfinished(delta: &Delta) -> anyhow::Result<Vec<u8>> {
    let health = v1::Health { cpu_permille: 300, clock_bound_us: 500, ..v1::Health::default() };
    let plain = v1::Figures { health: Some(health), ..v1::Figures::from(delta) }.encode_to_vec();
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&plain)?;
    encoder.flush()?;
    Ok(encoder.get_ref().clone())
}

/// With a last block, not compressed (RFC 1951, 3.2.4). `own` is a few bytes long.
fn finished(packed: &[u8], own: &[u8]) -> Vec<u8> {
    let length = (own.len() as u16).to_le_bytes();
    let complement = (!(own.len() as u16)).to_le_bytes();
    [packed, &[1], &length, &complement, own].concat()
}
