//! The HTTP API as a program of another make would use it: HTTP/1.1 over a socket, JSON checked against the description
//! that the coordinator serves.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use groundswell_access::{Token, Trust, client_config};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

/// Nothing on a socket takes so long; then it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A coordinator's API.
pub(crate) struct Api {
    address: String,
    described: Value,
    tls: Option<Arc<ClientConfig>>,
    token: Option<String>,
}

/// A connection.
trait Socket: Read + Write + Send {}

impl<T: Read + Write + Send> Socket for T {}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// As it came.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{self:?}"))
    }

    /// The detail of a problem; fails where the answer is none.
    ///
    /// # Errors
    /// When it is no problem of that status.
    pub(crate) fn problem(&self, status: u16) -> anyhow::Result<String> {
        let body = String::from_utf8_lossy(&self.body);
        ensure!(self.status == status, "{} instead of {status}: {body}", self.status);
        ensure!(self.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json"), "{body}");
        let problem = self.json()?;
        ensure!(problem["status"] == status, "{problem}");
        Ok(problem["detail"].as_str().context("no detail")?.to_owned())
    }
}

impl Api {
    /// Reads the description.
    ///
    /// # Errors
    /// When the coordinator does not serve it.
    pub(crate) fn of(url: &str) -> anyhow::Result<Self> {
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut api = Api { address, described: Value::Null, tls: None, token: None };
        api.described = api.raw("GET", "/api/v1/openapi.json", &[], b"")?.json()?;
        Ok(api)
    }

    /// A server of another make.
    pub(crate) fn elsewhere(address: &str) -> Self {
        Api { address: address.to_owned(), described: Value::Null, tls: None, token: None }
    }

    /// That of a coordinator with TLS, which is known by a token.
    ///
    /// # Errors
    /// When the coordinator does not serve its description to who has the token.
    pub(crate) fn with_token(url: &str, token: &str) -> anyhow::Result<Self> {
        let ca = Token::parse(token)?.ca;
        let mut api = Api::elsewhere(url.trim_start_matches("https://").trim_end_matches('/'));
        api.tls = Some(Arc::new(client_config(&Trust::Fingerprint(ca), None)?));
        api.token = Some(token.to_owned());
        api.described = api.raw("GET", "/api/v1/openapi.json", &[], b"")?.json()?;
        Ok(api)
    }

    /// The same for somebody else.
    pub(crate) fn as_other(&self, token: Option<&str>) -> Self {
        Api {
            address: self.address.clone(),
            described: self.described.clone(),
            tls: self.tls.clone(),
            token: token.map(ToOwned::to_owned),
        }
    }

