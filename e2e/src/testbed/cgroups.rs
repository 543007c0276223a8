//! The cgroup of a cluster's pods, in each hierarchy of this machine.
//!
//! Each kubelet has a root of its own (`cgroupRoot`), because parallel kubelets would delete each other's pods. On
//! cgroup v1 the root must exist in every hierarchy, on v2 its controllers must be enabled. A cgroup can also hold one
//! process within limits, as a container ([`limits`]).

mod limits;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

pub use self::limits::CgroupMemory;
use crate::error::{Doing as _, Error, Result};

/// The controllers that a kubelet requires on cgroup v2.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];

/// A mounted hierarchy.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Hierarchy {
    path: PathBuf,
    version: u8,
}

/// A cgroup with the same name in each hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    name: String,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroup {
    /// Returns the cgroup of that name, which need not exist yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self { name: name.to_owned(), hierarchies: parse_hierarchies(&mounts) }
    }

    /// Returns the kubelet's `cgroupRoot`.
    #[must_use]
    pub fn root(&self) -> String {
        format!("/{}", self.name)
    }

    /// Returns whether this machine has cgroup v1 controllers.
    #[must_use]
    pub fn is_v1(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.version == 1)
    }

    /// Creates the cgroup unless it exists.
    pub fn create(&self) -> Result<()> {
        if self.hierarchies.is_empty() {
            return Err(Error::Missing("no cgroup file system is mounted below /sys/fs/cgroup".into()));
        }
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.path.join(&self.name);
            if hierarchy.version == 2 && !self.is_v1() {
                hand_down(&hierarchy.path)?;
            }
            fs::create_dir_all(&directory).doing(|| format!("create the cgroup {}", directory.display()))?;
            // An empty cpuset admits no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if hierarchy.version == 1
                    && let Ok(value) = fs::read_to_string(hierarchy.path.join(file))
                {
                    let target = directory.join(file);
                    fs::write(&target, value.trim()).doing(|| format!("write {}", target.display()))?;
                }
            }
        }
        Ok(())
    }

    /// Returns every process in it, at any depth.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.directories().iter().flat_map(|path| processes_in(path)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes the cgroup, which must have no processes left.
    pub fn remove(&self) -> Result<()> {
        for directory in self.directories() {
            let mut tries = 0;
            // The kernel frees a cgroup shortly after its last process ended.
            while let Err(source) = fs::remove_dir(&directory) {
                if !directory.exists() {
                    break;
                }
                tries += 1;
                if tries > 100 {
                    return Err(Error::Io {
                        what: format!("remove the cgroup {}", directory.display()),
                        source,
                    });
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Returns all its directories, the innermost first.
    fn directories(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for hierarchy in &self.hierarchies {
            descend(&hierarchy.path.join(&self.name), &mut found);
        }
        found
    }
}

fn hand_down(root: &Path) -> Result<()> {
    let available = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let control = root.join("cgroup.subtree_control");
    for controller in available.split_ascii_whitespace().filter(|name| CONTROLLERS.contains(name)) {
        let already = fs::read_to_string(&control).unwrap_or_default();
        if already.split_ascii_whitespace().any(|name| name == controller) {
            continue;
        }
        fs::write(&control, format!("+{controller}")).doing(|| {
            format!(
                "hand the {controller} controller down in {} (in a container: give it a cgroup namespace \
                 whose root has no process)",
                root.display()
            )
        })?;
    }
    Ok(())
}

fn descend(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        descend(&entry.path(), found);
    }
    found.push(directory.to_owned());
}

fn processes_in(directory: &Path) -> Vec<i32> {
    let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

fn parse_hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mut hierarchies = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(path), Some(kind)) = (fields.next(), fields.next()) else { continue };
        let version = match kind {
            "cgroup" => 1,
            "cgroup2" => 2,
            _ => continue,
        };
        if path.starts_with("/sys/fs/cgroup") {
            hierarchies.push(Hierarchy { path: path.into(), version });
        }
    }
    hierarchies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_hierarchies_of_both_versions() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            parse_hierarchies(hybrid),
            [
                Hierarchy { path: "/sys/fs/cgroup/cpu".into(), version: 1 },
                Hierarchy { path: "/sys/fs/cgroup/unified".into(), version: 2 }
            ]
        );
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(parse_hierarchies(unified), [Hierarchy { path: "/sys/fs/cgroup".into(), version: 2 }]);
    }
}
