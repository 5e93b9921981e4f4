//! What an input of the API's target stands for.

use super::archive;
use super::coordinator::{DoorKind, Role};

/// Fields that say where the request ends: those are not the input's to choose, or no answer would be one to it.
const FRAMING: [&str; 6] = ["connection", "content-length", "transfer-encoding", "expect", "upgrade", "te"];
const MOST_FIELDS: usize = 60;
const MOST_PATH_BYTES: usize = 8 << 10;

/// A request, and to whom.
pub(super) struct Input<'a> {
    pub(super) door: DoorKind,
    /// Whose token goes with it.
    pub(super) role: Role,
    pub(super) sent: Sent<'a>,
}

pub(super) enum Sent<'a> {
    /// These bytes as they are.
    Raw(&'a [u8]),
    Request {
        method: String,
        path: String,
        fields: Vec<(String, String)>,
        body: Vec<u8>,
    },
}

impl<'a> Input<'a> {
    /// The first byte says: whose token (bits 0 and 1), a coordinator that wants one (4), a body that is an archive in
    /// plain JSON (8), or bytes that are sent as they are (16). Then come `METHOD PATH`, fields, an empty line and the body,
    /// as in HTTP but with bare newlines.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first()?;
        let role = [Role::None, Role::View, Role::Run, Role::Admin][usize::from(flags & 3)];
        let door = if flags & 4 == 0 { DoorKind::Local } else { DoorKind::Gate };
        if flags & 16 != 0 {
            return Some(Input { door, role, sent: Sent::Raw(rest) });
        }
        let split = rest.windows(2).position(|two| two == b"\n\n");
        let (head, body) = split.map_or((rest, &[][..]), |at| (&rest[..at], &rest[at + 2..]));
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let (method, path) = lines.next()?.split_once(' ')?;
        let is_method = (1..=16).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !is_method || method == "CONNECT" || !path.starts_with('/') || path.len() > MOST_PATH_BYTES {
            return None;
        }
        let fields = lines.filter_map(field).take(MOST_FIELDS).collect();
        let body = if flags & 8 == 0 { body.to_vec() } else { archive::packed(body) };
        Some(Input { door, role, sent: Sent::Request { method: method.to_owned(), path: quoted(path), fields, body } })
    }
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_token);
    let is_value = value.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
    let is_framing = FRAMING.iter().any(|framing| framing.eq_ignore_ascii_case(name));
    (is_name && is_value && !is_framing).then(|| (name.to_owned(), value.trim().to_owned()))
}

/// What a request line can't have is quoted, as clients do.
fn quoted(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    let quoted = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(quoted).collect()
}
