//! A TCP proxy between an agent and its coordinator that does what bad networks do.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Pieces that are under way in one direction; then the sender waits, as with a full socket.
const UNDER_WAY: usize = 256;
/// A piece of at least so many bytes on its way to the coordinator holds a delta: heartbeats and headers are smaller.
const DELTA_BYTES: usize = 300;

/// What it does to what goes through it.
#[derive(Debug, Clone, Default)]
struct Weather {
    /// Nothing goes to the coordinator.
    hold_up: bool,
    /// Nothing comes from the coordinator.
    hold_down: bool,
    /// Each piece takes so long, in milliseconds.
    delay_ms: Option<Range<u64>>,
    /// So many bytes a second go through in each direction, whatever the number of connections.
    bytes_per_s: Option<u32>,
    /// Connections of an earlier number are reset.
    cuts: u64,
}

/// What all connections through it share.
#[derive(Clone)]
struct Link {
    weather: watch::Receiver<Weather>,
    flips: Arc<AtomicU32>,
    /// When what was sent before has gone through: to the coordinator, from it.
    free_at: Arc<[Mutex<Option<Instant>>; 2]>,
}

/// Where to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// Passes everything on until it is told otherwise.
pub(crate) struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    flips: Arc<AtomicU32>,
    _stop: oneshot::Sender<()>,
}

impl Proxy {
    /// Starts one before a coordinator's URL.
    ///
    /// # Errors
    /// When it finds no port.
    pub(crate) fn before(url: &str) -> anyhow::Result<Self> {
        let upstream: SocketAddr = url.trim_start_matches("http://").parse()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather::default());
        let flips = Arc::new(AtomicU32::new(0));
        let link = Link { weather: seen, flips: Arc::clone(&flips), free_at: Arc::default() };
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = accept(listener, upstream, link) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Proxy { address, weather, flips, _stop: stop })
    }

    /// What agents call instead of the coordinator.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nothing goes through any more; connections stay open.
    pub(crate) fn hold(&self) {
        self.weather.send_modify(|weather| (weather.hold_up, weather.hold_down) = (true, true));
    }

    /// What the coordinator says is not heard any more.
    pub(crate) fn hold_answers(&self) {
        self.weather.send_modify(|weather| weather.hold_down = true);
    }

    /// What was held goes on, and what comes next goes through.
    pub(crate) fn repair(&self) {
        self.weather.send_modify(|weather| {
            (weather.hold_up, weather.hold_down, weather.delay_ms) = (false, false, None);
        });
    }

    /// Every connection is reset; new ones are accepted.
    pub(crate) fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Each piece takes so long in each direction.
    pub(crate) fn delay_ms(&self, range: Range<u64>) {
        self.weather.send_modify(|weather| weather.delay_ms = Some(range));
    }

    /// No more goes through than so many bytes a second, in each direction.
    pub(crate) fn limit(&self, bytes_per_s: u32) {
        self.weather.send_modify(|weather| weather.bytes_per_s = Some(bytes_per_s));
    }

    /// Flips a bit in each of the next so many deltas on their way to the coordinator.
    pub(crate) fn flip(&self, times: u32) {
        self.flips.store(times, Ordering::SeqCst);
    }

    /// Flips that have not happened yet.
    pub(crate) fn flips_left(&self) -> u32 {
        self.flips.load(Ordering::SeqCst)
    }
}

async fn accept(listener: std::net::TcpListener, upstream: SocketAddr, link: Link) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (inner, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let link = link.clone();
        connections.spawn(async move {
            // An agent whose coordinator does not listen sees its connection end.
            if let Ok(outer) = TcpStream::connect(upstream).await {
                join(inner, outer, link).await;
            }
        });
    }
}

/// Passes on in both directions until one ends or the connection is cut.
async fn join(inner: TcpStream, outer: TcpStream, link: Link) {
    let mut weather = link.weather.clone();
    let cuts = weather.borrow().cuts;
    for stream in [&inner, &outer] {
        let _ = stream.set_nodelay(true);
        // What is closed with it is reset.
        let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    }
    let ((from_agent, to_agent), (from_coordinator, to_coordinator)) = (inner.into_split(), outer.into_split());
    let up = pass(from_agent, to_coordinator, link.clone(), Direction::Up);
    let down = pass(from_coordinator, to_agent, link, Direction::Down);
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = weather.wait_for(|weather| weather.cuts > cuts) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: Link, direction: Direction) {
    let (pieces, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let mut weather = link.weather.clone();
    let read = async move {
        let mut due = Instant::now();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let mut piece = buffer[..read].to_vec();
            if direction == Direction::Up {
                flip(&link.flips, &mut piece);
            }
            // Nothing overtakes what was sent before it.
            due = due.max(link.due(piece.len(), direction));
            if pieces.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let is_held = move |weather: &Weather| match direction {
        Direction::Up => weather.hold_up,
        Direction::Down => weather.hold_down,
    };
    let write = async move {
        while let Some((due, piece)) = under_way.recv().await {
            sleep_until(due).await;
            if weather.wait_for(|weather| !is_held(weather)).await.is_err() || to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

impl Link {
    /// When a piece that is sent now has gone through.
    fn due(&self, bytes: usize, direction: Direction) -> Instant {
        let weather = self.weather.borrow();
        let now = Instant::now();
        let delay = weather.delay_ms.clone().map_or(0, |range| rand::rng().random_range(range));
        let delayed = now + Duration::from_millis(delay);
        let Some(bytes_per_s) = weather.bytes_per_s else { return delayed };
        let mut free_at = self.free_at[direction as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let through =
            free_at.map_or(now, |at| at.max(now)) + Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_s));
        *free_at = Some(through);
        delayed.max(through)
    }
}

fn flip(flips: &AtomicU32, piece: &mut [u8]) {
    let one_less = |left: u32| left.checked_sub(1);
    if piece.len() >= DELTA_BYTES && flips.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
        let place = piece.len() * 3 / 4;
        piece[place] ^= 0x10;
    }
}
