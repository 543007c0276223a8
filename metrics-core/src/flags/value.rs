//! Values of flags, in Go's syntax.
//!
//! Blanks around a value, and quotes around it, are removed: in a manifest, YAML keeps the quotes of
//! `- --flag="value"`. Go's flag library removes those of lists, too.

use std::str::FromStr;
use std::time::Duration;

use super::table::{Flag, ValueKind, flags};
use super::{Arguments, Error};

/// Returns the last value of `name`, or its default; `None` if that is empty.
pub(super) fn text(arguments: &Arguments, name: &str) -> Option<String> {
    let flag = named(name)?;
    let value = unquote(arguments.last(name).unwrap_or(flag.default));
    Some(value).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Returns the list of all values, split at commas, also at those in quotes, or the default. Items can't contain commas.
pub(super) fn list(arguments: &Arguments, name: &str) -> Vec<String> {
    let items = items(arguments, name);
    let words = items.iter().flat_map(|item| item.split(',')).map(unquote);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns the list of all values, split at commas that are not in quotes, or the default. An item that consists of
/// blanks or quotes is returned as an empty one.
pub(super) fn items(arguments: &Arguments, name: &str) -> Vec<String> {
    let Some(flag) = named(name) else { return Vec::new() };
    debug_assert_eq!(flag.kind, ValueKind::List);
    if arguments.is_set(name) {
        arguments.all(name).flat_map(split_items).collect()
    } else {
        split_items(flag.default)
    }
}

fn split_items(value: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut rest = value;
    loop {
        let (item, behind) = match quoted_item(rest) {
            Some((item, behind)) => (Some(item), behind),
            None => match rest.split_once(',') {
                Some((item, behind)) => (Some(item).filter(|item| !item.is_empty()), Some(behind)),
                None => (Some(rest).filter(|item| !item.is_empty()), None),
            },
        };
        items.extend(item.map(|item| unquote(item).to_owned()));
        match behind {
            Some(behind) => rest = behind,
            None => return items,
        }
    }
}

/// Returns the first item without its quotes, if it has quotes, and the items behind it, if there are any.
fn quoted_item(items: &str) -> Option<(&str, Option<&str>)> {
    let start = items.trim_start();
    let quote = start.chars().next().filter(|c| QUOTES.contains(c))?;
    let (item, behind) = start[1..].split_once(quote)?;
    match behind.trim_start() {
        "" => Some((item, None)),
        behind => behind.strip_prefix(',').map(|behind| (item, Some(behind))),
    }
}

const QUOTES: [char; 2] = ['"', '\''];

/// Removes blanks, and one pair of quotes if there are no further ones of its kind.
fn unquote(value: &str) -> &str {
    let value = value.trim();
    let inner = QUOTES.iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    match inner {
        Some(inner) if !inner.contains(QUOTES) => inner.trim(),
        _ => value,
    }
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

    use super::{parse_duration, split_items, unquote};

    #[test]
    fn removes_blanks_and_one_pair_of_quotes() {
        for (value, expected) in [
            ("a", "a"),
            (" a ", "a"),
            ("\"a\"", "a"),
            ("'a b'", "a b"),
            (" \" a \" ", "a"),
            ("\"\"", ""),
            ("\"", "\""),
            ("\"a", "\"a"),
            ("\"a'", "\"a'"),
            ("\"a\",\"b\"", "\"a\",\"b\""),
        ] {
            assert_eq!(unquote(value), expected, "{value}");
        }
    }

    #[test]
    fn splits_lists_as_go_does() {
        for (value, expected) in [
            ("", &[] as &[&str]),
            ("a,b", &["a", "b"]),
            (",a,,b,", &["a", "b"]),
            ("a, b , c", &["a", "b", "c"]),
            ("\"a\"", &["a"]),
            ("\"a\", \"b\"", &["a", "b"]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("'a','b'", &["a", "b"]),
            ("a, ,b", &["a", "", "b"]),
            ("\"\"", &[""]),
            ("\"a,b", &["\"a", "b"]),
            ("\"a\"b,c", &["\"a\"b", "c"]),
        ] {
            assert_eq!(split_items(value), expected, "{value}");
        }
    }

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
