//! What the spec says, in numbers.

use std::time::Duration;

use crds::{Estimator, MetricsPipelineSpec, NannyMode, NannySpec, ResourceAmounts, ScalingMode};
use jiff::SignedDuration;

use super::addon_resizer::{Parameters, exponential, linear};
use super::size::{MAX_CPU, MAX_MEMORY, Size, positive};

/// The least that `Measured` sets unless the spec says less: three times what metrics-core takes in a cluster of one
/// node.
const FLOOR: Size = Size { cpu: 20, memory: 64 << 20 };

/// The most that `Measured` sets unless the spec says more: a leak must not take a node with it. 5,000 nodes take
/// a twentieth of it.
const CEILING: Size = Size { cpu: 4000, memory: 8 << 30 };

/// What no container runs with.
const LEAST: Size = Size { cpu: 1, memory: 8 << 20 };

/// How a size is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// From what is used.
    Measured,
    /// `base + extra × n`.
    Linear(Parameters),
    /// The same in steps from a smallest one.
    Exponential(Parameters, u64),
}

/// What the spec says, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether the nanny advises or acts.
    pub mode: NannyMode,
    /// How a size is estimated.
    pub rule: Rule,
    /// What is counted.
    pub counts: ScalingMode,
    /// In percent.
    pub threshold: u64,
    /// How long more must be needed.
    pub up_delay: SignedDuration,
    /// How long less must be enough.
    pub down_delay: SignedDuration,
    /// The least that is set.
    pub least: Size,
    /// The most that is set.
    pub most: Size,
    /// The requests that the spec names as the start; an amount that it leaves out is estimated.
    pub start: (Option<u64>, Option<u64>),
}

impl Policy {
    /// Reads the spec.
    #[must_use]
    pub fn new(spec: &MetricsPipelineSpec) -> Self {
        let nanny = &spec.nanny;
        let (rule, floor, ceiling) = match nanny.estimator {
            Estimator::Measured => (Rule::Measured, FLOOR, CEILING),
            Estimator::Linear => (Rule::Linear(parameters(nanny)), LEAST, MOST),
            Estimator::Exponential => {
                let smallest = u64::try_from(nanny.min_cluster_size).unwrap_or(2);
                (Rule::Exponential(parameters(nanny), smallest), LEAST, MOST)
            }
        };
        let delay = |delay: kube::core::Duration| {
            SignedDuration::try_from(Duration::from(delay)).unwrap_or(SignedDuration::from_hours(24))
        };
        let (least, most) = bounds(nanny, floor, ceiling);
        Self {
            mode: nanny.mode,
            rule,
            counts: nanny.scaling_mode,
            threshold: u64::try_from(nanny.threshold).unwrap_or(0),
            up_delay: delay(nanny.scale_up_delay),
            down_delay: delay(nanny.scale_down_delay),
            least,
            most,
            start: start(spec),
        }
    }

    /// Reads amounts; one that is missing is the least.
    #[must_use]
    pub fn read(&self, amounts: &ResourceAmounts) -> Size {
        Size::read(amounts, self.least)
    }

    /// The size for `n` by a formula; `None` when it must be measured.
    #[must_use]
    pub fn by_formula(&self, n: u64) -> Option<Size> {
        let size = match self.rule {
            Rule::Measured => return None,
            Rule::Linear(parameters) => linear(parameters, n),
            Rule::Exponential(parameters, smallest) => exponential(parameters, smallest, n),
        };
        Some(size.within(self.least, self.most))
    }
}

const MOST: Size = Size { cpu: MAX_CPU, memory: MAX_MEMORY };

/// The bounds that the spec sets and, for each amount that it leaves out, ours. Where the two cross, the user's counts.
fn bounds(nanny: &NannySpec, floor: Size, ceiling: Size) -> (Size, Size) {
    let (min_cpu, min_memory) = Size::named(nanny.min.as_ref());
    let (max_cpu, max_memory) = Size::named(nanny.max.as_ref());
    let between = |min: Option<u64>, max: Option<u64>, floor: u64, ceiling: u64| {
        let least = min.unwrap_or_else(|| max.map_or(floor, |max| floor.min(max)));
        (least, max.unwrap_or(ceiling).max(least))
    };
    let cpu = between(min_cpu, max_cpu, floor.cpu, ceiling.cpu);
    let memory = between(min_memory, max_memory, floor.memory, ceiling.memory);
    (Size { cpu: cpu.0, memory: memory.0 }, Size { cpu: cpu.1, memory: memory.1 })
}

/// What the schema admits is readable; what was stored under another one takes the default.
fn parameters(nanny: &NannySpec) -> Parameters {
    let default = NannySpec::default();
    let read = |value, default| positive(value).or_else(|| positive(default)).unwrap_or(1);
    Parameters {
        cpu: (read(&nanny.cpu, &default.cpu), read(&nanny.extra_cpu, &default.extra_cpu)),
        memory: (read(&nanny.memory, &default.memory), read(&nanny.extra_memory, &default.extra_memory)),
    }
}

/// As Kubernetes has it: a limit without a request is the request too.
fn start(spec: &MetricsPipelineSpec) -> (Option<u64>, Option<u64>) {
    let resources = &spec.metrics_core.resources;
    let requests = resources.requests.clone().unwrap_or_default();
    let limits = resources.limits.clone().unwrap_or_default();
    let cpu = requests.cpu.or(limits.cpu).as_ref().and_then(positive);
    let memory = requests.memory.or(limits.memory).as_ref().and_then(positive);
    (cpu.map(|cpu| Size::from_nanos(cpu, 0).cpu), memory.map(|memory| Size::from_nanos(0, memory).memory))
}

#[cfg(test)]
mod tests;
