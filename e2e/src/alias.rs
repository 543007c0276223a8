//! Command lines of the aliases in `.cargo/config.toml`, such as `cargo bench-scale`.

use std::ffi::{OsStr, OsString};

/// This process' arguments. The aliases end with `--`, so `cargo bench-scale -- --nodes 5` gives two of them; the
/// second is dropped, as both ways to write it are usual.
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
    fn only_the_first_separator_goes() {
        assert_eq!(read("bench -- --nodes 5"), "bench --nodes 5");
        assert_eq!(read("bench --nodes 5"), "bench --nodes 5");
        assert_eq!(read("cluster -- exec -- ls"), "cluster exec -- ls");
        assert_eq!(read("cluster exec -- ls"), "cluster exec -- ls");
    }
}
