//! Why an operation failed, as a class that a report can count and explain.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use groundswell_stats::ErrorClass;

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

    /// The class of an error that wraps others: the first I/O or TLS error in its chain decides.
    pub(crate) fn of_chain(error: &(dyn Error + 'static), otherwise: &'static str) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Failure::class(class_of_tls(tls));
            }
            if let Some(class) = error.downcast_ref::<h2::Error>().and_then(class_of_http2) {
                return Failure::class(class);
            }
            if error.is::<HeadTooLarge>() {
                return Failure::class("headers_too_large");
            }
            if let Some(io) = error.downcast_ref::<io::Error>() {
                // An I/O error may carry one of the others.
                return match io.get_ref() {
                    Some(inner)
                        if io.raw_os_error().is_none() && !matches!(io.kind(), io::ErrorKind::UnexpectedEof) =>
                    {
                        Failure::of_inner(inner, io, otherwise)
                    }
                    _ => Failure::of_io(io, otherwise),
                };
            }
            next = error.source();
        }
        Failure::class(otherwise)
    }

    fn of_inner(inner: &(dyn Error + Send + Sync + 'static), io: &io::Error, otherwise: &'static str) -> Self {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            Failure::class(class_of_tls(tls))
        } else if inner.is::<HeadTooLarge>() {
            Failure::class("headers_too_large")
        } else {
            Failure::of_io(io, otherwise)
        }
    }
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
        _ if error.is_go_away() && error.is_remote() => "http2_goaway",
        _ if error.is_reset() && error.is_remote() => "http2_reset",
        _ => "protocol",
    })
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
        for (errno, class) in [(24, "too_many_open_files"), (23, "too_many_open_files"), (99, "no_free_port")] {
            let failure = Failure::of_chain(&io::Error::from_raw_os_error(errno), "connect_failed");
            assert_eq!(failure, Failure::Unsent(ErrorClass::new(class)));
        }
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, expired);
        assert_eq!(Failure::of_chain(&wrapped, "tls"), Failure::class("tls_certificate_expired"));
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