    /// GET, with the answer held against the description.
    ///
    /// # Errors
    /// When the answer is not as described.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.call("GET", path, None)
    }

    /// POST with a JSON body, or none.
    ///
    /// # Errors
    /// When the answer is not as described.
    pub(crate) fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        self.call("POST", path, body)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let headers: &[(&str, &str)] = if body.is_some() { &[("content-type", "application/json")] } else { &[] };
        let answer = self.raw(method, &format!("/api/v1{path}"), headers, text.as_bytes())?;
        self.is_described(method, path, &answer).with_context(|| format!("{method} {path}: {answer:?}"))?;
        Ok(answer)
    }

    /// Whatever is sent, as it is.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let mut socket = self.connect()?;
        let mut more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        if !headers.iter().any(|(name, _)| *name == "host") {
            more.push_str(&format!("host: {}\r\n", self.address));
        }
        let head = format!(
            "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n{}{more}\r\n",
            body.len(),
            self.authorization()
        );
        socket.write_all(head.as_bytes())?;
        // A body that is too large is refused before all of it is read.
        let _ = socket.write_all(body);
        read_answer(BufReader::new(socket))
    }

    /// The events of a run, as they come.
    ///
    /// # Errors
    /// When there is no stream.
    pub(crate) fn events(&self, run: &str) -> anyhow::Result<Events> {
        let mut socket = self.connect()?;
        let request =
            format!("GET /api/v1/runs/{run}/events HTTP/1.1\r\nhost: {}\r\n{}\r\n", self.address, self.authorization());
        socket.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(socket);
        let (status, headers) = read_head(&mut reader)?;
        ensure!(status == 200 && headers["content-type"].starts_with("text/event-stream"), "{status} {headers:?}");
        Ok(Events { reader: Chunks { reader, left: 0 } })
    }

    fn authorization(&self) -> String {
        self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default()
    }

    fn connect(&self) -> anyhow::Result<Box<dyn Socket>> {
        let socket = TcpStream::connect(&self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let Some(tls) = self.tls.clone() else { return Ok(Box::new(socket)) };
        let name = socket.peer_addr()?.ip().into();
        Ok(Box::new(StreamOwned::new(ClientConnection::new(tls, ServerName::IpAddress(name))?, socket)))
    }

    /// Finds the operation of a path, and holds the answer against what it promises for its status.
    fn is_described(&self, method: &str, path: &str, answer: &Answer) -> anyhow::Result<()> {
        let path = path.split('?').next().unwrap_or_default();
        let fits = |template: &str| {
            let (template, path) = (template.trim_start_matches("/api/v1").split('/'), path.split('/'));
            template.clone().count() == path.clone().count()
                && template.zip(path).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
        };
        let paths = self.described["paths"].as_object().context("no paths")?;
        let Some((_, operations)) = paths.iter().find(|(template, _)| fits(template)) else {
            ensure!(answer.status == 404, "this path is not described");
            return Ok(());
        };
        let response = &operations[method.to_lowercase()]["responses"][answer.status.to_string()];
        ensure!(response.is_object(), "this status is not described");
        let kind = answer.headers.get("content-type").map(|kind| kind.split(';').next().unwrap_or_default());
        let Some(content) = response["content"].as_object() else {
            ensure!(answer.body.is_empty(), "a body where none is described");
            return Ok(());
        };
        let described = &content[kind.context("no content type")?];
        if kind.is_some_and(|kind| kind.ends_with("json")) {
            self.is_valid(&described["schema"], &answer.json()?)?;
        }
        Ok(())
    }

    fn is_valid(&self, schema: &Value, value: &Value) -> anyhow::Result<()> {
        // The components are where the references point.
        let whole = json!({ "components": self.described["components"], "allOf": [schema] });
        let validator = jsonschema::validator_for(&whole)?;
        let problems: Vec<String> = validator.iter_errors(value).map(|problem| problem.to_string()).collect();
        ensure!(problems.is_empty(), "{problems:#?}");
        Ok(())
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    reader: Chunks,
}

impl Events {
    /// The next event: its name and its data.
    ///
    /// # Errors
    /// When the stream ends.
    pub(crate) fn next(&mut self) -> anyhow::Result<(String, Value)> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = self.reader.line()?;
            if let Some(value) = line.strip_prefix("event: ") {
                value.clone_into(&mut name);
            } else if let Some(value) = line.strip_prefix("data: ") {
                value.clone_into(&mut data);
            } else if line.is_empty() && !name.is_empty() {
                return Ok((name, serde_json::from_str(&data)?));
            }
        }
    }

    /// Reads so many bytes, whatever they are.
    ///
    /// # Errors
    /// When there are none for long; the end is no error.
    pub(crate) fn read_some(&mut self, bytes: usize) -> anyhow::Result<()> {
        let mut some = vec![0; bytes];
        let _ = self.reader.reader.read(&mut some)?;
        Ok(())
    }

    /// The next event of a name.
    ///
    /// # Errors
    /// When the stream ends before it.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> anyhow::Result<Value> {
        loop {
            let (name, data) = self.next()?;
            if name == wanted {
                return Ok(data);
            }
        }
    }
}

/// A chunked body (RFC 9112, 7.1).
struct Chunks {
    reader: BufReader<Box<dyn Socket>>,
    left: usize,
}

impl Chunks {
    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = Vec::new();
        loop {
            if self.left == 0 {
                self.left = chunk_length(&mut self.reader)?;
                ensure!(self.left > 0, "the stream of events has ended");
            }
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            self.left -= 1;
            if self.left == 0 {
                self.reader.read_exact(&mut [0; 2])?;
            }
            if byte[0] == b'\n' {
                return Ok(String::from_utf8(line)?);
            }
            line.push(byte[0]);
        }
    }
}

fn chunk_length(reader: &mut impl BufRead) -> anyhow::Result<usize> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(usize::from_str_radix(line.trim(), 16)?)
}

fn read_head(reader: &mut impl BufRead) -> anyhow::Result<(u16, HashMap<String, String>)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).with_context(|| format!("no status in {line:?}"))?.parse()?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            bail!("the head ends within");
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok((status, headers)) };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
}

fn read_answer(mut reader: BufReader<Box<dyn Socket>>) -> anyhow::Result<Answer> {
    let (status, headers) = read_head(&mut reader)?;
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        loop {
            let length = chunk_length(&mut reader)?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk)?;
            if length == 0 {
                break;
            }
            body.extend(&chunk[..length]);
        }
    } else {
        reader.read_to_end(&mut body)?;
    }
    Ok(Answer { status, headers, body })
}
