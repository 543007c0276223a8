//! Parses arguments in Go's syntax according to the table.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};

use super::table::{Flag, SECTIONS, Support, ValueKind, flags};
use super::{CommandLine, Error, Options};

/// The flags that are set and their values, by name.
#[derive(Debug, Default)]
pub(crate) struct Arguments(BTreeMap<&'static str, Vec<String>>);

impl Arguments {
    /// Returns whether the flag is set.
    #[must_use]
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the last value.
    #[must_use]
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.last()).map(String::as_str)
    }

    /// Returns all values in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Returns the flags that are set and ignored, each with the reason.
    pub(crate) fn ignored(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        flags().filter_map(|flag| match flag.support {
            Support::Ignored(why) if self.is_set(flag.name) => Some((flag.name, why)),
            _ => None,
        })
    }
}

/// Parses the arguments after the program name.
///
/// The forms `--flag=value`, `--flag value`, `-v=2` and `-v 2` are those of Go. One dash before a long name
/// (`-logtostderr`) and `_` instead of `-` are also accepted, as in glog.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<CommandLine, Error> {
    let arguments = arguments.into_iter().map(canonical);
    let mut matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), clap::error::ErrorKind::DisplayHelp) => {
            return Ok(CommandLine::Print(error.render().to_string()));
        }
        Err(error) => {
            let text = error.render().to_string();
            return Err(Error::Syntax(text.trim_start_matches("error: ").trim_end().to_owned()));
        }
    };
    let mut given = Arguments::default();
    for flag in flags() {
        if let Some(values) = matches.remove_many::<String>(flag.name) {
            given.0.insert(flag.name, values.collect());
        }
    }
    Options::from_arguments(&given)
}

/// Returns a long flag in the spelling of the table, and other arguments unchanged.
fn canonical(argument: String) -> String {
    let Some(name) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
        return argument;
    };
    let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
    if name.len() < 2 && !argument.starts_with("--") {
        return argument;
    }
    match flags().find(|flag| same_name(flag.name, name)) {
        Some(flag) => {
            value.map_or_else(|| format!("--{}", flag.name), |value| format!("--{}={value}", flag.name))
        }
        None => argument,
    }
}

fn same_name(a: &str, b: &str) -> bool {
    let dashes = |byte: u8| if byte == b'_' { b'-' } else { byte };
    a.len() == b.len() && a.bytes().map(dashes).eq(b.bytes().map(dashes))
}

fn command() -> Command {
    let command = Command::new("metrics-core")
        .about("A metrics server for Kubernetes: scrapes every kubelet and serves the Metrics API")
        .no_binary_name(true)
        .disable_version_flag(true)
        .override_usage("metrics-core [flags]")
        .after_help(
            "Flags of metrics-server that have no effect here are accepted; a log line gives the reason.",
        );
    SECTIONS.iter().fold(command, |command, section| {
        command.next_help_heading(section.title).args(section.flags.iter().map(argument))
    })
}

fn argument(flag: &'static Flag) -> Arg {
    let hidden = flag.support != Support::Supported;
    let help = if flag.default.is_empty() || flag.default == "false" {
        flag.help.to_owned()
    } else {
        format!("{} (default {})", flag.help, flag.default)
    };
    let argument = Arg::new(flag.name).long(flag.name).action(ArgAction::Append).help(help).hide(hidden);
    let argument = match flag.kind {
        ValueKind::Bool => {
            argument.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("bool")
        }
        ValueKind::Single => argument.num_args(1).allow_hyphen_values(true).value_name("value"),
        ValueKind::List => argument.num_args(1).allow_hyphen_values(true).value_name("a,b"),
    };
    match flag.short {
        Some(letter) if letter.to_string() == flag.name => argument.short(letter),
        Some(letter) => argument.short(letter),
        None => argument,
    }
}
