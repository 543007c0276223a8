//! What a process uses, by /proc.

use std::fs;
use std::time::Duration;

/// CPU time of all threads, living and ended, in the kernel's ticks of 10 ms: for long spans.
#[must_use]
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rfind(')').map_or("", |at| &stat[at + 1..]).split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// CPU time of the threads that live, to the nanosecond: for short spans.
#[must_use]
pub fn cpu_of_threads(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// Memory in use, in MB.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, serde::Serialize)]
pub struct Memory {
    /// Resident now.
    pub rss_mb: f64,
    /// The most that was ever resident.
    pub peak_mb: f64,
}

/// The memory of a process.
#[must_use]
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let megabytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let kilobytes = line.split_ascii_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        kilobytes.unwrap_or_default() * 1.024e-3
    };
    Memory { rss_mb: megabytes("VmRSS:"), peak_mb: megabytes("VmHWM:") }
}
