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
        let frame = ruzstd::decoding::StreamingDecoder::new(&mut rest).map_err(io::Error::other)?;
        match read(frame, limit - decoded.len())? {
            Some(part) => decoded.extend_from_slice(&part),
            None => return Ok(None),
        }
    }
    Ok(Some(decoded))
}
