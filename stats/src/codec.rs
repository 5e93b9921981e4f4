//! Bucket counts on the wire: HdrHistogram's V2 encoding, not compressed.
//!
//! Format (`encodeIntoByteBuffer` of `AbstractHistogram`, github.com/HdrHistogram/HdrHistogram): a header of 40 bytes,
//! big-endian (cookie, payload length, normalizing index offset, digits, lowest and highest value, conversion ratio), then
//! the counts of all bins from the first as zig-zag LEB128 numbers of at most 9 bytes; a negative number is a run of so
//! many empty bins.
//!
//! The bytes of an agent are not to be trusted, and the crate trusts them: it allocates what the header asks for and lets
//! counts saturate. [`decode`] therefore walks them itself and takes nothing that does not fit the figures beside them.

use crate::{Buckets, Layout, Series};

/// First four bytes: V2, not compressed, counts as variable-length numbers (`V2EncodingCookieBase | 0x10`).
const COOKIE: u32 = 0x1c84_9303 | 0x10;
const HEADER_BYTES: usize = 40;
/// Longest number: eight groups of 7 bits, then one of 8.
const NUMBER_BYTES: usize = 9;

/// The exact figures that stand beside the bytes of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Declared {
    /// Number of values.
    pub count: u64,
    /// Sum in microseconds.
    pub sum_us: u64,
    /// Least value in microseconds.
    pub min_us: u64,
    /// Greatest value in microseconds.
    pub max_us: u64,
    /// Values above the layout's range.
    pub clamped: u64,
}

/// Why the bytes of a series are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSeries {
    /// Shorter than a header.
    #[error("histogram has {bytes} bytes; its header alone has {HEADER_BYTES}")]
    NoHeader {
        /// Its length.
        bytes: usize,
    },
    /// A field of the header is not what the run's layout demands.
    #[error("histogram header: {field} is {value:#x}, not {expected:#x}")]
    Header {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What the run's layout demands.
        expected: u64,
    },
    /// The bytes end within a number.
    #[error("histogram payload ends within the number that starts at byte {at}")]
    CutOff {
        /// Offset in the payload.
        at: usize,
    },
    /// A count or a run of empty bins past the last bin.
    #[error("histogram payload reaches bin {bin}; the layout has {bins}")]
    PastTheEnd {
        /// The bin; at most `u64::MAX`.
        bin: u64,
        /// Bins of the layout.
        bins: usize,
    },
    /// The counts are not as many as declared.
    #[error("histogram counts add up to {counted}, not to the declared count {declared}")]
    Count {
        /// Their sum; it may exceed 64 bits.
        counted: u128,
        /// The declared count.
        declared: u64,
    },
    /// A declared figure that can't belong to these counts.
    #[error("{field} is {value}; the histogram allows {least} to {most}")]
    Figure {
        /// The figure.
        field: &'static str,
        /// What was declared.
        value: u64,
        /// Least value that the counts allow.
        least: u128,
        /// Greatest value that the counts allow.
        most: u128,
    },
}

impl From<&Series> for Declared {
    fn from(series: &Series) -> Self {
        let Series { count, sum_us, min_us, max_us, clamped, .. } = *series;
        Declared { count, sum_us, min_us, max_us, clamped }
    }
}

/// The V2 bytes of these counts, the same that the crate's serializer writes.
pub fn encode(buckets: &Buckets) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + buckets.iter().size_hint().0 * 3);
    for (_, field) in header(0) {
        bytes.extend(field.to_bytes());
    }
    let mut next = 0;
    for (index, count) in buckets.iter() {
        match index - next {
            0 => {}
            // One empty bin is a count of zero, not a run: so do all implementations.
            1 => write_number(&mut bytes, 0),
            empty => write_number(&mut bytes, -i64::from(empty)),
        }
        // Counts come from 63 bits on the wire or from memory, one by one; what is above could not be told from a run.
        write_number(&mut bytes, i64::try_from(count).unwrap_or(i64::MAX));
        next = index + 1;
    }
    if next == 0 {
        write_number(&mut bytes, 0);
    }
    let payload = u32::try_from(bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    bytes[4..8].copy_from_slice(&payload.to_be_bytes());
    bytes
}

