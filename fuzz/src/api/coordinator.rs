//! Coordinators within the process: the real server, over connections in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use groundswell_access::{Gate, NewToken, Role as Granted};
use groundswell_coordinator::server::{Door, ServerOptions, serve_over};
use groundswell_coordinator::store::{Location, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// An answer that is not there after so long is none.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes on their way, as in the buffers of a kernel.
const UNDERWAY_BYTES: usize = 64 << 10;
/// How long a token counts.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Who gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DoorKind {
    Local,
    Gate,
}

/// Whose token a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    None,
    View,
    Run,
    Admin,
}

/// One coordinator that lets everybody in, and one that wants tokens.
pub(super) struct Coordinator {
    runtime: Runtime,
    doors: Vec<Served>,
    /// Text that stands for a token in an input, and the token.
    tokens: Vec<(&'static str, String)>,
    /// Requests so far that may have changed something.
    pub(super) changes: u32,
    /// It answers no more logins for a while.
    pub(super) is_tired: bool,
}

struct Served {
    connections: mpsc::Sender<std::io::Result<DuplexStream>>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
    _folder: TempDir,
}

/// What came back.
pub(super) struct Answer {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Coordinator {
    /// # Panics
    /// Where this machine lets none start.
    pub(super) fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let gate = Gate::open(&folder.path().join("access"), &BTreeSet::new(), Vec::new()).expect("a CA");
        let token =
            |role| gate.create_token(NewToken { role, lifetime: LIFETIME, uses: None }).expect("a token").text();
        let roles = [
            ("{view}", Granted::View),
            ("{run}", Granted::Run),
            ("{admin}", Granted::Admin),
            ("{join}", Granted::Join),
        ];
        let mut tokens: Vec<_> = roles.into_iter().map(|(name, role)| (name, token(role))).collect();
        let doors = runtime.block_on(async {
            let gate = Door::Gate(Arc::new(gate));
            let other = tempfile::tempdir().expect("a folder");
            vec![Served::start(Door::Local, other).await, Served::start(gate, folder).await]
        });
        let mut coordinator = Coordinator { runtime, doors, tokens: tokens.clone(), changes: 0, is_tired: false };
        tokens.push(("{cookie}", coordinator.cookie()));
        coordinator.tokens = tokens;
        coordinator
    }

    /// The session of a browser.
    fn cookie(&mut self) -> String {
        let body = b"{\"token\":\"{view}\"}";
        let fields = [("content-type".to_owned(), "application/json".to_owned())];
        let request = self.request(Role::None, "POST", "/api/v1/login", &fields, body);
        let answer = self.told(DoorKind::Gate, &request, false);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let pair = answer.split("set-cookie: ").nth(1).and_then(|cookie| cookie.split(';').next());
        pair.unwrap_or_else(|| panic!("no login: {answer}")).to_owned()
    }

