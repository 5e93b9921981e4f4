//! A checksum for each row. SQLite's pages have none, so a byte that a disk flips inside a value would be read back as
//! if it had been written.

use blake3::Hasher;

/// A value of a row.
pub(super) enum Part<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Nothing,
}

impl From<i64> for Part<'_> {
    fn from(value: i64) -> Self {
        Part::Int(value)
    }
}

impl<'a> From<&'a str> for Part<'a> {
    fn from(value: &'a str) -> Self {
        Part::Bytes(value.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Part<'a> {
    fn from(value: &'a [u8]) -> Self {
        Part::Bytes(value)
    }
}

impl<'a, T: Into<Part<'a>>> From<Option<T>> for Part<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Part::Nothing, Into::into)
    }
}

/// The first eight bytes of BLAKE3 over all of them, each with its kind and length before it, so that no two rows share
/// their input. Against accidents, not against people: who can write the database can write checksums.
pub(super) fn checksum(parts: &[Part<'_>]) -> i64 {
    let mut hasher = Hasher::new();
    for part in parts {
        match part {
            Part::Int(value) => hasher.update(b"i").update(&value.to_le_bytes()),
            Part::Bytes(bytes) => hasher.update(b"b").update(&(bytes.len() as u64).to_le_bytes()).update(bytes),
            Part::Nothing => hasher.update(b"n"),
        };
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    i64::from_le_bytes(first)
}
