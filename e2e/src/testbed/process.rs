//! Identifies the processes of a cluster: by a record (pid, start time, boot) and by a mark in their environment.
//!
//! A pid alone is not enough, because the kernel reuses it. The record of a component identifies the process that was
//! started. The mark finds processes that an interrupted run did not record, and their children.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Result};

/// The environment variable that marks every process of a cluster; its value is the cluster's run directory.
pub const MARK: &str = "METRICS_PIPELINE_CLUSTER";

/// A process that this crate started.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    /// Its pid.
    pub pid: i32,
    /// Its start time, in clock ticks since the machine booted.
    pub started: u64,
    /// The id of the boot in which it was started.
    pub boot: String,
    /// A digest of its inputs.
    #[serde(default)]
    pub inputs: String,
}

impl Record {
    /// Describes a running process; `None` if it has ended.
    #[must_use]
    pub fn of(pid: i32, inputs: &str) -> Option<Self> {
        let started = start_time(pid)?;
        Some(Self { pid, started, boot: boot_id(), inputs: inputs.to_owned() })
    }

    /// Reads a record; `None` if it is missing or incomplete.
    #[must_use]
    pub fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes the record atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).doing(|| "encode a process record".to_owned())?;
        write_whole(path, &text)
    }

    /// Returns whether this process, not a later one with its pid, is running.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.boot == boot_id() && start_time(self.pid) == Some(self.started)
    }

    /// Kills the process if it is still the recorded one.
    pub fn kill(&self) {
        if self.is_alive() {
            kill(self.pid);
        }
    }
}

/// Writes a file atomically, through a temporary file beside it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    // Threads of this process may write the same file concurrently.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("tmp{}-{write}", std::process::id()));
    fs::write(&temporary, bytes).doing(|| format!("write {}", temporary.display()))?;
    fs::rename(&temporary, path).doing(|| format!("write {}", path.display()))
}

/// Sends SIGKILL; succeeds if the process has already ended.
pub fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Returns the pids whose environment has [`MARK`] with this value.
#[must_use]
pub fn marked(value: &str) -> Vec<i32> {
    let entry = format!("{MARK}={value}");
    pids()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
        })
        .filter(|pid| start_time(*pid).is_some())
        .collect()
}

/// Returns the file name of the program that a process runs.
#[must_use]
pub fn program(pid: i32) -> String {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first).into_owned();
    first.rsplit('/').next().unwrap_or_default().to_owned()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn start_time(pid: i32) -> Option<u64> {
    parse_start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses field 22 of /proc/PID/stat (`proc_pid_stat(5)`); `None` for a zombie, which no longer runs.
fn parse_start_time(stat: &str) -> Option<u64> {
    // The name in parentheses may contain spaces and parentheses.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4242 (a) b (c) S 1 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 987654 10 11";

    #[test]
    fn parses_the_start_time_after_any_name() {
        assert_eq!(parse_start_time(STAT), Some(987_654));
    }

    #[test]
    fn treats_zombies_as_ended() {
        assert_eq!(parse_start_time(&STAT.replace(") S ", ") Z ")), None);
        assert_eq!(parse_start_time("torn"), None);
    }

    #[test]
    fn distinguishes_a_process_from_a_later_one_with_its_pid() {
        let me = Record::of(i32::try_from(std::process::id()).unwrap(), "x").unwrap();
        assert!(me.is_alive());
        assert!(!Record { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!Record { boot: "another boot".into(), ..me }.is_alive());
    }
}
