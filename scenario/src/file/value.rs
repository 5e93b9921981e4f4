//! Durations, rates, statuses and other small values in the plan's own notation.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::flow::Think;

/// `10s`, `500ms`, `250us`, `2m`, `1h`, `1m30s`, `1.5s`.
pub(super) const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(us|µs|ms|s|m|h))+$";
/// `300/s`, `100/m`, `5000/h`.
pub(super) const RATE: &str = r"^[0-9]+(\.[0-9]+)?/(s|m|h)$";

/// `500B`, `64KiB`, `10MB`.
pub(super) const SIZE: &str = r"^[0-9]+(\.[0-9]+)?(B|KB|MB|GB|KiB|MiB|GiB)$";

/// A duration in the plan's notation; the error says what is wrong.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const HELP: &str = "write a number with its unit, like 500ms, 10s, 2m or 1m30s";
    let mut left = text.trim();
    if left.is_empty() {
        return Err(HELP);
    }
    let mut total = Duration::ZERO;
    while !left.is_empty() {
        let digits = left.find(|character: char| !(character.is_ascii_digit() || character == '.')).ok_or(HELP)?;
        let (number, rest) = left.split_at(digits);
        let letters = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(letters);
        let seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(HELP),
        };
        let number: f64 = number.parse().map_err(|_| HELP)?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| "it is too long")?;
        total = total.checked_add(part).ok_or("it is too long")?;
        left = rest;
    }
    Ok(total)
}

/// Per second.
pub(super) fn rate(text: &str) -> Result<f64, &'static str> {
    const HELP: &str = "write a number per time, like 300/s, 100/m or 5000/h";
    let (number, unit) = text.trim().split_once('/').ok_or(HELP)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(HELP),
    };
    let number: f64 = number.trim().parse().map_err(|_| HELP)?;
    if !number.is_finite() {
        return Err(HELP);
    }
    if number < 0.0 {
        return Err("a rate can't be below zero");
    }
    Ok(number / seconds)
}

/// `5%` or `0.05`, as a ratio above 0 and below 1.
pub(super) fn part(text: &str) -> Result<f64, &'static str> {
    const HELP: &str = "write a percentage like 5%, above 0% and below 100%";
    let ratio = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse(),
    };
    ratio.ok().filter(|ratio| *ratio > 0.0 && *ratio < 1.0).ok_or(HELP)
}

/// `200`, `2xx`, `200-204`.
pub(super) fn status_range(text: &str) -> Result<(u16, u16), &'static str> {
    const HELP: &str = "write a status like 200, a class like 2xx or a range like 200-204";
    let valid = |status: u16| (100..=599).contains(&status);
    let one = |text: &str| text.trim().parse::<u16>().ok().filter(|status| valid(*status)).ok_or(HELP);
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().map_err(|_| HELP)?;
        return if (1..=5).contains(&class) { Ok((class * 100, class * 100 + 99)) } else { Err(HELP) };
    }
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (one(low)?, one(high)?),
        None => (one(text)?, one(text)?),
    };
    if low > high { Err("the range ends before it begins") } else { Ok((low, high)) }
}

/// `1s`, `1s..3s` or `exp(2s)`.
pub(super) fn think(text: &str) -> Result<Think, &'static str> {
    if let Some(mean) = text.trim().strip_prefix("exp(").and_then(|rest| rest.strip_suffix(')')) {
        return duration(mean).map(Think::Exponential);
    }
    match text.split_once("..") {
        None => duration(text).map(Think::Fixed),
        Some((low, high)) => {
            let (low, high) = (duration(low)?, duration(high)?);
            if low > high { Err("the range ends before it begins") } else { Ok(Think::Between(low, high)) }
        }
    }
}

/// Bytes: `1000`, `500B`, `64KiB` (1,024 bytes each), `10MB` (1,000,000).
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    const HELP: &str = "write a number of bytes with its unit, like 500B, 64KiB or 10MB";
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "B" => 1.0,
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(HELP),
    };
    let bytes = number.trim().parse::<f64>().map_err(|_| HELP)? * factor;
    if (0.0..=1e15).contains(&bytes) { Ok(bytes as u64) } else { Err("it must lie between 0 and 1,000,000 GB") }
}

/// An IP address with a port or without (0).
pub(super) fn address(text: &str) -> Result<std::net::SocketAddr, &'static str> {
    let text = text.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let parsed = text.parse().or_else(|_| bare.parse().map(|ip: std::net::IpAddr| (ip, 0).into()));
    parsed.map_err(|_: std::net::AddrParseError| "write an IP address like 10.0.0.1, 10.0.0.1:8443 or [::1]:8443")
}

/// Bytes in base64.
pub(super) fn binary(text: &str) -> Result<Vec<u8>, &'static str> {
    BASE64.decode(text.trim()).map_err(|_| "write the bytes in base64, like AAECAw==")
}

/// The text nearest to `given`, if it is near enough to be meant.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |word: &str| strsim::damerau_levenshtein(given, word);
    let limit = (given.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|word| (distance(word), word))
        .filter(|(distance, word)| *distance <= limit && *distance < word.chars().count().max(2))
        .min()
        .map(|(_, word)| word)
}
