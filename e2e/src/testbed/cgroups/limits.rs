//! Limits of a cgroup, and what its processes use.

use std::fs;
use std::path::PathBuf;

use super::Cgroup;
use crate::error::{Doing as _, Error, Result};

/// The memory of a cgroup, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CgroupMemory {
    /// All memory that counts against the limit, with the page cache.
    pub charged: u64,
    /// The largest value of that since the cgroup was created.
    pub peak: u64,
    /// Anonymous memory: heap and stacks.
    pub anonymous: u64,
    /// The number of processes that the kernel killed because the limit was reached.
    pub oom_kills: u64,
}

impl Cgroup {
    /// Limits the memory of all processes together; none of it is swapped.
    pub fn limit_memory(&self, bytes: u64) -> Result<()> {
        let (directory, is_v2) = self.memory_directory()?;
        let files = if is_v2 {
            [("memory.max", bytes.to_string()), ("memory.swap.max", "0".to_owned())]
        } else {
            [("memory.limit_in_bytes", bytes.to_string()), ("memory.swappiness", "0".to_owned())]
        };
        for (file, value) in files {
            let path = directory.join(file);
            // A kernel without swap has no file for it.
            if path.exists() {
                fs::write(&path, value).doing(|| format!("write {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Lets the processes run on one CPU only.
    pub fn pin(&self, cpu: usize) -> Result<()> {
        for directory in self.own_directories() {
            let path = directory.join("cpuset.cpus");
            if path.exists() {
                fs::write(&path, cpu.to_string()).doing(|| format!("write {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Returns the files to which a process writes its pid to enter.
    #[must_use]
    pub fn entries(&self) -> Vec<PathBuf> {
        self.own_directories().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// Returns the memory of all processes.
    pub fn memory(&self) -> Result<CgroupMemory> {
        let (directory, is_v2) = self.memory_directory()?;
        let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
        let (current, peak, anonymous, events) = if is_v2 {
            ("memory.current", "memory.peak", "anon", "memory.events")
        } else {
            ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "rss", "memory.oom_control")
        };
        Ok(CgroupMemory {
            charged: read(current).trim().parse().unwrap_or_default(),
            peak: read(peak).trim().parse().unwrap_or_default(),
            anonymous: value_of(&read("memory.stat"), anonymous),
            oom_kills: value_of(&read(events), "oom_kill"),
        })
    }

    fn own_directories(&self) -> impl Iterator<Item = PathBuf> {
        let used = self.hierarchies.iter().filter(|hierarchy| hierarchy.version == 1 || !self.is_v1());
        used.map(|hierarchy| hierarchy.path.join(&self.name))
    }

    /// Returns the directory with the memory controller, and whether it is of cgroup v2.
    fn memory_directory(&self) -> Result<(PathBuf, bool)> {
        let missing = || Error::Missing("no cgroup hierarchy has the memory controller".into());
        let found = self.own_directories().find_map(|directory| {
            let is_v2 = directory.join("memory.max").exists();
            (is_v2 || directory.join("memory.limit_in_bytes").exists()).then_some((directory, is_v2))
        });
        found.ok_or_else(missing)
    }
}

/// Returns the number after a key at the beginning of a line.
fn value_of(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::value_of;

    #[test]
    fn reads_the_value_of_a_whole_key() {
        let events = "low 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(
            (value_of(events, "oom_kill"), value_of(events, "oom"), value_of(events, "rss")),
            (1, 2, 0)
        );
    }
}
