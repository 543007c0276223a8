//! CPU and memory of a process, from /proc.

use std::fs;
use std::time::Duration;

/// Returns the CPU time of all threads, including those that ended, in ticks of 10 ms: for long measurements.
#[must_use]
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rfind(')').map_or("", |at| &stat[at + 1..]).split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the CPU time of the running threads in nanoseconds: for short measurements.
#[must_use]
pub fn cpu_of_threads(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// Resident memory in MB.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, serde::Serialize)]
pub struct Memory {
    /// The current value.
    pub rss_mb: f64,
    /// The peak.
    pub peak_mb: f64,
}

/// Returns the memory of a process.
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
