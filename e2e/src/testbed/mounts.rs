//! The mounts below the directories of clusters.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// Returns the mount points at or below `directory`, innermost first.
#[must_use]
pub fn under(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    parse(&table).into_iter().filter(|point| point.starts_with(directory)).rev().collect()
}

/// Unmounts everything at or below `directory`, even if it is busy.
pub fn unmount_under(directory: &Path) {
    for point in under(directory) {
        let _ = unmount(&point, UnmountFlags::DETACH);
    }
}

/// Parses the mount points of /proc/PID/mountinfo (`proc_pid_mountinfo(5)`), in the order of mounting.
fn parse(table: &str) -> Vec<PathBuf> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| unescape(field).into()).collect()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_unescapes_mount_points() {
        let table = "22 1 0:5 / /proc rw - proc proc rw\n30 22 0:9 / /a\\040b rw shared:1 - tmpfs t rw\n";
        assert_eq!(parse(table), [PathBuf::from("/proc"), PathBuf::from("/a b")]);
    }
}