/// The series that these bytes and the figures beside them tell of. Takes time and memory in proportion to the number of
/// bytes.
pub fn decode(bytes: &[u8], declared: &Declared) -> Result<Series, InvalidSeries> {
    let payload = check_header(bytes)?;
    let (counts, counted) = walk(payload)?;
    if counted != u128::from(declared.count) {
        return Err(InvalidSeries::Count { counted, declared: declared.count });
    }
    check_figures(&counts, declared)?;
    let Declared { count, sum_us, min_us, max_us, clamped } = *declared;
    Ok(Series { buckets: Buckets::from_sorted(counts), count, sum_us, min_us, max_us, clamped })
}

/// A field of the header: its width follows from the type.
#[derive(Clone, Copy)]
enum Field {
    Short(u32),
    Long(u64),
}

impl Field {
    fn value(self) -> u64 {
        match self {
            Field::Short(value) => u64::from(value),
            Field::Long(value) => value,
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        match self {
            Field::Short(value) => value.to_be_bytes().to_vec(),
            Field::Long(value) => value.to_be_bytes().to_vec(),
        }
    }
}

/// The header of a payload of so many bytes.
fn header(payload: u32) -> [(&'static str, Field); 7] {
    let layout = Layout::STANDARD;
    [
        ("cookie", Field::Short(COOKIE)),
        ("payload length", Field::Short(payload)),
        ("normalizing index offset", Field::Short(0)),
        ("significant digits", Field::Short(u32::from(layout.digits))),
        ("lowest value", Field::Long(layout.low_us)),
        ("highest value", Field::Long(layout.high_us)),
        ("conversion ratio", Field::Long(1.0_f64.to_bits())),
    ]
}

/// The payload behind a header that is exactly the run's.
fn check_header(bytes: &[u8]) -> Result<&[u8], InvalidSeries> {
    let Some((mut rest, payload)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(InvalidSeries::NoHeader { bytes: bytes.len() });
    };
    // A payload that does not fit the field equals no value of it that its bytes could be accepted with: it would be
    // 4 GiB of numbers, far past the last bin.
    for (field, expected) in header(u32::try_from(payload.len()).unwrap_or(u32::MAX)) {
        let (read, behind) = rest.split_at(expected.to_bytes().len());
        let value = read.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if value != expected.value() {
            return Err(InvalidSeries::Header { field, value, expected: expected.value() });
        }
        rest = behind;
    }
    Ok(payload)
}

/// The counts of a payload with their sum.
fn walk(payload: &[u8]) -> Result<(Vec<(u32, u64)>, u128), InvalidSeries> {
    let bins = Layout::STANDARD.bins();
    let past_the_end = |bin: u64| InvalidSeries::PastTheEnd { bin, bins };
    // A bin that holds something takes a byte, and mostly there is another one for what is empty before it.
    let mut counts = Vec::with_capacity((payload.len() / 2 + 1).min(bins));
    let mut counted = 0_u128;
    let (mut at, mut bin) = (0, 0_u64);
    while at < payload.len() {
        let (number, length) = read_number(&payload[at..]).ok_or(InvalidSeries::CutOff { at })?;
        at += length;
        if number < 0 {
            bin = bin.saturating_add(number.unsigned_abs());
            if bin > bins as u64 {
                return Err(past_the_end(bin));
            }
            continue;
        }
        if bin >= bins as u64 {
            return Err(past_the_end(bin));
        }
        if number > 0 {
            let (index, count) = (u32::try_from(bin).map_err(|_| past_the_end(bin))?, number.unsigned_abs());
            // At most `bins` counts of 63 bits: no overflow in 128.
            counted += u128::from(count);
            counts.push((index, count));
        }
        bin += 1;
    }
    Ok((counts, counted))
}

/// Are the declared figures those of some set of values with these counts?
fn check_figures(counts: &[(u32, u64)], declared: &Declared) -> Result<(), InvalidSeries> {
    let layout = Layout::STANDARD;
    let within = |field, value: u64, least: u128, most: u128| {
        let fits = (least..=most).contains(&u128::from(value));
        if fits { Ok(()) } else { Err(InvalidSeries::Figure { field, value, least, most }) }
    };
    let (Some(&(first, _)), Some(&(last, last_count))) = (counts.first(), counts.last()) else {
        let figures = [
            ("sum", declared.sum_us),
            ("min", declared.min_us),
            ("max", declared.max_us),
            ("clamped", declared.clamped),
        ];
        return figures.into_iter().try_for_each(|(field, value)| within(field, value, 0, 0));
    };
    // The bin of the range's end holds whatever is above it; there is nothing in the bins behind it, if there are any.
    let end = layout.index_of(layout.high_us);
    if last > end {
        return Err(InvalidSeries::PastTheEnd { bin: u64::from(last), bins: end as usize + 1 });
    }
    let least_of = |index: u32| layout.lowest_of(index);
    let most_of = |index: u32| if index == end { u64::MAX } else { layout.highest_of(index) };
    within("max", declared.max_us, least_of(last).into(), most_of(last).into())?;
    within("min", declared.min_us, least_of(first).into(), most_of(first).min(declared.max_us).into())?;
    let above = |value: u64| value > layout.high_us;
    let (least_clamped, most_clamped) = match (above(declared.min_us), above(declared.max_us)) {
        (_, false) => (0, 0),
        (false, true) => (1, if first == last { last_count - 1 } else { last_count }),
        (true, true) => (last_count, last_count),
    };
    within("clamped", declared.clamped, u128::from(least_clamped), u128::from(most_clamped))?;
    let (least, most) = sum_bounds(counts, declared, least_of, most_of);
    within("sum", declared.sum_us, least, most)
}

/// One value is the least, one the greatest; each of the others lies in its bin and between the two.
fn sum_bounds(
    counts: &[(u32, u64)],
    declared: &Declared,
    least_of: impl Fn(u32) -> u64,
    most_of: impl Fn(u32) -> u64,
) -> (u128, u128) {
    let (min, max) = (declared.min_us, declared.max_us);
    let ends = u128::from(min) + u128::from(max);
    if declared.count == 1 {
        // The one value is both.
        return if min == max { (min.into(), max.into()) } else { (1, 0) };
    }
    let (mut least, mut most) = (ends, ends);
    for (position, &(index, count)) in counts.iter().enumerate() {
        let others = count - u64::from(position == 0) - u64::from(position + 1 == counts.len());
        // A number of values that fits 64 bits, each of 64 bits: it all stays below 2^128.
        least += u128::from(others) * u128::from(least_of(index).max(min));
        most += u128::from(others) * u128::from(most_of(index).min(max));
    }
    (least, most)
}

/// Zig-zag (0, -1, 1, -2 … become 0, 1, 2, 3 …), then 7 bits a byte, the lowest first; a ninth byte counts in full.
fn write_number(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    for _ in 1..NUMBER_BYTES {
        let group = rest.to_le_bytes()[0] & 0x7f;
        rest >>= 7;
        if rest == 0 {
            bytes.push(group);
            return;
        }
        bytes.push(group | 0x80);
    }
    bytes.push(rest.to_le_bytes()[0]);
}

/// The number at the start of these bytes with its length; none where they end within it.
#[inline]
fn read_number(bytes: &[u8]) -> Option<(i64, usize)> {
    // Most are one byte.
    if let Some(byte) = bytes.first().filter(|byte| **byte & 0x80 == 0) {
        return Some((i64::from(byte >> 1) ^ -i64::from(byte & 1), 1));
    }
    let mut value = 0_u64;
    for (position, byte) in bytes.iter().take(NUMBER_BYTES).enumerate() {
        let full = position + 1 == NUMBER_BYTES;
        value |= u64::from(if full { *byte } else { byte & 0x7f }) << (7 * position);
        if full || byte & 0x80 == 0 {
            let number = (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
            return Some((number, position + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests;