    pub(super) fn asked(
        &mut self,
        door: DoorKind,
        role: Role,
        method: &str,
        path: &str,
        fields: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        let request = self.request(role, method, path, fields, body);
        self.changes += u32::from(method != "GET" && method != "HEAD");
        let answer = self.told(door, &request, false);
        let answer = Answer::of(&answer).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&answer)));
        self.is_tired |= answer.status == 429;
        answer
    }

    fn request(&self, role: Role, method: &str, path: &str, fields: &[(String, String)], body: &[u8]) -> Vec<u8> {
        let body = match std::str::from_utf8(body) {
            Ok(text) => self.with_tokens(text.to_owned()).into_bytes(),
            Err(_) => body.to_vec(),
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        let has = |name: &str| fields.iter().any(|(has, _)| has.eq_ignore_ascii_case(name));
        if !has("host") {
            head += "host: localhost\r\n";
        }
        let of_role = ["{view}", "{run}", "{admin}"].get((role as usize).wrapping_sub(1));
        if let Some(name) = of_role.filter(|_| !has("authorization")) {
            head += &format!("authorization: Bearer {name}\r\n");
        }
        fields.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        [self.with_tokens(head + "\r\n").into_bytes(), body].concat()
    }

    fn with_tokens(&self, text: String) -> String {
        self.tokens
            .iter()
            .fold(text, |text, (name, token)| if text.contains(name) { text.replace(name, token) } else { text })
    }

    /// Ends it in order.
    pub(super) fn end(self) {
        for Served { shutdown, server, .. } in self.doors {
            shutdown.cancel();
            let ended = self.runtime.block_on(async { timeout(PATIENCE, server).await });
            ended.expect("it ends").expect("it served");
        }
    }

    /// Sends bytes on a connection of their own, and then their end where they may be no whole request; what came back until it
    /// was closed, or until there was a stream of events.
    ///
    /// # Panics
    /// Where it is not closed.
    pub(super) fn told(&mut self, door: DoorKind, bytes: &[u8], ends: bool) -> Vec<u8> {
        let served = &self.doors[usize::from(door == DoorKind::Gate)];
        self.runtime.block_on(async {
            let (ours, theirs) = duplex(UNDERWAY_BYTES);
            served.connections.send(Ok(theirs)).await.expect("the server is there");
            timeout(PATIENCE, exchanged(ours, bytes, ends)).await.expect("it hangs")
        })
    }
}

impl Served {
    async fn start(door: Door, folder: TempDir) -> Self {
        let store = Store::open(&Location::Folder(folder.path().join("store"))).await.expect("a store");
        let (connections, incoming) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let options = ServerOptions { outlives: true, door, ..ServerOptions::default() };
        let serve = serve_over(ReceiverStream::new(incoming), options, store, shutdown.clone());
        #[allow(clippy::disallowed_methods, reason = "`Served` owns it and joins it")]
        let server = tokio::spawn(async move { serve.await.expect("it serves") });
        Served { connections, shutdown, server, _folder: folder }
    }
}

async fn exchanged(stream: DuplexStream, bytes: &[u8], ends: bool) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(stream);
    let send = async {
        // It may answer, and close, before it has read everything.
        let _ = to.write_all(bytes).await;
        if ends {
            let _ = to.shutdown().await;
        }
        std::future::pending::<()>().await
    };
    let receive = async {
        let mut answer = Vec::new();
        while let Ok(1..) = from.read_buf(&mut answer).await {
            let is_stream = answer.windows(17).any(|part| part == b"text/event-stream");
            if is_stream && answer.windows(4).any(|end| end == b"\r\n\r\n") {
                break;
            }
        }
        answer
    };
    tokio::select! {
        () = send => Vec::new(),
        answer = receive => answer,
    }
}

impl Answer {
    /// None where it is no HTTP.
    fn of(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
        Some(Answer {
            status,
            content_type: content_type.unwrap_or_default().to_owned(),
            body: bytes[end + 4..].to_vec(),
        })
    }

    /// The id of a run that it says there is now.
    pub(super) fn made(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok().filter(|_| self.status == 201)?;
        Some(body["id"].as_str()?.to_owned())
    }

    /// # Panics
    /// Where it is a failure, or a refusal that is no problem as RFC 9457 has it.
    pub(super) fn is_fit(&self, asked: &str) {
        let Answer { status, content_type, body } = self;
        let text = String::from_utf8_lossy(body);
        assert!((200..500).contains(status), "{asked}: {status} {text}");
        // The answer to HEAD has no body.
        if *status < 400 || asked.starts_with("HEAD ") {
            return;
        }
        assert_eq!(content_type, "application/problem+json", "{asked}: {status} {text}");
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let says = problem["detail"].as_str().is_some_and(|detail| !detail.is_empty());
        assert!(problem["status"] == *status && problem["title"].is_string() && says, "{asked}: {status} {text}");
    }
}
