//! The size of the budget: what the limit leaves when the data of the cluster is subtracted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crds::memory::base_bytes;

use super::MemoryBudget;
use super::cgroup::{machine_memory, memory_limit, resident_memory};

/// How often limit, data and resident memory are read again.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many readings of the resident memory count: the least of a minute, as peaks pass.
const READINGS: usize = 6;

/// The part of the limit that is never given away: stacks, the allocator's gaps, socket buffers in the kernel.
const MARGIN: u64 = 16;
const MIN_MARGIN: u64 = 4 << 20;

/// The part of the limit that is the budget at least, when the data leaves less: everything still works, with little
/// at a time.
const MIN_BUDGET: u64 = 8;

/// The budget beyond which more memory would not be of use. Also ends a loop: more usage makes the nanny grant more,
/// which would allow more usage.
const MAX_BUDGET: u64 = 256 << 20;

/// The budget until the limit is read, in bytes.
pub(crate) const INITIAL_BUDGET: usize = 16 << 20;

/// The size of the cluster that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterSize {
    /// The number of nodes.
    pub(crate) nodes: usize,
    /// The number of Running pods.
    pub(crate) pods: usize,
    /// The number of containers.
    pub(crate) containers: usize,
}

/// What the size of the budget depends on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Readings {
    /// The memory limit, or what stands for it.
    limit: u64,
    /// The model's memory for the data.
    modelled: u64,
    /// The least resident memory of the last minute, without what was reserved.
    resident: u64,
}

impl Readings {
    /// Returns the size of the budget.
    fn budget(self) -> u64 {
        let Self { limit, .. } = self;
        let margin = (limit / MARGIN).max(MIN_MARGIN);
        let base = self.base();
        let most = MAX_BUDGET.saturating_add(base / 4);
        limit.saturating_sub(base.saturating_add(margin)).max(limit / MIN_BUDGET).min(most)
    }

    /// Returns the memory for data. It may be more than the model's: pods with many labels. But not all that is
    /// resident is in use; the allocator keeps freed memory for what comes next.
    fn base(self) -> u64 {
        self.resident.min(self.modelled.saturating_add(self.modelled / 2)).max(self.modelled)
    }
}

/// Sets the size of the budget at once, and again every 10 s. `size` returns the current size of the cluster.
pub(crate) async fn follow(budget: Arc<MemoryBudget>, size: impl Fn() -> ClusterSize + Send) {
    follow_files(Path::new("/"), budget, size).await;
}

