//! Faults on demand, by query parameter on any route.
//!
//! | `fault=` | what happens |
//! |---|---|
//! | `status:503` | this status, at once |
//! | `delay:250ms` | the answer comes so much later |
//! | `hang` | no answer for a minute |
//! | `reset` | the connection is reset (TCP RST) |
//! | `drip:10ms` | the body comes byte by byte, each after so long |
//! | `upgrade:404` | `/ws` only: the upgrade is refused with this status |
//! | `close:1011` | `/ws` only: closed with this code after the first message |
//!
//! With `rate=0.1` one request in ten has the fault.

use std::time::Duration;

use url::form_urlencoded;

/// Longest delay that can be asked for.
const MOST_DELAY: Duration = Duration::from_secs(60);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, at once.
    Status(u16),
    /// The answer comes later.
    Delay(Duration),
    /// No answer.
    Hang,
    /// TCP reset.
    Reset,
    /// The body comes byte by byte.
    Drip(Duration),
    /// The WebSocket upgrade is refused with this status.
    Upgrade(u16),
    /// The WebSocket is closed with this code after the first message.
    Close(u16),
}

/// A fault with its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// What goes wrong.
    pub fault: Fault,
    /// How often, 0 to 1.
    pub rate: f64,
}

const HELP: &str = "fault is status:CODE, delay:TIME, hang, reset, drip:TIME, upgrade:CODE or close:CODE (times like \
                    250ms or 2s, at most 60s); rate is a number from 0 to 1";

/// The fault that a query asks for; none where it asks for none.
///
/// # Errors
/// A sentence that says what may be asked for.
pub fn wish(query: &str) -> Result<Option<Wish>, &'static str> {
    let value =
        |name: &str| form_urlencoded::parse(query.as_bytes()).find_map(|(key, value)| (key == name).then_some(value));
    let Some(text) = value("fault") else { return Ok(None) };
    let rate = match value("rate") {
        None => 1.0,
        Some(rate) => rate.parse().ok().filter(|rate| (0.0..=1.0).contains(rate)).ok_or(HELP)?,
    };
    parse(&text).map(|fault| Some(Wish { fault, rate })).ok_or(HELP)
}

fn parse(text: &str) -> Option<Fault> {
    let (word, argument) = text.split_once(':').unwrap_or((text, ""));
    let number = |range: std::ops::RangeInclusive<u16>| argument.parse().ok().filter(|number| range.contains(number));
    Some(match word {
        "status" => Fault::Status(number(200..=599)?),
        "delay" => Fault::Delay(time(argument)?),
        "hang" if argument.is_empty() => Fault::Hang,
        "reset" if argument.is_empty() => Fault::Reset,
        "drip" => Fault::Drip(time(argument)?),
        "upgrade" => Fault::Upgrade(number(400..=599)?),
        "close" => Fault::Close(number(1000..=4999).filter(|code| may_be_sent(*code))?),
        _ => return None,
    })
}

/// Whether a close frame may carry this code (RFC 6455, section 7.4).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn time(text: &str) -> Option<Duration> {
    let time = match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().ok()?),
        None => Duration::from_secs(text.strip_suffix('s')?.parse().ok()?),
    };
    (time <= MOST_DELAY).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_asked_for() {
        let cases = [
            ("fault=status:503", Fault::Status(503)),
            ("a=b&fault=delay:250ms", Fault::Delay(Duration::from_millis(250))),
            ("fault=delay%3a2s", Fault::Delay(Duration::from_secs(2))),
            ("fault=delay%3A2s", Fault::Delay(Duration::from_secs(2))),
            ("fault=hang", Fault::Hang),
            ("fault=reset", Fault::Reset),
            ("fault=drip:10ms", Fault::Drip(Duration::from_millis(10))),
            ("fault=upgrade:404", Fault::Upgrade(404)),
            ("fault=close:1011", Fault::Close(1011)),
        ];
        for (query, fault) in cases {
            assert_eq!(wish(query), Ok(Some(Wish { fault, rate: 1.0 })), "{query}");
        }
        assert_eq!(wish("fault=hang&rate=0.1"), Ok(Some(Wish { fault: Fault::Hang, rate: 0.1 })));
        assert_eq!(wish("q=graph"), Ok(None));
    }

    #[test]
    fn a_wish_that_makes_no_sense_is_refused() {
        for query in
            ["fault=boom", "fault=status:99", "fault=delay:1h", "fault=delay:61s", "fault=hang&rate=2", "fault="]
        {
            assert!(wish(query).is_err(), "{query}");
        }
        // Codes that no close frame may carry (RFC 6455, section 7.4).
        for code in [999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert!(wish(&format!("fault=close:{code}")).is_err(), "{code}");
        }
    }
}
