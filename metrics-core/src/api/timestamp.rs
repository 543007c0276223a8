//! Timestamps in the form of `metav1.Time`: UTC, whole seconds.

use jiff::{Timestamp, tz::Offset};

/// Returns whole seconds since the Unix epoch, rounded down as in the text form.
pub(super) fn seconds(nanoseconds: i64) -> i64 {
    nanoseconds.div_euclid(1_000_000_000)
}

/// Appends nanoseconds since the Unix epoch as RFC 3339: `2026-07-01T12:34:56Z`.
///
/// Every `i64` of nanoseconds lies in the years 1677 to 2262, so four digits hold the year.
pub(super) fn push(out: &mut Vec<u8>, nanoseconds: i64) {
    let at = Timestamp::from_second(seconds(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = Offset::UTC.to_datetime(at);
    let year = at.year().unsigned_abs();
    let pair = |value: u16| {
        // Two decimal digits fit two bytes.
        #[allow(clippy::cast_possible_truncation)]
        let digits = [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8];
        digits
    };
    out.extend_from_slice(&pair(year / 100));
    out.extend_from_slice(&pair(year % 100));
    for (separator, value) in
        [(b'-', at.month()), (b'-', at.day()), (b'T', at.hour()), (b':', at.minute()), (b':', at.second())]
    {
        out.push(separator);
        out.extend_from_slice(&pair(u16::from(value.unsigned_abs())));
    }
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn text(nanoseconds: i64) -> String {
        let mut out = Vec::new();
        super::push(&mut out, nanoseconds);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rounds_down_to_seconds() {
        assert_eq!(text(1_782_909_296_789_000_000), "2026-07-01T12:34:56Z");
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn formats_as_jiff_does(nanoseconds in any::<i64>()) {
            let at = jiff::Timestamp::from_second(nanoseconds.div_euclid(1_000_000_000)).unwrap();
            prop_assert_eq!(text(nanoseconds), at.to_string());
        }
    }
}
