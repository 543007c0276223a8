//! Times of a certificate (RFC 5280, section 4.1.2.5), in seconds since the Unix epoch. Negative before 1970.

use crate::der::{GENERALIZED_TIME, Reader, UTC_TIME};

/// Reads a UTCTime or a GeneralizedTime. As in Go, a UTCTime may lack seconds, and both may have an offset.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<i64> {
    let element = reader.any()?;
    let zone = element.content.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, zone) = element.content.split_at(zone);
    let offset = offset(zone)?;
    let (year, rest) = match element.tag {
        UTC_TIME if matches!(digits.len(), 10 | 12) => {
            let year = number(&digits[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let field = |at: usize| rest.get(at..at + 2).map_or(0, number);
    let (month, day, hour, minute, second) = (field(0), field(2), field(4), field(6), field(8));
    if hour > 23 || minute > 59 || second > 59 || day < 1 || day > days_of(year, month)? {
        return None;
    }
    Some(days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// Returns the seconds that local time is ahead of UTC. UTC itself is written as Z only.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), digits @ ..] if digits.len() == 4 && digits.iter().all(u8::is_ascii_digit) => {
            let (hours, minutes) = (number(&digits[..2]), number(&digits[2..]));
            if hours > 23 || minutes > 59 || (hours, minutes) == (0, 0) {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            Some(if *sign == b'+' { seconds } else { -seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}

fn days_of(year: i64, month: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Returns the days since 1970-01-01 in the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Returns a time in RFC 3339.
pub(crate) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("{seconds} seconds after 1970-01-01T00:00:00Z"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::der::{GENERALIZED_TIME, Reader, UTC_TIME};

    fn time(tag: u8, text: &str) -> Option<i64> {
        let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
        der.extend(text.as_bytes());
        read(&mut Reader::new(&der))
    }

    #[test]
    fn reads_times_from_year_0_to_9999() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "691231235959Z", -1),
            (UTC_TIME, "500101000000Z", -631_152_000),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "240229120000Z", 1_709_208_000),
            (UTC_TIME, "7001010001Z", 60),
            (UTC_TIME, "700101010000+0100", 0),
            (UTC_TIME, "691231233000-0030", 0),
            (GENERALIZED_TIME, "19690101000000Z", -31_536_000),
            (GENERALIZED_TIME, "00000101000000Z", -62_167_219_200),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(time(tag, text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn refuses_other_notations() {
        for text in [
            "700101000000",
            "700101000000+0000",
            "700101000060Z",
            "700101240000Z",
            "700101006000Z",
            "700229000000Z",
            "701301000000Z",
            "700001000000Z",
            "700100000000Z",
            "70010100Z",
            "700101000000.5Z",
            "700101000000+2400",
            "19700101000000Z",
            "",
        ] {
            assert_eq!(time(UTC_TIME, text), None, "{text}");
        }
        for text in ["700101000000Z", "20230229000000Z", "19700101000000.5Z", "197001010000Z"] {
            assert_eq!(time(GENERALIZED_TIME, text), None, "{text}");
        }
        assert_eq!(time(4, "700101000000Z"), None);
    }
}
