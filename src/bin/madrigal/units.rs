//! Durations, rates and names of things as people write and read them.

use std::time::Duration;

/// Parses `500ms`, `2s`, `1.5s`, `3m`; a number alone counts seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number, of seconds or with a unit: 2, 500ms, 3m".to_owned())?;
    let seconds_each = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit '{unit}': ns, us, ms, s, m and h are known")),
    };
    Duration::try_from_secs_f64(number * seconds_each).map_err(|error| error.to_string())
}

/// Parses messages per second: a positive number, with `k` or `M` for thousands and millions.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.strip_suffix(['k', 'M']) {
        Some(number) if text.ends_with('k') => (number, 1e3),
        Some(number) => (number, 1e6),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate * factor),
        _ => Err("expected messages per second above zero, as in 500, 20k or 1.5M".to_owned()),
    }
}

/// Nanoseconds with a unit and about three digits that mean something.
pub(crate) fn show_ns(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{} ns", three_digits(ns)),
        ns if ns < 1e6 => format!("{} us", three_digits(ns / 1e3)),
        ns if ns < 1e9 => format!("{} ms", three_digits(ns / 1e6)),
        ns => format!("{} s", three_digits(ns / 1e9)),
    }
}

/// A count with commas between the thousands.
pub(crate) fn show_count(count: f64) -> String {
    let digits = format!("{:.0}", count.max(0.0));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with as many decimals as make three digits.
pub(crate) fn three_digits(number: f64) -> String {
    match number.abs() {
        size if size < 0.1 => format!("{number:.3}"),
        size if size < 10.0 => format!("{number:.2}"),
        size if size < 100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_usual_units() {
        for (text, nanos) in [
            ("2", 2_000_000_000),
            ("1.5s", 1_500_000_000),
            ("500ms", 500_000_000),
            ("20us", 20_000),
            ("7ns", 7),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "s", "-1s", "1.2.3s", "5 s", "5d", "99999999999999999999h", "1e5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_take_thousands_and_millions() {
        for (text, rate) in [("500", 500.0), ("20k", 20e3), ("1.5M", 1.5e6)] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for text in ["", "k", "0", "-5", "inf", "NaN", "5G", "5kM"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(show_ns(75.0), "75.0 ns");
        assert_eq!(show_ns(18_250.0), "18.2 us");
        assert_eq!(show_ns(1_500_000.0), "1.50 ms");
        assert_eq!(show_ns(2e9), "2.00 s");
        assert_eq!(show_count(999.0), "999");
        assert_eq!(show_count(57_000.4), "57,000");
        assert_eq!(show_count(1_234_567.0), "1,234,567");
    }
}
