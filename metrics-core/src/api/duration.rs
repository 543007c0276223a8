//! Durations in the format of Go's `time.Duration.String`: `15.012s`, `1m0s`, `1h0m0.5s`, `900ms`.

use super::quantity::push_decimal;

const SECOND: u64 = 1_000_000_000;

/// Appends a duration given in nanoseconds.
pub(super) fn push(out: &mut Vec<u8>, nanoseconds: i64) {
    if nanoseconds < 0 {
        out.push(b'-');
    }
    let magnitude = nanoseconds.unsigned_abs();
    if magnitude == 0 {
        out.extend_from_slice(b"0s");
    } else if magnitude < 1_000 {
        push_fraction(out, magnitude, 1);
        out.extend_from_slice(b"ns");
    } else if magnitude < 1_000_000 {
        push_fraction(out, magnitude, 1_000);
        out.extend_from_slice("µs".as_bytes());
    } else if magnitude < SECOND {
        push_fraction(out, magnitude, 1_000_000);
        out.extend_from_slice(b"ms");
    } else {
        let minutes = magnitude / (60 * SECOND);
        if minutes >= 60 {
            push_decimal(out, minutes / 60);
            out.push(b'h');
        }
        if minutes > 0 {
            push_decimal(out, minutes % 60);
            out.push(b'm');
        }
        push_fraction(out, magnitude % (60 * SECOND), SECOND);
        out.push(b's');
    }
}

/// Appends `value / unit` with all significant decimals. `unit` is a power of ten, at most a second.
fn push_fraction(out: &mut Vec<u8>, value: u64, unit: u64) {
    push_decimal(out, value / unit);
    let rest = value % unit;
    if rest == 0 {
        return;
    }
    // Always nine decimals; the leading 1 keeps their leading zeros and is cut off below.
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(SECOND + rest * (SECOND / unit)).trim_end_matches('0');
    out.push(b'.');
    out.extend_from_slice(&digits.as_bytes()[1..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn text(nanoseconds: i64) -> String {
        let mut out = Vec::new();
        super::push(&mut out, nanoseconds);
        String::from_utf8(out).unwrap()
    }

    /// A simple `time.ParseDuration`.
    fn parse(text: &str) -> i128 {
        let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let mut total = 0;
        while !rest.is_empty() {
            let number = &rest[..rest.find(|c: char| c.is_alphabetic()).unwrap()];
            rest = &rest[number.len()..];
            let unit = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
            rest = &rest[unit.len()..];
            let factor: i128 = match unit {
                "ns" => 1,
                "µs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                other => panic!("unit {other}"),
            };
            let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
            assert!(!decimals.ends_with('0'));
            total += whole.parse::<i128>().unwrap() * factor;
            if !decimals.is_empty() {
                let places = u32::try_from(decimals.len()).unwrap();
                total += decimals.parse::<i128>().unwrap() * factor / 10_i128.pow(places);
            }
        }
        sign * total
    }

    #[test]
    fn writes_durations_as_go_does() {
        // From the examples and tests of Go's package time.
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
            (15_012_000_000, "15.012s"),
            (60_000_000_000, "1m0s"),
        ] {
            assert_eq!(text(nanoseconds), expected);
        }
    }

    proptest! {
        #[test]
        fn durations_parse_back(nanoseconds in any::<i64>(), shift in 0_u32..60) {
            let nanoseconds = nanoseconds >> shift;
            prop_assert_eq!(parse(&text(nanoseconds)), i128::from(nanoseconds));
        }
    }
}
