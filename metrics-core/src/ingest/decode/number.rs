//! Values and timestamps.

/// A finite number that is not negative.
pub(super) fn float(word: &[u8]) -> Option<f64> {
    // Correctly rounded, as every Prometheus client's is, so that `u64(v × 1e9)` agrees to the nanosecond.
    if let Some(value) = short_float(word) {
        return Some(value);
    }
    let value: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// What kubelets write, `4.710169` or `1.253376e+07`, if it is short: where digits and power of ten are both exact as
/// floats, one division or multiplication rounds correctly (Clinger, "How to read floating point numbers accurately").
fn short_float(word: &[u8]) -> Option<f64> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    /// So many digits are below 2⁵³ whatever they are.
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

/// Towards zero; `None` beyond `u64`, which as nanoseconds holds 584 years: what a node of 512 cores spends in one.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The range is checked before.
pub(super) fn truncate(value: f64) -> Option<u64> {
    (0.0..18_446_744_073_709_551_616.0).contains(&value).then_some(value as u64)
}

/// Integer milliseconds → nanoseconds.
pub(super) fn milliseconds(word: &[u8]) -> Option<i64> {
    let (negative, digits) = sign(word);
    let value = integer(digits)?.checked_mul(1_000_000)?;
    Some(if negative { -value } else { value })
}

/// Seconds with an optional fraction → nanoseconds; exact for up to nine decimals, truncated beyond.
pub(super) fn seconds(word: &[u8]) -> Option<i64> {
    let (negative, digits) = sign(word);
    let value = if digits.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        i64::try_from(truncate(float(digits)? * 1e9)?).ok()?
    } else if let Some(dot) = digits.iter().position(|byte| *byte == b'.') {
        let (whole, fraction) = (&digits[..dot], &digits[dot + 1..]);
        if !fraction.iter().all(u8::is_ascii_digit) || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let nanos = (0..9).fold(0i64, |sum, place| {
            sum * 10 + fraction.get(place).map_or(0, |digit| i64::from(digit - b'0'))
        });
        let whole = if whole.is_empty() { 0 } else { integer(whole)? };
        whole.checked_mul(1_000_000_000)?.checked_add(nanos)?
    } else {
        integer(digits)?.checked_mul(1_000_000_000)?
    };
    Some(if negative { -value } else { value })
}

fn sign(word: &[u8]) -> (bool, &[u8]) {
    match word.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, word),
    }
}

fn integer(digits: &[u8]) -> Option<i64> {
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

    use super::{float, short_float};

    #[test]
    fn what_kubelets_write_is_read_at_once() {
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
        fn rounds_like_the_library(digits in 0u64..1_000_000_000_000_000, places in 0usize..17, exponent in -25i32..26) {
            let mut word = digits.to_string();
            if places < word.len() {
                word.insert(word.len() - places, '.');
            }
            let sign = if exponent < 0 { '-' } else { '+' };
            let long = format!("{word}e{sign}{:02}", exponent.abs());
            for word in [word, long] {
                let right: f64 = word.parse().unwrap();
                prop_assert_eq!(float(word.as_bytes()).map(f64::to_bits), Some(right.to_bits()), "{}", word);
            }
        }
    }
}
