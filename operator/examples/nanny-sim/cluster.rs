//! The traces, and the usage of metrics-core in them.

use operator::inspect::nanny::Usage;

use crate::time;

/// A trace.
#[derive(Clone, Copy)]
pub struct Trace {
    /// The plot's file name.
    pub name: &'static str,
    /// The title of the plot.
    pub title: &'static str,
    minutes: usize,
    nodes: fn(f64) -> f64,
}

/// All traces. The function returns the number of nodes at a minute.
pub(crate) const TRACES: [Trace; 4] = [
    Trace {
        name: "growth",
        title: "steady growth, 10 → 1,000 nodes in 12 h",
        minutes: 720,
        nodes: |m| 10.0 + 990.0 * m / 720.0,
    },
    Trace {
        name: "flapping",
        title: "autoscaler between 820 and 826 nodes every 20 min for 12 h (823 is an edge of Exponential)",
        minutes: 720,
        nodes: |m| if (m / 10.0) % 2.0 < 1.0 { 820.0 } else { 826.0 },
    },
    Trace {
        name: "zone",
        title: "900 nodes, a zone of 300 lost for 5 min, and for 40 min",
        minutes: 240,
        nodes: |m| if (30.0..35.0).contains(&m) || (90.0..130.0).contains(&m) { 600.0 } else { 900.0 },
    },
    Trace {
        name: "explosion",
        title: "5 → 5,000 → 5 nodes, 10 min each way",
        minutes: 180,
        nodes: |m| {
            let up = ((m - 20.0) / 10.0).clamp(0.0, 1.0);
            let down = ((m - 100.0) / 10.0).clamp(0.0, 1.0);
            5.0 + 4995.0 * (up - down)
        },
    },
];

/// A trace, second by second.
pub struct Cluster {
    /// The trace.
    pub trace: Trace,
    /// The number of nodes.
    pub nodes: Vec<u64>,
    /// The usage in MiB.
    pub used: Vec<f64>,
}

impl Cluster {
    /// Computes the usage for a trace. Memory follows nodes with a time constant of 20 s up and 60 s down. List
    /// requests add up to a tenth.
    pub fn new(trace: Trace) -> Self {
        let (mut nodes, mut used) = (Vec::new(), Vec::new());
        let mut base: Option<f64> = None;
        let mut seed = 1_u32;
        for second in 0..trace.minutes * 60 {
            #[allow(clippy::cast_precision_loss, reason = "a plot")]
            let count = (trace.nodes)(second as f64 / 60.0).round();
            // 8 MiB and 48 kB per node (docs/performance.md).
            let goal = 8.0 + count * 48_000.0 / f64::from(1 << 20);
            let before = base.unwrap_or(goal);
            let now = before + (goal - before) / if goal > before { 20.0 } else { 60.0 };
            base = Some(now);
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = f64::from(seed >> 16) / f64::from(1 << 16);
            used.push(now * (1.0 + 0.1 * noise));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of nodes")]
            nodes.push(count as u64);
        }
        Self { trace, nodes, used }
    }

    /// Returns the length in seconds.
    pub fn seconds(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the usage in the Metrics API: a sample every 15 s, 10 s old.
    pub fn usage(&self, second: usize) -> Option<Usage> {
        let sampled = second.checked_sub(10)? / 15 * 15;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an amount of bytes")]
        let memory = (self.used[sampled] * f64::from(1 << 20)) as u64;
        Some(Usage { cpu: 1_000_000 + 7_500 * self.nodes[sampled], memory, sampled: time(sampled) })
    }
}
