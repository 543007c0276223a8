//! The conditions of a measurement: machine, versions, date and command.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::command;
use crate::testbed::binaries;

/// What a reader needs to know to interpret the figures.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Conditions {
    /// The start of the run, UTC.
    pub date: String,
    /// Processors, memory and kernel.
    pub machine: String,
    /// The load average of the last minute before the run.
    pub load: String,
    /// The versions of the programs.
    pub versions: String,
    /// The command that repeats the run.
    pub command: String,
}

impl Conditions {
    /// Returns the current conditions; `source` is the repository, `alias` the name of the command.
    #[must_use]
    pub fn now(source: &Path, alias: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let arguments = crate::cli::arguments().skip(1).map(|one| one.to_string_lossy().into_owned());
        let arguments: Vec<String> = arguments.collect();
        Self {
            date: format!("{} UTC", Timestamp::now().strftime("%Y-%m-%d %H:%M")),
            machine: machine(
                &read("/proc/cpuinfo"),
                &read("/proc/meminfo"),
                &read("/proc/sys/kernel/osrelease"),
            ),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            versions: format!("metrics-core {}, {}", revision(source), binaries::versions()),
            command: format!("cargo {alias} -- {}", arguments.join(" ")),
        }
    }

    /// Returns the conditions as a list in Markdown.
    #[must_use]
    pub fn list(&self) -> String {
        format!(
            "- {}; load before the run {}\n- {}\n- {}\n- `{}`\n",
            self.date, self.load, self.machine, self.versions, self.command
        )
    }
}

fn machine(cpus: &str, memory: &str, kernel: &str) -> String {
    let value = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
    let models = || cpus.lines().filter(|line| line.starts_with("model name"));
    let model = models().next().and_then(value).unwrap_or_else(|| "unknown processor".into());
    let total = memory.lines().find(|line| line.starts_with("MemTotal:")).and_then(value).unwrap_or_default();
    let kilobytes: u64 = total.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    let gigabytes = (kilobytes + (1 << 19)) >> 20;
    format!("{} × {model}, {gigabytes} GB, Linux {}", models().count(), kernel.trim())
}

/// Returns the commit, and whether the files differ from it.
fn revision(source: &Path) -> String {
    let git = |arguments: &[&str]| command::output(Command::new("git").current_dir(source).args(arguments));
    let Ok(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "of no commit".into() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_ok_and(|text| !text.trim().is_empty());
    format!("{}{}", commit.trim(), if changed { " with changes" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_the_machine_in_one_line() {
        let cpus =
            "processor\t: 0\nmodel name\t: Chip 9\nflags\t: a\n\nprocessor\t: 1\nmodel name\t: Chip 9\n";
        let memory = "MemTotal:       24684544 kB\nMemFree: 1 kB\n";
        assert_eq!(machine(cpus, memory, "6.18.1\n"), "2 × Chip 9, 24 GB, Linux 6.18.1");
        assert_eq!(machine("", "", ""), "0 × unknown processor, 0 GB, Linux ");
    }
}
