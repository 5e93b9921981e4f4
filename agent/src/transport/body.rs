//! Bodies of requests.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// The body of a request; copies share its bytes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Payload {
    #[default]
    Empty,
    Whole(Bytes),
    /// One after another.
    Parts(Arc<[Bytes]>),
    Stream(Arc<Streamed>),
}

/// A body that is sent piece by piece, its length unsaid.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// The bytes of it, or one piece that is sent over and over.
    bytes: Bytes,
    length: u64,
    chunk: usize,
    pause: Duration,
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    rest: Rest,
    /// Bytes of a stream so far.
    sent: Option<Arc<AtomicU64>>,
}

#[derive(Debug)]
enum Rest {
    Whole(Bytes),
    Parts(Arc<[Bytes]>, usize),
    Stream { streamed: Arc<Streamed>, offset: u64, pause: Option<Pin<Box<Sleep>>> },
}

impl Payload {
    /// Its length, where it is said before it is sent.
    pub(super) fn known_length(&self) -> Option<u64> {
        match self {
            Payload::Empty => Some(0),
            Payload::Whole(bytes) => Some(bytes.len() as u64),
            Payload::Parts(parts) => Some(length(parts)),
            Payload::Stream(_) => None,
        }
    }

    /// The body to send, with the counter of its bytes where its length is not known.
    pub(super) fn outgoing(&self) -> (Outgoing, Option<Arc<AtomicU64>>) {
        let rest = match self {
            Payload::Empty => Rest::Whole(Bytes::new()),
            Payload::Whole(bytes) => Rest::Whole(bytes.clone()),
            Payload::Parts(parts) => Rest::Parts(Arc::clone(parts), 0),
            Payload::Stream(streamed) => Rest::Stream { streamed: Arc::clone(streamed), offset: 0, pause: None },
        };
        let sent = matches!(rest, Rest::Stream { .. }).then(Arc::default);
        (Outgoing { rest, sent: sent.clone() }, sent)
    }
}

impl Streamed {
    /// So many zeros.
    pub(crate) fn zeros(length: u64, chunk: usize, pause: Duration) -> Self {
        let piece = chunk.min(usize::try_from(length).unwrap_or(usize::MAX));
        Streamed { bytes: Bytes::from(vec![0; piece]), length, chunk, pause }
    }

    /// These bytes.
    pub(crate) fn of(bytes: Bytes, chunk: usize, pause: Duration) -> Self {
        Streamed { length: bytes.len() as u64, bytes, chunk, pause }
    }

    fn piece(&self, offset: u64) -> Bytes {
        let left = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let is_repeated = self.bytes.len() as u64 != self.length;
        let start = if is_repeated { 0 } else { start };
        self.bytes.slice(start..start + self.chunk.min(left))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Outgoing { rest, sent } = &mut *self;
        let next = match rest {
            Rest::Whole(bytes) => (!bytes.is_empty()).then(|| std::mem::take(bytes)),
            Rest::Parts(parts, next) => {
                *next += 1;
                parts.get(*next - 1).cloned()
            }
            Rest::Stream { streamed, offset, .. } if *offset >= streamed.length => None,
            Rest::Stream { streamed, offset, pause } => {
                if *offset > 0 && !streamed.pause.is_zero() {
                    ready!(pause.get_or_insert_with(|| Box::pin(sleep(streamed.pause))).as_mut().poll(context));
                    *pause = None;
                }
                let piece = streamed.piece(*offset);
                *offset += piece.len() as u64;
                Some(piece)
            }
        };
        if let (Some(sent), Some(piece)) = (sent, &next) {
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.rest {
            Rest::Whole(bytes) => bytes.is_empty(),
            Rest::Parts(parts, next) => *next >= parts.len(),
            Rest::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Rest::Parts(parts, next) => SizeHint::with_exact(length(parts.get(*next..).unwrap_or_default())),
            Rest::Stream { .. } => SizeHint::default(),
        }
    }
}

fn length(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http_body_util::BodyExt;
    use tokio::time::Instant;

    use super::*;

    async fn collected(payload: &Payload) -> Vec<u8> {
        payload.outgoing().0.collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn every_payload_sends_its_bytes_as_often_as_asked() {
        let parts = Payload::Parts([Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")].into());
        let zeros = Payload::Stream(Arc::new(Streamed::zeros(10, 4, Duration::from_secs(1))));
        let file = Payload::Stream(Arc::new(Streamed::of(Bytes::from_static(b"abcde"), 2, Duration::ZERO)));
        for _ in 0..2 {
            assert_eq!(collected(&Payload::Empty).await, b"");
            assert_eq!(collected(&Payload::Whole(Bytes::from_static(b"x"))).await, b"x");
            assert_eq!(collected(&parts).await, b"abc");
            assert_eq!(collected(&file).await, b"abcde");
            let started = Instant::now();
            assert_eq!(collected(&zeros).await, [0; 10]);
            assert_eq!(started.elapsed().as_secs(), 2, "a pause before each of the three pieces but the first");
        }
        assert_eq!((parts.known_length(), zeros.known_length()), (Some(3), None));
    }
}
