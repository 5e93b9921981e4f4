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
    /// Anything else, by class.
    Error(ErrorClass),
}

impl Failure {
    pub(crate) fn class(name: impl Into<Cow<'static, str>>) -> Self {
        Failure::Error(ErrorClass::new(name))
    }

    /// The class of an I/O error. The limits of this machine have classes of their own: they are not the target's.
    pub(crate) fn of_io(error: &io::Error, otherwise: &'static str) -> Self {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        const EADDRNOTAVAIL: i32 = 99;
        let class = match (error.raw_os_error(), error.kind()) {
            (Some(EMFILE | ENFILE), _) => "too_many_open_files",
            (Some(EADDRNOTAVAIL), _) => "no_free_port",
            (_, io::ErrorKind::ConnectionRefused) => "connection_refused",
            (_, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted) => {
                "connection_reset"
            }
            (_, io::ErrorKind::UnexpectedEof) => "connection_closed",
            (_, io::ErrorKind::TimedOut) => "connect_timeout",
            _ => otherwise,
        };
        Failure::class(class)
    }

    /// The class of an error that wraps others: the first I/O or TLS error in its chain decides.
    pub(crate) fn of_chain(error: &(dyn Error + 'static), otherwise: &'static str) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.downcast_ref::<rustls::Error>().is_some() {
                return Failure::class("tls");
            }
            if let Some(io) = error.downcast_ref::<io::Error>() {
                if let Some(inner) = io.get_ref()
                    && inner.downcast_ref::<rustls::Error>().is_some()
                {
                    return Failure::class("tls");
                }
                return Failure::of_io(io, otherwise);
            }
            next = error.source();
        }
        Failure::class(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_this_machine_are_not_errors_of_the_target() {
        let cases = [
            (io::Error::from_raw_os_error(24), "too_many_open_files"),
            (io::Error::from_raw_os_error(99), "no_free_port"),
            (io::Error::from_raw_os_error(111), "connection_refused"),
            (io::Error::from_raw_os_error(104), "connection_reset"),
            (io::Error::other("odd"), "connect_failed"),
        ];
        for (error, class) in cases {
            assert_eq!(Failure::of_chain(&error, "connect_failed"), Failure::class(class), "{error}");
        }
    }
}
