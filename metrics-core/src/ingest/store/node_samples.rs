//! The last samples of a node's own CPU time.

/// The number of samples: a kubelet samples its node every 10 s, and the windows of containers with cached samples
/// began up to a minute ago.
const COUNT: usize = 8;

/// The last samples of a node's CPU time, oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeSamples {
    /// Timestamp in nanoseconds since the Unix epoch, and CPU time in nanoseconds.
    samples: [(i64, u64); COUNT],
    count: u8,
}

impl NodeSamples {
    /// Adds a sample. One that does not continue the last one (a reboot, or the clock was set) replaces all.
    pub(super) fn push(&mut self, timestamp_ns: i64, cpu_ns: u64) {
        let count = usize::from(self.count);
        if let Some((last_ns, last_cpu_ns)) = self.samples[..count].last() {
            if timestamp_ns == *last_ns {
                return;
            }
            if timestamp_ns < *last_ns || cpu_ns < *last_cpu_ns {
                *self = Self::default();
            }
        }
        if usize::from(self.count) == COUNT {
            self.samples.rotate_left(1);
            self.count -= 1;
        }
        self.samples[usize::from(self.count)] = (timestamp_ns, cpu_ns);
        self.count += 1;
    }

    /// Returns the node's CPU time between the last sample at or before `from_ns` and the first one at or after
    /// `to_ns`; `None` if no samples enclose this time.
    pub(super) fn spent_around(&self, from_ns: i64, to_ns: i64) -> Option<u64> {
        let samples = &self.samples[..usize::from(self.count)];
        let before = samples.iter().rfind(|(at_ns, _)| *at_ns <= from_ns)?;
        let after = samples.iter().find(|(at_ns, _)| *at_ns >= to_ns)?;
        Some(after.1.saturating_sub(before.1))
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNT, NodeSamples};

    #[test]
    fn returns_usage_only_where_two_samples_enclose_the_time() {
        let mut samples = NodeSamples::default();
        assert_eq!(samples.spent_around(0, 0), None);
        for at in 1..=4 {
            samples.push(at * 10, u64::try_from(at * at).unwrap());
            samples.push(at * 10, 99); // Repeated.
        }
        assert_eq!(samples.spent_around(20, 30), Some(5));
        assert_eq!(samples.spent_around(19, 31), Some(15));
        assert_eq!((samples.spent_around(9, 20), samples.spent_around(30, 41)), (None, None));
        samples.push(50, 3);
        assert_eq!(samples.spent_around(40, 50), None, "the counter started again");
        for at in 6..20 {
            samples.push(at * 10, 100);
        }
        assert_eq!(usize::from(samples.count), COUNT);
        assert_eq!((samples.spent_around(119, 130), samples.spent_around(120, 190)), (None, Some(0)));
    }
}
