//! A target that keeps the head of every request, for tests of what reaches it and what does not.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// An HTTP server in threads of the test that gives the same answer to everybody.
pub(crate) struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    heads: Vec<String>,
}

impl Recorder {
    /// One that answers with status 200.
    ///
    /// # Errors
    /// When it finds no port.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    }

    /// One that redirects everybody.
    ///
    /// # Errors
    /// When it finds no port.
    pub(crate) fn redirecting_to(url: &str) -> anyhow::Result<Self> {
        Self::answering(&format!("HTTP/1.1 302 Found\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n"))
    }

    fn answering(answer: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, seen, answer) =
            (listener.local_addr()?, Arc::new(Mutex::new(Seen::default())), answer.to_owned());
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (Arc::clone(&shared), answer.clone());
                seen.lock().unwrap_or_else(PoisonError::into_inner).connections += 1;
                // A connection that breaks is the agent's business; what it asked for before is written down.
                std::thread::spawn(move || drop(serve(&connection, &seen, &answer)));
            }
        });
        Ok(Recorder { address, seen })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections so far, whether anything was asked on them or not.
    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).connections
    }

    /// Heads of the requests so far, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).heads.clone()
    }
}

fn serve(connection: &TcpStream, seen: &Mutex<Seen>, answer: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        seen.lock().unwrap_or_else(PoisonError::into_inner).heads.push(head.to_lowercase());
        let mut writer = connection;
        writer.write_all(answer.as_bytes())?;
    }
}
