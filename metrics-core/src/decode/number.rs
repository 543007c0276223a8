//! Values and timestamps.

/// A finite number that is not negative.
pub(super) fn float(word: &[u8]) -> Option<f64> {
    // Correctly rounded, as every Prometheus client's is, so that `u64(v × 1e9)` agrees to the nanosecond.
    let value: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// Towards zero; `None` beyond `i64`, which no counter reaches and no later sum can overflow from.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The range is checked before.
pub(super) fn truncate(value: f64) -> Option<u64> {
    (0.0..9.2e18).contains(&value).then_some(value as u64)
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
