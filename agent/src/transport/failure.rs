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

impl Failure {
    pub(crate) fn class(name: impl Into<Cow<'static, str>>) -> Self {
        Failure::Error(ErrorClass::new(name))
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
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return match io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(tls) => Failure::class(class_of_tls(tls)),
                    None => Failure::of_io(io, otherwise),
                };
            }
            next = error.source();
        }
        Failure::class(otherwise)
    }
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
