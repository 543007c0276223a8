//! What the programs of this crate share: arguments behind a cargo alias, and exit codes.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::Parser;

use crate::error::Result;

/// Parses the arguments, runs the program and returns its exit code: failure for an error and for `Ok(false)`.
pub fn main<Arguments: Parser>(run: impl FnOnce(&Arguments) -> Result<bool>) -> ExitCode {
    match run(&Arguments::parse_from(arguments())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the arguments of this process. The aliases in `.cargo/config.toml` end with `--`, so
/// `cargo bench-scale -- --nodes 5` passes a second one, which is dropped: users write both forms.
pub fn arguments() -> impl Iterator<Item = OsString> {
    without_separator(std::env::args_os())
}

fn without_separator(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    arguments
        .enumerate()
        .filter(|(place, argument)| *place != 1 || argument != OsStr::new("--"))
        .map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> String {
        let words = without_separator(line.split(' ').map(OsString::from));
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn drops_only_the_first_separator() {
        assert_eq!(read("bench -- --nodes 5"), "bench --nodes 5");
        assert_eq!(read("bench --nodes 5"), "bench --nodes 5");
        assert_eq!(read("cluster -- exec -- ls"), "cluster exec -- ls");
        assert_eq!(read("cluster exec -- ls"), "cluster exec -- ls");
    }
}
