//! How figures look wherever people read them: terminal, report, Markdown.

/// A count with its thousands separated: `12,345`.
pub fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// Operations a second, with no more digits than they are worth: `1,234/s`, `45.6/s`, `0.50/s`.
pub fn rate(per_s: f64) -> String {
    let decimals = match per_s {
        whole if whole.fract() == 0.0 => 0,
        low if low < 10.0 => 2,
        middling if middling < 100.0 => 1,
        _ => 0,
    };
    format!("{}/s", grouped(&format!("{per_s:.decimals$}")))
}

/// A time given in milliseconds, in the unit that suits it and to three significant digits: `0.834 ms`, `12.3 ms`,
/// `1.24 s`. Below 1 ms it is exact to the microsecond, the resolution of the histograms.
pub fn millis(ms: f64) -> String {
    // The limits are those of rounding, so that 999.7 ms is 1.00 s and never "1000 ms".
    match ms {
        under if under < 0.9995 => format!("{under:.3} ms"),
        under if under < 999.5 => format!("{} ms", three_digits(under)),
        seconds => format!("{} s", grouped(&three_digits(seconds / 1e3))),
    }
}

/// A value of at least 1 to three significant digits.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        units if units < 9.995 => 2,
        tens if tens < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Separates the thousands of a number in decimal digits; its fraction stays as it is.
fn grouped(number: &str) -> String {
    let (whole, fraction) = number.find('.').map_or((number, ""), |point| number.split_at(point));
    let mut text = String::with_capacity(number.len() + number.len() / 3);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

#[cfg(test)]
mod tests {
    use super::{count, millis, rate};

    #[test]
    fn counts_have_separated_thousands() {
        let cases = [
            (0, "0"),
            (7, "7"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn rates_have_the_digits_they_are_worth() {
        let cases =
            [(0.0, "0/s"), (0.5, "0.50/s"), (9.0, "9/s"), (45.64, "45.6/s"), (300.0, "300/s"), (1_234.4, "1,234/s")];
        for (value, text) in cases {
            assert_eq!(rate(value), text);
        }
    }

    #[test]
    fn times_have_three_digits_and_the_unit_that_suits_them() {
        let cases = [
            (0.0, "0.000 ms"),
            (0.834, "0.834 ms"),
            (0.9996, "1.00 ms"),
            (9.996, "10.0 ms"),
            (12.34, "12.3 ms"),
            (999.4, "999 ms"),
            (999.7, "1.00 s"),
            (1_240.0, "1.24 s"),
            (75_210.0, "75.2 s"),
            (3_600_000.0, "3,600 s"),
        ];
        for (value, text) in cases {
            assert_eq!(millis(value), text, "{value}");
        }
    }
}
