//! The figures of a delta as bytes: protobuf, then raw DEFLATE. The series of one step have
//! nearly the same buckets, so little is left of them (docs/performance.md), and the coordinator keeps the bytes as they
//! came.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use prost::Message;

use crate::limits::MAX_FIGURES_BYTES;
use crate::{WireError, v1};

impl v1::Delta {
    /// A delta with its hash.
    #[must_use]
    pub fn new(run_id: String, incarnation: u64, seq: u64, figures: prost::bytes::Bytes) -> Self {
        let hash = hash(&run_id, incarnation, seq, &figures).to_vec();
        v1::Delta { run_id, incarnation, seq, figures, hash }
    }

    /// Its hash, if it is that of its content.
    ///
    /// # Errors
    /// When it is not what was sent.
    pub fn checked_hash(&self) -> Result<[u8; 16], WireError> {
        let hash = hash(&self.run_id, self.incarnation, self.seq, &self.figures);
        if self.hash == hash { Ok(hash) } else { Err(WireError::Corrupted { seq: self.seq }) }
    }
}

/// Every part has its length, so that no two contents are the same bytes.
fn hash(run_id: &str, incarnation: u64, seq: u64, figures: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(run_id.len() as u64).to_le_bytes()).update(run_id.as_bytes());
    hasher.update(&incarnation.to_le_bytes()).update(&seq.to_le_bytes()).update(figures);
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

impl v1::Figures {
    /// The bytes of `Delta.figures`.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let plain = self.encode_to_vec();
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::fast());
        // A vector takes every byte.
        let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
        written.unwrap_or_default()
    }

    /// What [`v1::Figures::pack`] made.
    ///
    /// # Errors
    /// When the bytes are not DEFLATE, hold more than [`MAX_FIGURES_BYTES`], or are no such message.
    pub fn unpack(packed: &[u8]) -> Result<Self, WireError> {
        let mut plain = Vec::new();
        let limit = MAX_FIGURES_BYTES as u64 + 1;
        let read = DeflateDecoder::new(packed).take(limit).read_to_end(&mut plain);
        read.map_err(|error| WireError::Packed(error.to_string()))?;
        if plain.len() > MAX_FIGURES_BYTES {
            return Err(WireError::Packed(format!("they hold more than {MAX_FIGURES_BYTES} bytes")));
        }
        v1::Figures::decode(&plain[..]).map_err(|error| WireError::Packed(error.to_string()))
    }
}
