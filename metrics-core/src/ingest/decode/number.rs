//! Parses values and timestamps.

/// Parses a finite number that is not negative.
pub(super) fn parse_float(word: &[u8]) -> Option<f64> {
    // Correctly rounded, like every Prometheus client, so that `u64(v × 1e9)` agrees to the nanosecond.
    if let Some(value) = short_float(word) {
        return Some(value);
    }
    let value: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// Parses a short number as kubelets write it: `4.710169` or `1.253376e+07`. Where the digits and the power of ten
/// are both exact as floats, one division or multiplication rounds correctly (Clinger, "How to read floating point
/// numbers accurately").
fn short_float(word: &[u8]) -> Option<f64> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    /// Any number of this many digits is below 2⁵³.
    const DIGITS: usize = 15;
    let (mut digits, mut count, mut power) = (0u64, 0, 0i32);
    let (mut at, mut is_fraction) = (0, false);
    while let Some(byte) = word.get(at) {
        match byte {
            b'0'..=b'9' => {
                digits = digits * 10 + u64::from(byte - b'0');
                count += 1;
                power -= i32::from(is_fraction);
                if count > DIGITS {
                    return None;
                }
            }
            b'.' if !is_fraction => is_fraction = true,
            b'e' => break,
            _ => return None,
        }
        at += 1;
    }
    if count == 0 {
        return None;
    }
    if let Some((b'e', exponent)) = word.get(at..)?.split_first() {
        let [sign @ (b'+' | b'-'), tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = exponent else { return None };
        let exponent = i32::from(tens - b'0') * 10 + i32::from(ones - b'0');
        power += if *sign == b'-' { -exponent } else { exponent };
    }
    #[allow(clippy::cast_precision_loss)] // Below 2⁵³.
    let digits = digits as f64;
    let scale = *POWERS.get(power.unsigned_abs() as usize)?;
    Some(if power < 0 { digits / scale } else { digits * scale })
}

/// Truncates towards zero; `None` beyond `u64`. As nanoseconds that is 584 years of CPU time: what a node with 512
/// cores spends in little more than a year.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The range is checked before.
pub(super) fn truncate(value: f64) -> Option<u64> {
    (0.0..18_446_744_073_709_551_616.0).contains(&value).then_some(value as u64)
}

/// Parses integer milliseconds; returns nanoseconds.
pub(super) fn parse_milliseconds(word: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(word);
    let value = parse_integer(digits)?.checked_mul(1_000_000)?;
    Some(if negative { -value } else { value })
}

/// Parses seconds with an optional fraction; returns nanoseconds, exact for nine decimals and truncated beyond.
pub(super) fn parse_seconds(word: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(word);
    let value = if digits.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        i64::try_from(truncate(parse_float(digits)? * 1e9)?).ok()?
    } else if let Some(dot) = digits.iter().position(|byte| *byte == b'.') {
        let (whole, fraction) = (&digits[..dot], &digits[dot + 1..]);
        if !fraction.iter().all(u8::is_ascii_digit) || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let nanos = (0..9).fold(0i64, |sum, place| {
            sum * 10 + fraction.get(place).map_or(0, |digit| i64::from(digit - b'0'))
        });
        let whole = if whole.is_empty() { 0 } else { parse_integer(whole)? };
        whole.checked_mul(1_000_000_000)?.checked_add(nanos)?
    } else {
        parse_integer(digits)?.checked_mul(1_000_000_000)?
    };
    Some(if negative { -value } else { value })
}

fn split_sign(word: &[u8]) -> (bool, &[u8]) {
    match word.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, word),
    }
}

fn parse_integer(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0i64, |sum, digit| {
        digit.is_ascii_digit().then_some(())?;
        sum.checked_mul(10)?.checked_add(i64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{parse_float, short_float};

    #[test]
    fn parses_what_kubelets_write_on_the_fast_path() {
        for word in ["0", "4.710169", "1.253376e+07", "357.35491", "1.616273408e+09", "5e-06", "12."] {
            assert_eq!(short_float(word.as_bytes()), word.parse().ok(), "{word}");
        }
        for word in ["", ".", "e+07", "1e7", "1.2.3", "-1", "+1", "NaN", "1_0", "1633253812.1252818", "1e+23"]
        {
            assert_eq!(short_float(word.as_bytes()), None, "{word}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn rounds_like_the_standard_library(digits in 0u64..1_000_000_000_000_000, places in 0usize..17, exponent in -25i32..26) {
            let mut word = digits.to_string();
            if places < word.len() {
                word.insert(word.len() - places, '.');
            }
            let sign = if exponent < 0 { '-' } else { '+' };
            let long = format!("{word}e{sign}{:02}", exponent.abs());
            for word in [word, long] {
                let right: f64 = word.parse().unwrap();
                prop_assert_eq!(parse_float(word.as_bytes()).map(f64::to_bits), Some(right.to_bits()), "{}", word);
            }
        }
    }
}
