//! Values of flags, in Go's syntax.

use std::str::FromStr;
use std::time::Duration;

use super::table::{Flag, ValueKind, flags};
use super::{Arguments, Error};

/// Returns the last value of `name`, or its default; `None` if that is empty.
pub(super) fn text(arguments: &Arguments, name: &str) -> Option<String> {
    let flag = named(name)?;
    Some(arguments.last(name).unwrap_or(flag.default)).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Returns the list of all values, split at commas, or the default.
pub(super) fn list(arguments: &Arguments, name: &str) -> Vec<String> {
    let Some(flag) = named(name) else { return Vec::new() };
    debug_assert_eq!(flag.kind, ValueKind::List);
    let split =
        |value: &str| value.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    if arguments.is_set(name) { arguments.all(name).flat_map(split).collect() } else { split(flag.default) }
}

/// Returns a bool, parsed as Go's strconv.ParseBool does.
pub(super) fn boolean(arguments: &Arguments, name: &'static str) -> Result<bool, Error> {
    match text(arguments, name).as_deref() {
        None | Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(false),
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(true),
        Some(value) => Err(Error::value(
            name,
            value,
            "is neither true nor false",
            &format!("use --{name}, --{name}=true or --{name}=false"),
        )),
    }
}

/// Returns an integer from `min` to `max`.
pub(super) fn number<N>(arguments: &Arguments, name: &'static str, min: N, max: N) -> Result<N, Error>
where
    N: FromStr + PartialOrd + std::fmt::Display + Copy,
{
    let value = text(arguments, name).unwrap_or_default();
    match value.parse::<N>() {
        Ok(number) if number >= min && number <= max => Ok(number),
        _ => Err(Error::value(
            name,
            &value,
            "is out of range or not an integer",
            &format!("use an integer from {min} to {max}"),
        )),
    }
}

/// Returns a Go duration of at least `min`.
pub(super) fn duration(arguments: &Arguments, name: &'static str, min: Duration) -> Result<Duration, Error> {
    let value = text(arguments, name).unwrap_or_default();
    let remedy = || format!("use a duration with a unit, such as 15s, 1m30s or 500ms, of at least {min:?}");
    match parse_duration(&value) {
        Some(duration) if duration >= min => Ok(duration),
        Some(_) => Err(Error::value(name, &value, "is too short", &remedy())),
        None => Err(Error::value(name, &value, "is not a duration", &remedy())),
    }
}

fn named(name: &str) -> Option<&'static Flag> {
    let flag = flags().find(|flag| flag.name == name);
    debug_assert!(flag.is_some(), "--{name} is not in the table");
    flag
}

/// Parses a duration as Go's time.ParseDuration does, without negative values: `1h2m3.5s`, `250ms`, `0`.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = behind;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse_duration;

    #[test]
    fn parses_durations_as_go_does() {
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!(parse_duration("15s"), millis(15_000));
        assert_eq!(parse_duration("1m0s"), millis(60_000));
        assert_eq!(parse_duration("1h1.5s"), millis(3_601_500));
        assert_eq!(parse_duration("250ms"), millis(250));
        assert_eq!(parse_duration("0"), millis(0));
        assert_eq!(parse_duration(".5s"), millis(500));
        for wrong in ["", "15", "s", "-1s", "1 s", "1d", "1e3s", "1.2.3s", "99999999999999999999h"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
