//! Counts the frames and bytes of a WebSocket as they pass: the library puts messages together and keeps quiet about
//! the frames that they came in.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Ends the head of an HTTP message.
const END_OF_HEAD: &[u8; 4] = b"\r\n\r\n";
/// Two bytes, eight for a long length, four for a mask (RFC 6455, section 5.2).
const LONGEST_HEADER: usize = 14;

/// What went in one direction.
#[derive(Debug)]
pub(super) struct Passed {
    /// Bytes, the head of the handshake among them.
    pub(super) bytes: u64,
    /// Frames of any kind that were complete.
    pub(super) frames: u64,
    at: At,
}

/// Where in the stream it is.
#[derive(Debug)]
enum At {
    /// In the head of the handshake, with so many bytes of its end seen.
    Head { matched: usize },
    /// In a frame's header, with so many bytes of it seen.
    Header { header: [u8; LONGEST_HEADER], seen: usize },
    /// In a frame's payload, with so many bytes to come.
    Payload { left: u64 },
}

/// A stream that counts what passes.
pub(super) struct Counted<S> {
    stream: S,
    pub(super) sent: Passed,
    pub(super) received: Passed,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S) -> Self {
        Counted { stream, sent: Passed::new(), received: Passed::new() }
    }
}

impl At {
    const NEXT_FRAME: At = At::Header { header: [0; LONGEST_HEADER], seen: 0 };
}

impl Passed {
    fn new() -> Self {
        Passed { bytes: 0, frames: 0, at: At::Head { matched: 0 } }
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.at {
                At::Head { matched } => {
                    // Where a byte does not fit, only a carriage return can begin the end anew.
                    *matched =
                        if *first == END_OF_HEAD[*matched] { *matched + 1 } else { usize::from(*first == b'\r') };
                    if *matched == END_OF_HEAD.len() {
                        self.at = At::NEXT_FRAME;
                    }
                    bytes = rest;
                }
                At::Header { header, seen } => {
                    header[*seen] = *first;
                    *seen += 1;
                    if *seen == header_length(&header[..*seen]) {
                        let left = payload_length(header);
                        self.payload_left(left);
                    }
                    bytes = rest;
                }
                At::Payload { left } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let left = *left - here as u64;
                    self.payload_left(left);
                    bytes = &bytes[here..];
                }
            }
        }
    }

    fn payload_left(&mut self, left: u64) {
        if left == 0 {
            self.frames += 1;
            self.at = At::NEXT_FRAME;
        } else {
            self.at = At::Payload { left };
        }
    }
}

/// Length of a header that begins so; at least one byte more than there is where that can't be told yet.
fn header_length(begin: &[u8]) -> usize {
    let Some(second) = begin.get(1) else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

fn payload_length(header: &[u8; LONGEST_HEADER]) -> u64 {
    let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    match header[1] & 0x7f {
        126 => big_endian(&header[2..4]),
        127 => big_endian(&header[2..10]),
        short => u64::from(short),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.received.pass(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.sent.pass(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 101 x\r\na: b\r\r\n\r\n";

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..0x1_0000 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![b'\r'; length + if masked { 4 } else { 0 }]);
        frame
    }

    proptest! {
        /// However the bytes are cut into pieces, the frames are the same.
        #[test]
        fn frames_are_counted_whatever_the_pieces(
            frames in prop::collection::vec((prop_oneof![0_usize..130, Just(70_000)], any::<bool>()), 0..20),
            piece in 1_usize..3_000,
        ) {
            let bytes = frames.iter().fold(HEAD.to_vec(), |bytes, (length, masked)| [bytes, frame(*length, *masked)].concat());
            let mut passed = Passed::new();
            bytes.chunks(piece).for_each(|piece| passed.pass(piece));
            prop_assert_eq!(passed.frames, frames.len() as u64);
            prop_assert_eq!(passed.bytes, bytes.len() as u64);
        }
    }

    #[test]
    fn half_a_frame_is_none_yet() {
        let mut passed = Passed::new();
        passed.pass(HEAD);
        passed.pass(&[0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        assert_eq!(passed.frames, 0);
    }
}
