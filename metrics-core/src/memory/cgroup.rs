//! The memory limit of the container, from cgroup v1 or v2.

use std::fs;
use std::path::{Path, PathBuf};

/// Files with a limit in bytes. Above `memory.high` the kernel slows the process down until it has freed memory.
const V2_FILES: &[&str] = &["memory.max", "memory.high"];
const V1_FILES: &[&str] = &["memory.limit_in_bytes"];

/// cgroup v1 shows this or more where there is no limit.
const UNLIMITED: u64 = 1 << 62;

/// Returns the smallest limit of this process's cgroup and of those above it; `None` without a limit. `root` is `/`,
/// but in tests.
pub(super) fn memory_limit(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (mounts, groups) = (read("proc/self/mountinfo"), read("proc/self/cgroup"));
    mounts.lines().filter_map(Mount::parse).filter_map(|mount| mount.limit(root, &groups)).min()
}

/// Returns the memory of the machine in bytes.
pub(super) fn machine_memory(root: &Path) -> Option<u64> {
    kilobytes(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemTotal:")
}

/// Returns the resident memory of this process in bytes.
pub(super) fn resident_memory(root: &Path) -> Option<u64> {
    kilobytes(&fs::read_to_string(root.join("proc/self/status")).ok()?, "VmRSS:")
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A mounted cgroup hierarchy that has the memory controller.
struct Mount<'a> {
    is_v2: bool,
    /// The cgroup at the mount point.
    root: &'a str,
    point: &'a str,
}

impl<'a> Mount<'a> {
    /// Parses a line of mountinfo (proc_pid_mountinfo(5)).
    fn parse(line: &'a str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let (filesystem, options) = (kind.next()?, kind.nth(1).unwrap_or_default());
        let is_v2 = filesystem == "cgroup2";
        let has_memory =
            is_v2 || (filesystem == "cgroup" && options.split(',').any(|option| option == "memory"));
        has_memory.then_some(Self { is_v2, root, point })
    }

    fn limit(&self, root: &Path, groups: &str) -> Option<u64> {
        let top = root.join(self.point.trim_start_matches('/'));
        let files = if self.is_v2 { V2_FILES } else { V1_FILES };
        let limit = |directory: &Path| {
            let limits = files
                .iter()
                .filter_map(|file| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok());
            limits.filter(|limit| *limit < UNLIMITED).min()
        };
        let own = top.join(self.relative_path(groups));
        own.ancestors().take_while(|directory| directory.starts_with(&top)).filter_map(limit).min()
    }

    /// Returns the path of this process's cgroup below the mount point. Empty where the mount point is that cgroup,
    /// as in a container, or where the path lies outside of it.
    fn relative_path(&self, groups: &str) -> PathBuf {
        let path = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let matches = if self.is_v2 {
                id == "0" && controllers.is_empty()
            } else {
                controllers.split(',').any(|controller| controller == "memory")
            };
            matches.then_some(path)
        });
        let path = Path::new(path.unwrap_or("/"));
        let below = path.strip_prefix(self.root).unwrap_or(Path::new(""));
        let is_plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if is_plain { below.to_owned() } else { PathBuf::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{machine_memory, memory_limit, resident_memory};

    const V2: &str = "30 20 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 20 0:27 /kubepods/pod1/c1 /sys/fs/cgroup/memory ro master:13 - cgroup cgroup rw,memory\n\
                      32 20 0:28 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n";

    fn limit(mounts: &str, group: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let all = [("proc/self/mountinfo", mounts), ("proc/self/cgroup", group)];
        for (path, content) in all.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        memory_limit(root.path())
    }

    #[test]
    fn reads_the_limit_of_a_container() {
        assert_eq!(limit(V2, "0::/\n", &[("sys/fs/cgroup/memory.max", "67108864\n")]), Some(67_108_864));
        let v1 = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n")];
        assert_eq!(limit(V1, "5:cpu,cpuacct:/x\n4:memory:/kubepods/pod1/c1\n", &v1), Some(67_108_864));
    }

    #[test]
    fn the_smallest_limit_above_the_process_counts() {
        let files = [
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "200\n"),
            ("sys/fs/cgroup/memory.max", "300\n"),
            ("sys/fs/cgroup/c/memory.max", "1\n"),
        ];
        assert_eq!(limit(V2, "0::/a/b\n", &files), Some(200));
        // A path outside of what is mounted.
        assert_eq!(limit(V2, "0::/../../c\n", &files), Some(300));
        let high = [("sys/fs/cgroup/memory.max", "300\n"), ("sys/fs/cgroup/memory.high", "250\n")];
        assert_eq!(limit(V2, "0::/\n", &high), Some(250));
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(limit(V2, "0::/\n", &[("sys/fs/cgroup/memory.max", "max\n")]), None);
        let v1 = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(limit(V1, "4:memory:/kubepods/pod1/c1\n", &v1), None);
        assert_eq!(limit("", "", &[]), None);
        assert_eq!(limit("garbage\n1 - x\n", ":\n", &[("sys/fs/cgroup/memory.max", "1\n")]), None);
    }

    #[test]
    fn reads_the_memory_of_this_process_and_machine() {
        let root = std::path::Path::new("/");
        let (machine, resident) = (machine_memory(root).unwrap(), resident_memory(root).unwrap());
        assert!(resident > 1 << 20 && machine > resident);
    }
}
