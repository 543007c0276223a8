//! A component's command line, and changes to it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A change to a command line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FlagChange {
    /// `--key=value`, which replaces any other value of that key. Key and value are one argument, whatever spaces or
    /// quotes the value contains.
    Set(String, String),
    /// Removes the flag.
    Remove(String),
    /// A further argument, passed unchanged.
    Verbatim(String),
}

impl FlagChange {
    /// Returns a change that sets a flag.
    #[must_use]
    pub fn set(key: &str, value: &str) -> Self {
        Self::Set(key.to_owned(), value.to_owned())
    }

    /// Returns a change that removes a flag.
    #[must_use]
    pub fn remove(key: &str) -> Self {
        Self::Remove(key.to_owned())
    }
}

impl FromStr for FlagChange {
    type Err = String;

    /// `key=value` sets a flag, `key-` removes it; a text that starts with `--` is one more argument, passed
    /// unchanged.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("--") {
            return Ok(Self::Verbatim(text.to_owned()));
        }
        if let Some((key, value)) = text.split_once('=') {
            return Ok(Self::set(key, value));
        }
        match text.strip_suffix('-') {
            Some(key) if !key.is_empty() => Ok(Self::remove(key)),
            _ => Err(format!(
                "{text:?}: write key=value to set a flag, key- to remove it, --… to add it verbatim"
            )),
        }
    }
}

/// Returns the command line after the changes, applied in order.
#[must_use]
pub(super) fn changed(mut arguments: Vec<String>, changes: &[FlagChange]) -> Vec<String> {
    for change in changes {
        match change {
            FlagChange::Set(key, value) => {
                let argument = format!("--{key}={value}");
                let place = arguments.iter().position(|known| has_key(known, key));
                arguments.retain(|known| !has_key(known, key));
                arguments.insert(place.unwrap_or(arguments.len()), argument);
            }
            FlagChange::Remove(key) => arguments.retain(|known| !has_key(known, key)),
            FlagChange::Verbatim(argument) => arguments.push(argument.clone()),
        }
    }
    arguments
}

fn has_key(argument: &str, key: &str) -> bool {
    let rest = argument.strip_prefix("--").and_then(|flag| flag.strip_prefix(key));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(changes: &[&str]) -> Vec<String> {
        let arguments = ["--a=1", "--ab=2", "--c"].map(str::to_owned).to_vec();
        let changes: Vec<FlagChange> = changes.iter().map(|text| text.parse().unwrap()).collect();
        changed(arguments, &changes)
    }

    #[test]
    fn set_replaces_or_appends_a_flag() {
        assert_eq!(after(&["a=9"]), ["--a=9", "--ab=2", "--c"]);
        assert_eq!(after(&["d=x=y"]), ["--a=1", "--ab=2", "--c", "--d=x=y"]);
    }

    #[test]
    fn remove_matches_the_exact_key() {
        assert_eq!(after(&["a-", "c-"]), ["--ab=2"]);
    }

    #[test]
    fn keeps_an_argument_with_spaces_as_one() {
        assert_eq!(after(&["a=X- --b=Y --c=Z"])[0], "--a=X- --b=Y --c=Z");
        assert_eq!(after(&["--e f"])[3], "--e f");
    }

    #[test]
    fn rejects_invalid_changes_with_a_remedy() {
        assert!("oops".parse::<FlagChange>().unwrap_err().contains("key=value"));
        assert!("-".parse::<FlagChange>().is_err());
    }
}
