//! Content codings of responses (RFC 9110, section 8.4), undone for expectations and captures.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::Failure;

/// Codings upon each other; more is a mistake or an attack.
const MOST_CODINGS: usize = 3;
/// zlib's compression method in the low bits of the first byte (RFC 1950, section 2.2).
const ZLIB_DEFLATE: u8 = 8;
/// Largest window of a zstd frame (RFC 9659, section 3). The library takes any and keeps that much beside what it has
/// given, so a limit of the output alone would not hold its memory.
const MOST_ZSTD_WINDOW: u64 = 8 << 20;
/// Low bits of a brotli stream that asks for a window of up to 1 GiB: those of RFC 7932, section 9.1, have none with them,
/// but the library takes it.
const LARGE_BROTLI_WINDOW: u8 = 0x11;

/// The body as it was before it was encoded, at most `limit` bytes of it.
///
/// # Errors
/// `body_too_large` above the limit, `decode_failed` where it is not what its header says.
pub(super) fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, Failure> {
    let failed = || Failure::class("decode_failed");
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let words = value.to_str().map_err(|_| failed())?.split(',');
        codings.extend(words.map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty()));
    }
    if body.is_empty() || codings.is_empty() {
        return Ok(body);
    }
    if codings.len() > MOST_CODINGS {
        return Err(failed());
    }
    codings.iter().rev().try_fold(body, |body, coding| {
        let decoded = match coding.as_str() {
            "identity" => return Ok(body),
            "gzip" | "x-gzip" => read(MultiGzDecoder::new(&body[..]), limit),
            // Some servers send it without the frame that its name promises.
            "deflate" if body[0] & 0x0f == ZLIB_DEFLATE => read(ZlibDecoder::new(&body[..]), limit),
            "deflate" => read(DeflateDecoder::new(&body[..]), limit),
            "br" if body[0] & 0x7f == LARGE_BROTLI_WINDOW => return Err(failed()),
            "br" => read(brotli_decompressor::Decompressor::new(&body[..], 4 << 10), limit),
            "zstd" => zstd(&body, limit),
            _ => return Err(failed()),
        };
        match decoded {
            Ok(Some(decoded)) => Ok(Bytes::from(decoded)),
            Ok(None) => Err(Failure::class("body_too_large")),
            Err(_) => Err(failed()),
        }
    })
}

/// All of it; none where that is above the limit.
fn read(from: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut decoded = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut decoded)?;
    Ok((decoded.len() <= limit).then_some(decoded))
}

/// One frame after another, as a server that flushes sends them.
fn zstd(body: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut rest = body;
    let mut decoded = Vec::new();
    while !rest.is_empty() {
        // A header that is cut short is the library's to refuse.
        if zstd_window(rest).is_some_and(|window| window > MOST_ZSTD_WINDOW) {
            return Err(io::Error::other("the window is too large"));
        }
        let frame = ruzstd::decoding::StreamingDecoder::new(&mut rest).map_err(io::Error::other)?;
        match read(frame, limit - decoded.len())? {
            Some(part) => decoded.extend_from_slice(&part),
            None => return Ok(None),
        }
    }
    Ok(Some(decoded))
}

/// The window of a frame (RFC 8878, section 3.1.1.1); none where its header is cut short.
fn zstd_window(frame: &[u8]) -> Option<u64> {
    let (&descriptor, rest) = frame.get(4..)?.split_first()?;
    let is_one_segment = descriptor & 0x20 != 0;
    if !is_one_segment {
        let &window = rest.first()?;
        let base = 1 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // Then the window is as large as the content, whose size stands behind the number of the dictionary.
    let start = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = rest.get(start..start + [1, 2, 4, 8][usize::from(descriptor >> 6)])?;
    let value = size.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some(if size.len() == 2 { value + 256 } else { value })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const MAGIC: [u8; 4] = 0xFD2F_B528u32.to_le_bytes();

    /// What becomes of a body of this coding.
    fn becomes(coding: &'static str, body: &[u8], limit: usize) -> Result<Bytes, Failure> {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, coding.parse().unwrap())]);
        decoded(&headers, Bytes::copy_from_slice(body), limit)
    }

    /// A frame with this header, and one block of so many zeros.
    fn frame(header: &[u8], zeros: u32) -> Vec<u8> {
        let block = zeros << 3 | 0b011;
        [&MAGIC, header, &block.to_le_bytes()[..3], &[0]].concat()
    }

    #[test]
    fn frames_with_windows_that_nobody_may_ask_for_are_refused() {
        let size = |bytes: u64| [&[0b1110_0000][..], &bytes.to_le_bytes()].concat();
        // 8 MiB, and the next one, as a window; then as the size of a single segment.
        for (good, too_large) in [(vec![0, 13 << 3], vec![0, 13 << 3 | 1]), (size(1_000), size((8 << 20) + 1))] {
            assert_eq!(becomes("zstd", &frame(&good, 1_000), 10_000).unwrap(), vec![0; 1_000]);
            assert_eq!(becomes("zstd", &frame(&too_large, 1_000), 10_000), Err(Failure::class("decode_failed")));
        }
        let windows = [
            (&[0, 16 << 3 | 4][..], 96 << 20),
            (&[0x20, 7], 7),
            (&[0x62, 0, 0, 1, 1], 257 + 256),
            (&[0xa0, 1, 0, 0, 1], (1 << 24) + 1),
        ];
        for (header, window) in windows {
            assert_eq!(zstd_window(&[&MAGIC[..], header].concat()), Some(window), "{header:?}");
        }
        assert_eq!(zstd_window(&[&MAGIC[..], &[0xe0, 1, 2, 3]].concat()), None);
    }

    #[test]
    fn a_second_frame_is_looked_at_as_the_first_is() {
        let good = frame(&[0, 0], 500);
        assert_eq!(becomes("zstd", &good.repeat(2), 1_000).unwrap().len(), 1_000);
        assert_eq!(becomes("zstd", &good.repeat(3), 1_000), Err(Failure::class("body_too_large")));
        let bad = [good, frame(&[0, 17 << 3], 500)].concat();
        assert_eq!(becomes("zstd", &bad, 10_000), Err(Failure::class("decode_failed")));
    }

    #[test]
    fn a_large_window_is_no_brotli_of_the_web() {
        // "a" in a window of 64 KiB; then the start of a stream whose window would have 30 bits.
        assert_eq!(becomes("br", &[0x0b, 0, 0x80, b'a', 3], 10).unwrap(), "a");
        assert_eq!(becomes("br", &[0x11, 30, 0x0b, 0, 0x80, b'a', 3], 10), Err(Failure::class("decode_failed")));
    }
}
