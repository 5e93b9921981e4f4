//! Why an operation failed, as a class that a report can count and explain.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use groundswell_stats::ErrorClass;

use super::gate::Barred;

/// An operation that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It ran into its time limit.
    Timeout,
    /// A limit of this machine stood in the way: nothing was asked of the target.
    Unsent(ErrorClass),
    /// Anything else, by class.
    Error(ErrorClass),
}

/// How far the response had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not a byte of it, on a connection that carried another before.
    Reused,
    /// Not a byte of it, on a new connection.
    Nothing,
    /// A part of its head.
    Head,
    /// Its head and maybe a part of its body.
    Body,
}

impl Failure {
    pub(crate) fn class(name: impl Into<Cow<'static, str>>) -> Self {
        Failure::Error(ErrorClass::new(name))
    }

    /// Says of a connection that ended where in the response it did: the target's end looks another way before its answer
    /// than within it.
    pub(super) fn at(self, stage: Stage) -> Self {
        let Failure::Error(class) = &self else { return self };
        Failure::class(match (class.as_str(), stage) {
            ("connection_closed" | "connection_reset", Stage::Reused) => "stale_connection",
            ("connection_closed", Stage::Head) => "closed_in_head",
            ("connection_closed", Stage::Body) => "closed_in_body",
            ("connection_reset", Stage::Head) => "reset_in_head",
            ("connection_reset", Stage::Body) => "reset_in_body",
            _ => return self,
        })
    }

    pub(super) fn is(&self, class: &str) -> bool {
        matches!(self, Failure::Error(own) if own.as_str() == class)
    }

    /// The class of an I/O error. The limits of this machine are not the target's errors.
    pub(crate) fn of_io(error: &io::Error, otherwise: &'static str) -> Self {
        if let Some(class) = own_limit(error) {
            return Failure::Unsent(ErrorClass::new(class));
        }
        let class = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection_refused",
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                "connection_reset"
            }
            io::ErrorKind::UnexpectedEof => "connection_closed",
            io::ErrorKind::TimedOut => "connect_timeout",
            _ => otherwise,
        };
        Failure::class(class)
    }

    /// The class of an error that wraps others: the first I/O, TLS or HTTP/2 error in its chain decides.
    pub(crate) fn of_chain(error: &(dyn Error + 'static), otherwise: &'static str) -> Self {
        Failure::known(error, otherwise).unwrap_or_else(|| Failure::class(otherwise))
    }

    fn known(error: &(dyn Error + 'static), otherwise: &'static str) -> Option<Self> {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(Failure::class(class_of_tls(tls)));
        }
        if let Some(class) = error.downcast_ref::<h2::Error>().and_then(class_of_http2) {
            return Some(Failure::class(class));
        }
        if error.is::<HeadTooLarge>() {
            return Some(Failure::class("headers_too_large"));
        }
        if let Some(barred) = error.downcast_ref::<Barred>() {
            return Some((*barred).into());
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // It may carry one of the others, also within another of its kind, and its source is then what stands behind that.
            let carried = io.get_ref().and_then(|inner| Failure::known(inner, otherwise));
            return Some(carried.unwrap_or_else(|| Failure::of_io(io, otherwise)));
        }
        Failure::known(error.source()?, otherwise)
    }
}

/// Whether hyper only says that a connection ended; the reason, if there is one, stands elsewhere.
pub(super) fn is_end_of_connection(error: &hyper::Error) -> bool {
    // A request that waits for its turn on an HTTP/2 connection is dropped with it, which hyper takes for the user's doing.
    let is_dropped = || error.is_user() && error.to_string().contains("dispatch task is gone");
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_dropped()
}

/// A target that sends and sends, and no end of the head of its response.
#[derive(Debug, thiserror::Error)]
#[error("the head of the response is too large")]
pub(super) struct HeadTooLarge;

/// What the target said in HTTP/2's own words (RFC 9113, section 7); none for an error of the connection below it.
fn class_of_http2(error: &h2::Error) -> Option<&'static str> {
    if error.is_io() {
        return None;
    }
    Some(match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => "http2_refused",
        Some(h2::Reason::ENHANCE_YOUR_CALM) if error.is_library() && is_about_a_head(error) => "headers_too_large",
        _ if error.is_go_away() && error.is_remote() => "http2_goaway",
        _ if error.is_reset() && error.is_remote() => "http2_reset",
        _ => "protocol",
    })
}

/// Which flood it was that the library ended: only the words that it sends to the target say that. A head that is not
/// quite so large is a mere `PROTOCOL_ERROR`, as one that is malformed.
fn is_about_a_head(error: &h2::Error) -> bool {
    let said = error.to_string();
    said.contains("too_many_continuations") || said.contains("header_list_way_too_large")
}

/// What went wrong in a TLS handshake, as far as a person would do something else about it.
fn class_of_tls(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription, CertificateError};
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "tls_certificate_expired",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "tls_wrong_host",
            CertificateError::UnknownIssuer => "tls_unknown_issuer",
            // A certificate that is its own authority, as tools make them for tests; the error's type is not public here.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => "tls_self_signed",
            _ => "tls_certificate",
        },
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            "tls_version"
        }
        _ => "tls",
    }
}

/// The class of an error that says that this machine has no more of something.
fn own_limit(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error)?;
    let classes = [
        (Errno::MFILE, "too_many_open_files"),
        (Errno::NFILE, "too_many_open_files"),
        (Errno::ADDRNOTAVAIL, "no_free_port"),
        // Of a bind to a source address: a port is chosen for it there and then. That the address is this machine's was
        // seen before the load began.
        (Errno::ADDRINUSE, "no_free_port"),
        (Errno::NOBUFS, "no_memory_for_sockets"),
        (Errno::NOMEM, "no_memory_for_sockets"),
    ];
    classes.into_iter().find(|(known, _)| *known == errno).map(|(_, class)| class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_this_machine_are_not_errors_of_the_target() {
        let limits = [
            (24, "too_many_open_files"),
            (23, "too_many_open_files"),
            (98, "no_free_port"),
            (99, "no_free_port"),
            (105, "no_memory_for_sockets"),
        ];
        for (errno, class) in limits {
            let failure = Failure::of_chain(&io::Error::from_raw_os_error(errno), "connect_failed");
            assert_eq!(failure, Failure::Unsent(ErrorClass::new(class)));
        }
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, expired);
        assert_eq!(Failure::of_chain(&wrapped, "tls"), Failure::class("tls_certificate_expired"));
        assert_eq!(Failure::of_chain(&io::Error::other(wrapped), "tls"), Failure::class("tls_certificate_expired"));
        let cases = [
            (io::Error::from_raw_os_error(111), "connection_refused"),
            (io::Error::from_raw_os_error(104), "connection_reset"),
            (io::Error::other("odd"), "connect_failed"),
        ];
        for (error, class) in cases {
            assert_eq!(Failure::of_chain(&error, "connect_failed"), Failure::class(class), "{error}");
        }
    }
}
