//! As much of HTTP/1.1 as it takes to ask a coordinator: a connection for each question.

use anyhow::{Context, ensure};
use groundswell_coordinator::api::PREFIX;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is answered to a question; `body` is that of a POST, and without one it is a GET.
///
/// # Errors
/// When the connection breaks, or the answer is a refusal or not what it should be.
pub(crate) async fn ask<T: DeserializeOwned>(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    body: Option<&str>,
) -> anyhow::Result<T> {
    let answer = exchange(connection, path, body, None).await?;
    let text = String::from_utf8(answer)?;
    let (head, json) = text.split_once("\r\n\r\n").context("no end of the head")?;
    ensure!(head.starts_with("HTTP/1.1 20"), "{text}");
    serde_json::from_str(json).with_context(|| json.to_owned())
}

/// Reads a stream of events until one of that name begins.
///
/// # Errors
/// When none comes.
pub(crate) async fn first_event(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    event: &str,
) -> anyhow::Result<()> {
    exchange(connection, path, None, Some(format!("event: {event}").as_bytes())).await.map(drop)
}

/// All that is answered, or what is answered until those bytes come.
async fn exchange(
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    body: Option<&str>,
    until: Option<&[u8]>,
) -> anyhow::Result<Vec<u8>> {
    let (method, body) = body.map_or(("GET", ""), |body| ("POST", body));
    let request = format!(
        "{method} {PREFIX}{path} HTTP/1.1\r\nhost: coordinator\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = connection.read(&mut piece).await?;
        if read == 0 {
            ensure!(until.is_none(), "{}", String::from_utf8_lossy(&answer));
            return Ok(answer);
        }
        // What is looked for may have begun in the piece before.
        let from = answer.len().saturating_sub(until.map_or(0, <[u8]>::len));
        answer.extend_from_slice(&piece[..read]);
        if until.is_some_and(|until| answer[from..].windows(until.len()).any(|window| window == until)) {
            return Ok(answer);
        }
    }
}
