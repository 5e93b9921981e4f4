//! What figures are filed under.

use std::borrow::Cow;
use std::fmt;

/// Index of a timed step in its plan: the identity of its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StepId(pub u32);

/// Which latency a series holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Intended start to finish, of operations that ended well.
    ResponseOk,
    /// Intended start to finish, of errors, timeouts and aborted operations; the last two are censored at their age.
    ResponseFailed,
    /// First byte written to finish, of every operation that ended.
    Service,
    /// The generator's own delay before the first byte was written, of every operation that ended: from the intended
    /// start, or from the moment a place in flight was free for it.
    SendLag,
    /// Intended start to a free place in flight, of operations that had to wait for one. Response time is this, send lag
    /// and service time together.
    Queue,
    /// Connection opened, of operations that had to open one.
    Connect,
    /// TLS handshake, of operations that had to make one.
    Tls,
    /// Request sent to first byte of the response, of HTTP operations that were answered.
    FirstByte,
    /// Name looked up, of operations that had to ask the name server.
    Dns,
    /// First byte of the response to its last, of HTTP operations that were answered.
    Body,
}

impl Kind {
    /// Every kind, in the order of their indices.
    pub const ALL: [Kind; Kind::COUNT] = [
        Kind::ResponseOk,
        Kind::ResponseFailed,
        Kind::Service,
        Kind::SendLag,
        Kind::Queue,
        Kind::Connect,
        Kind::Tls,
        Kind::FirstByte,
        Kind::Dns,
        Kind::Body,
    ];

    /// Number of kinds; `kind as usize` is below it.
    pub const COUNT: usize = 10;

    /// Response time whatever the outcome: what quantiles are taken of, so that they never improve because requests
    /// hung.
    pub const RESPONSE: [Kind; 2] = [Kind::ResponseOk, Kind::ResponseFailed];
}

/// Why an operation failed, in one word: `status_503`, `connection_refused`.
///
/// 1 to 64 characters of `a-z`, `0-9` and `_`, so that it can stand in any report, label or path unescaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorClass(Cow<'static, str>);

/// A text that is no [`ErrorClass`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error class {0:?} is not 1 to {max} characters of a-z, 0-9 and _", max = ErrorClass::MAX_LENGTH)]
pub struct InvalidErrorClass(String);

impl ErrorClass {
    /// Longest class, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// The class of this name. A name that breaks the rule is brought into its form (lower case, `_` for any other
    /// character, cut at the end): the operation failed all the same and has to be counted. Texts from outside go through
    /// `TryFrom` instead.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        if is_class(&name) { ErrorClass(name) } else { ErrorClass(Cow::Owned(bring_into_form(&name))) }
    }

    /// The word itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ErrorClass {
    type Error = InvalidErrorClass;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_class(&text) {
            return Ok(ErrorClass(Cow::Owned(text)));
        }
        // The message must not repeat a megabyte that somebody sent.
        Err(InvalidErrorClass(text.chars().take(ErrorClass::MAX_LENGTH).collect()))
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_class(text: &str) -> bool {
    (1..=ErrorClass::MAX_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn bring_into_form(name: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let form: String = name.chars().take(ErrorClass::MAX_LENGTH).map(word).collect();
    if form.is_empty() { "unknown".to_owned() } else { form }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kinds_are_their_own_indices() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn classes_from_outside_are_checked() {
        assert_eq!(
            ErrorClass::try_from("status_503".to_owned()).map(|class| class.to_string()),
            Ok("status_503".to_owned())
        );
        for wrong in ["", "Status", "status 503", "größe", &"x".repeat(65)] {
            assert!(ErrorClass::try_from(wrong.to_owned()).is_err(), "{wrong:?}");
        }
        let message = ErrorClass::try_from("é".repeat(1 << 20)).map_err(|error| error.to_string().len());
        assert!(message.is_err_and(|length| length < 300));
    }

    #[test]
    fn own_names_are_brought_into_form() {
        assert_eq!(ErrorClass::new("HTTP/2 reset").as_str(), "http_2_reset");
        assert_eq!(ErrorClass::new("").as_str(), "unknown");
    }

    proptest! {
        #[test]
        fn whatever_is_made_can_be_received(name in ".{0,100}") {
            let class = ErrorClass::new(name);
            prop_assert_eq!(ErrorClass::try_from(class.as_str().to_owned()), Ok(class));
        }
    }
}