async fn follow_files(root: &Path, budget: Arc<MemoryBudget>, size: impl Fn() -> ClusterSize + Send) {
    let mut resident = [u64::MAX; READINGS];
    let mut known = None;
    for at in (0..READINGS).cycle() {
        let limit = memory_limit(root);
        resident[at] = unreserved(resident_memory(root).unwrap_or(0), &budget);
        let readings = readings(limit, machine_memory(root), size(), &resident);
        budget.set_total(usize::try_from(readings.budget()).unwrap_or(usize::MAX));
        if known.replace(limit) != Some(limit) {
            tracing::info!(limit, budget = readings.budget(), "the memory limit of the container");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn unreserved(resident: u64, budget: &MemoryBudget) -> u64 {
    resident.saturating_sub(u64::try_from(budget.reserved()).unwrap_or(u64::MAX))
}

/// Without a limit, half of the machine stands for it.
fn readings(limit: Option<u64>, machine: Option<u64>, size: ClusterSize, resident: &[u64]) -> Readings {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Readings {
        limit: limit.or(machine.map(|machine| machine / 2)).unwrap_or(MAX_BUDGET),
        modelled: base_bytes(count(size.nodes), count(size.pods), count(size.containers)),
        resident: resident.iter().copied().min().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ClusterSize, MARGIN, MAX_BUDGET, MIN_MARGIN, READINGS, Readings, follow_files, readings};
    use crate::memory::class::divide;
    use crate::memory::{MemoryBudget, MemoryClass};

    const LIMIT: u64 = 64 << 20;

    fn cluster(nodes: usize) -> ClusterSize {
        ClusterSize { nodes, pods: nodes * 30, containers: nodes * 60 }
    }

    fn budget(limit: Option<u64>, nodes: usize, resident: u64) -> u64 {
        readings(limit, Some(16 << 30), cluster(nodes), &[resident]).budget()
    }

    #[test]
    fn budget_is_what_the_data_and_a_margin_leave() {
        let base = crds::memory::base_bytes(1, 30, 60);
        assert_eq!(budget(Some(LIMIT), 1, 0), LIMIT - base - MIN_MARGIN);
        assert!(budget(Some(LIMIT), 500, 0) < budget(Some(LIMIT), 1, 0));
        assert!(budget(Some(2 * LIMIT), 1, 0) > budget(Some(LIMIT), 1, 0), "the nanny raised the limit");
    }

    #[test]
    fn resident_memory_beyond_the_model_counts_up_to_half_of_it() {
        let base = crds::memory::base_bytes(100, 3000, 6000);
        let expected = |base: u64| LIMIT - base - MIN_MARGIN;
        assert_eq!(budget(Some(LIMIT), 100, base / 2), expected(base));
        assert_eq!(budget(Some(LIMIT), 100, base + 1_000_000), expected(base + 1_000_000));
        assert_eq!(budget(Some(LIMIT), 100, base * 2), expected(base + base / 2));
        let size = readings(Some(LIMIT), None, cluster(100), &[base * 2, base + 7, u64::MAX]);
        assert_eq!(size.base(), base + 7, "peaks pass");
        assert_eq!([u64::MAX; READINGS].len(), 6, "a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn follows_the_limit_and_the_memory_in_use() {
        let files = tempfile::tempdir().unwrap();
        let write = |path: &str, text: String| {
            let path = files.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/self/mountinfo", "1 1 0:1 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n".to_owned());
        write("proc/self/cgroup", "0::/\n".to_owned());
        let limited = |limit: u64| write("sys/fs/cgroup/memory.max", format!("{limit}\n"));
        let resident = |bytes: usize| write("proc/self/status", format!("VmRSS:\t{} kB\n", bytes / 1024));
        limited(LIMIT);
        resident(1 << 20);
        let memory = MemoryBudget::new(0);
        let following = follow_files(files.path(), memory.clone(), || cluster(100));
        let mut following = std::pin::pin!(following);
        let mut after_seconds = async |seconds| {
            let _ = tokio::time::timeout(Duration::from_secs(seconds), following.as_mut()).await;
            u64::try_from(memory.total()).unwrap()
        };
        assert_eq!(after_seconds(1).await, budget(Some(LIMIT), 100, 0));
        limited(2 * LIMIT);
        assert_eq!(after_seconds(10).await, budget(Some(2 * LIMIT), 100, 0), "the nanny raised the limit");
        // More is resident, but a part of it is reserved.
        let held = memory.try_reserve(MemoryClass::Responses, 2 << 20).unwrap();
        resident(25 << 20);
        after_seconds(70).await;
        assert_eq!(after_seconds(0).await, budget(Some(2 * LIMIT), 100, 23 << 20));
        drop(held);
    }

    #[test]
    fn a_limit_that_is_too_small_still_leaves_a_part() {
        assert_eq!(budget(Some(LIMIT), 50_000, 0), LIMIT / 8);
    }

    /// docs/limits.md: data, margin and budget are the limit, and so are the bounds of all classes.
    #[test]
    fn documented_sums_are_those_of_the_code() {
        let megabytes = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
        let text = include_str!("../../../docs/limits.md");
        let rows = text.lines().filter_map(|line| Some((line.strip_prefix("| ")?.split_once(" | ")?, line)));
        let rows = rows.filter_map(|((nodes, rest), line)| Some((nodes.parse::<usize>().ok()?, rest, line)));
        let mut sizes = Vec::new();
        for (nodes, rest, line) in rows {
            let limit = rest.split_once(" MiB").unwrap().0.parse::<u64>().unwrap() << 20;
            let readings = readings(Some(limit), None, cluster(nodes), &[0]);
            let (base, budget) = (readings.base(), readings.budget());
            let margin = (limit / MARGIN).max(MIN_MARGIN);
            assert_eq!(base + margin + budget, limit, "{nodes}");
            let (classes, pool) = divide(usize::try_from(budget).unwrap());
            let guaranteed: usize = classes.iter().map(|class| class.guaranteed).sum();
            assert_eq!(u64::try_from(guaranteed + pool).unwrap(), budget, "{nodes}");
            let mut cells = vec![nodes.to_string(), format!("{} MiB", limit >> 20)];
            cells.extend([base, margin, budget, u64::try_from(pool).unwrap()].map(megabytes));
            cells.extend(classes.map(|class| {
                let megabytes = |bytes: usize| megabytes(u64::try_from(bytes).unwrap());
                format!("{}–{}", megabytes(class.guaranteed), megabytes(class.max))
            }));
            assert_eq!(line, format!("| {} |", cells.join(" | ")));
            sizes.push(nodes);
        }
        assert_eq!(sizes, [1, 100, 1000, 5000]);
    }

    #[test]
    fn budget_is_bounded_so_that_the_nanny_cannot_be_driven_up() {
        let bounded = budget(Some(8 << 30), 1, 0);
        assert!(bounded < MAX_BUDGET + (8 << 20), "{bounded}");
        assert_eq!(budget(None, 1, 0), bounded, "without a limit");
        let unknown = Readings { limit: 0, modelled: 0, resident: 0 };
        assert_eq!(unknown.budget(), 0);
    }
}
