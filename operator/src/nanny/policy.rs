//! `spec.nanny` and `spec.metricsCore.resources` as numbers.

use std::time::Duration;

use crds::{Estimator, MetricsPipelineSpec, NannyMode, NannySpec, ResourceAmounts, ScalingMode};
use jiff::SignedDuration;

use super::addon_resizer::{Parameters, exponential, linear};
use super::size::{Size, positive};

/// The default minimum of `Measured`: three times the usage in a cluster of one node.
const MEASURED_MIN: Size = Size { cpu: 20, memory: 64 << 20 };

/// The default maximum of `Measured`, so that a memory leak does not exhaust the node. 5,000 nodes need a twentieth
/// of it.
const MEASURED_MAX: Size = Size { cpu: 4000, memory: 8 << 30 };

/// The default minimum of the formulas: less than any container needs.
const FORMULA_MIN: Size = Size { cpu: 1, memory: 8 << 20 };

/// The estimator of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeEstimator {
    /// From measured usage.
    Measured,
    /// `base + extra × n`.
    Linear(Parameters),
    /// The same with `n` rounded up to a step. Holds the smallest step.
    Exponential(Parameters, u64),
}

/// The nanny's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether the nanny is off, recommends or applies.
    pub mode: NannyMode,
    /// The estimator.
    pub estimator: SizeEstimator,
    /// Whether nodes or containers are counted.
    pub scaling_mode: ScalingMode,
    /// The difference in percent up to which a formula's result changes nothing.
    pub threshold: u64,
    /// How long an estimate must be stable before the size grows.
    pub scale_up_delay: SignedDuration,
    /// How long an estimate must be stable before the size shrinks.
    pub scale_down_delay: SignedDuration,
    /// The minimum size.
    pub min: Size,
    /// The maximum size.
    pub max: Size,
    /// The initial CPU and memory in the spec. A missing amount is estimated.
    pub initial: (Option<u64>, Option<u64>),
}

impl Policy {
    /// Reads the settings from the spec.
    #[must_use]
    pub fn new(spec: &MetricsPipelineSpec) -> Self {
        let nanny = &spec.nanny;
        let (estimator, default_min, default_max) = match nanny.estimator {
            Estimator::Measured => (SizeEstimator::Measured, MEASURED_MIN, MEASURED_MAX),
            Estimator::Linear => (SizeEstimator::Linear(parameters(nanny)), FORMULA_MIN, Size::MAX),
            Estimator::Exponential => {
                let smallest = u64::try_from(nanny.min_cluster_size).unwrap_or(2);
                (SizeEstimator::Exponential(parameters(nanny), smallest), FORMULA_MIN, Size::MAX)
            }
        };
        let delay = |delay: kube::core::Duration| {
            SignedDuration::try_from(Duration::from(delay)).unwrap_or(SignedDuration::from_hours(24))
        };
        let (min, max) = bounds(nanny, default_min, default_max);
        Self {
            mode: nanny.mode,
            estimator,
            scaling_mode: nanny.scaling_mode,
            threshold: u64::try_from(nanny.threshold).unwrap_or(0),
            scale_up_delay: delay(nanny.scale_up_delay),
            scale_down_delay: delay(nanny.scale_down_delay),
            min,
            max,
            initial: initial(spec),
        }
    }

    /// Parses quantities. A missing or invalid one becomes the minimum.
    #[must_use]
    pub fn parse_size(&self, amounts: &ResourceAmounts) -> Size {
        Size::parse_or(amounts, self.min)
    }

    /// Returns the size for `n` nodes or containers by the formula; `None` for `Measured`.
    #[must_use]
    pub fn by_formula(&self, n: u64) -> Option<Size> {
        let size = match self.estimator {
            SizeEstimator::Measured => return None,
            SizeEstimator::Linear(parameters) => linear(parameters, n),
            SizeEstimator::Exponential(parameters, smallest) => exponential(parameters, smallest, n),
        };
        Some(size.clamp(self.min, self.max))
    }
}

/// Returns the minimum and maximum in the spec, with defaults for missing amounts. A default never overrides the
/// bound that the user set.
fn bounds(nanny: &NannySpec, default_min: Size, default_max: Size) -> (Size, Size) {
    let (min_cpu, min_memory) = Size::parse(nanny.min.as_ref());
    let (max_cpu, max_memory) = Size::parse(nanny.max.as_ref());
    let between = |min: Option<u64>, max: Option<u64>, default_min: u64, default_max: u64| {
        let min = min.unwrap_or_else(|| max.map_or(default_min, |max| default_min.min(max)));
        (min, max.unwrap_or(default_max).max(min))
    };
    let cpu = between(min_cpu, max_cpu, default_min.cpu, default_max.cpu);
    let memory = between(min_memory, max_memory, default_min.memory, default_max.memory);
    (Size { cpu: cpu.0, memory: memory.0 }, Size { cpu: cpu.1, memory: memory.1 })
}

/// Returns the parameters of the formulas. A value that an older schema admitted and that can't be parsed takes the
/// default.
fn parameters(nanny: &NannySpec) -> Parameters {
    let default = NannySpec::default();
    let read = |value, default| positive(value).or_else(|| positive(default)).unwrap_or(1);
    Parameters {
        cpu: (read(&nanny.cpu, &default.cpu), read(&nanny.extra_cpu, &default.extra_cpu)),
        memory: (read(&nanny.memory, &default.memory), read(&nanny.extra_memory, &default.extra_memory)),
    }
}

/// Returns the requests in the spec. As in Kubernetes, a request defaults to the limit.
fn initial(spec: &MetricsPipelineSpec) -> (Option<u64>, Option<u64>) {
    let resources = &spec.metrics_core.resources;
    let requests = resources.requests.clone().unwrap_or_default();
    let limits = resources.limits.clone().unwrap_or_default();
    let cpu = requests.cpu.or(limits.cpu).as_ref().and_then(positive);
    let memory = requests.memory.or(limits.memory).as_ref().and_then(positive);
    (cpu.map(|cpu| Size::from_nanos(cpu, 0).cpu), memory.map(|memory| Size::from_nanos(0, memory).memory))
}

#[cfg(test)]
mod tests;
