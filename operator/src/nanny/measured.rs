//! The estimator `Measured`: a model of metrics-core's usage, corrected by measurements.
//!
//! The forecast for `n` nodes is a prior, `base + each × n`, times the factor of measured usage to the prior. The
//! factor is above 1 with 100 pods per node or many clients, and below 1 in a sparse cluster. Headroom is added, and
//! the memory that metrics-core divides among its clients and the bodies of kubelets. Sizes are steps of a quarter. A smaller step is taken only if a quarter more than the estimate would fit it, so that a node that comes
//! and goes changes nothing.

use crds::memory::RESERVE_BYTES;
use jiff::{SignedDuration, Timestamp};

use super::Population;
use super::size::{MAX_CPU, MAX_MEMORY, Size};

/// The usage of metrics-core's container: the maximum over the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// CPU in nanocores.
    pub cpu: u64,
    /// The working set in bytes, to compare with the limit.
    pub memory: u64,
    /// When the usage was sampled.
    pub sampled: Timestamp,
}

/// Memory in bytes: of an empty cluster, per node and per container. Measured with 30 pods of two containers per
/// node: 48 MB at 1,000 nodes, 250 MB at 5,000 (docs/performance.md). The prior is slightly larger.
const MEMORY: Prior = Prior { base: 12 << 20, node: 56 << 10, container: 1 << 10 };

/// CPU in nanocores. Measured: 7.5 millicores at 1,000 nodes, 38 at 5,000.
const CPU: Prior = Prior { base: 2_000_000, node: 8_000, container: 134 };

/// Headroom in percent. CPU has more, as list requests come in bursts.
const MEMORY_HEADROOM: u128 = 125;
const CPU_HEADROOM: u128 = 200;

/// The minimum memory in percent of the current usage, whatever the forecast.
pub(super) const USAGE_HEADROOM: u64 = 125;

/// The minimum and maximum factor, in thousandths.
const FACTORS: (u64, u64) = (250, 16_000);

/// How long after a change of the population the usage is that of the new one: two scrapes at the longest usual
/// interval, and the delay of the Metrics API.
const ADAPTATION: SignedDuration = SignedDuration::from_secs(180);

#[derive(Clone, Copy)]
struct Prior {
    base: u64,
    node: u64,
    container: u64,
}

impl Prior {
    fn at(self, population: Population) -> u64 {
        match population {
            Population::Nodes(n) => self.base.saturating_add(self.node.saturating_mul(n)),
            Population::Containers(n) => self.base.saturating_add(self.container.saturating_mul(n)),
        }
    }
}

/// Measured usage divided by the prior, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Factors {
    cpu: u64,
    memory: u64,
}

/// The factors measured so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UsageModel {
    factors: Option<Factors>,
    /// The number of nodes or containers, and since when it is near that.
    anchor: Option<(u64, Timestamp)>,
    /// The last sample in the factors.
    sampled: Option<Timestamp>,
}

impl UsageModel {
    /// Moves a time in the future to now.
    pub(super) fn bound_times(&mut self, now: Timestamp) {
        if let Some((_, since)) = &mut self.anchor {
            *since = now.min(*since);
        }
    }

    /// Adds a sample to the factors, unless it was added before or the population changed lately.
    pub(super) fn update(&mut self, population: Population, usage: Option<Usage>, now: Timestamp) {
        let since = match self.anchor {
            Some((anchor, since)) if population.is_near(anchor) => since,
            _ => {
                self.anchor = Some((population.number(), now));
                now
            }
        };
        let Some(usage) = usage.filter(|usage| Some(usage.sampled) != self.sampled) else { return };
        if now.duration_since(since) < ADAPTATION {
            return;
        }
        self.sampled = Some(usage.sampled);
        let factor = |used: u64, prior: u64| {
            let thousandths = u128::from(used) * 1000 / u128::from(prior.max(1));
            u64::try_from(thousandths).unwrap_or(u64::MAX).clamp(FACTORS.0, FACTORS.1)
        };
        let measured = Factors {
            cpu: factor(usage.cpu, CPU.at(population)),
            memory: factor(usage.memory, MEMORY.at(population)),
        };
        self.factors = Some(match self.factors {
            None => measured,
            Some(old) => Factors {
                // The mean of CPU, which comes in bursts. The peak of memory, which decays slowly.
                cpu: old.cpu - old.cpu / 16 + measured.cpu / 16,
                memory: measured.memory.max(old.memory - old.memory.saturating_sub(measured.memory) / 16),
            },
        });
    }

    /// Returns the estimated size before rounding; `None` if nothing was measured that justifies a change of the
    /// recorded size. `recorded` is the current size and the number of nodes or containers that it was chosen for.
    pub(super) fn estimate(
        &self,
        population: Population,
        usage: Option<Usage>,
        recorded: Option<(Size, u64)>,
        min: Size,
    ) -> Option<Size> {
        let required = usage.map(|usage| required_by_usage(&usage));
        let at_least = |size: Size| required.map_or(size, |required| size.clamp(required, Size::MAX));
        let factors = match (self.factors, recorded) {
            (Some(factors), _) => factors,
            // After a restart of the operator, the current size stands for what was measured before.
            (None, Some((size, then))) if population.is_near(then) => {
                return required.filter(|required| required.cpu > size.cpu || required.memory > size.memory);
            }
            (None, Some((size, then))) => implied_factors(size, population.with_number(then), min),
            (None, None) => Factors { cpu: 1000, memory: 1000 },
        };
        Some(at_least(forecast(population, factors)))
    }
}

/// Returns the minimum size for the current usage. Only memory counts: using more CPU than requested is harmless.
pub(super) fn required_by_usage(usage: &Usage) -> Size {
    Size { cpu: 1, memory: usage.memory.saturating_mul(USAGE_HEADROOM) / 100 }
}

/// Returns the factors that lead to a size. The minimum size implies none, as any lower estimate leads to it too.
fn implied_factors(size: Size, population: Population, min: Size) -> Factors {
    let factor = |set: u64, min: u64, unit: u128, prior: u64, headroom: u128| {
        if set <= min {
            return 1000;
        }
        let thousandths = u128::from(set) * unit * 100_000 / headroom / u128::from(prior.max(1));
        u64::try_from(thousandths).unwrap_or(u64::MAX).clamp(FACTORS.0, FACTORS.1)
    };
    Factors {
        cpu: factor(size.cpu, min.cpu, 1_000_000, CPU.at(population), CPU_HEADROOM),
        memory: if size.memory <= min.memory {
            1000
        } else {
            let data = size.memory.saturating_sub(RESERVE_BYTES);
            factor(data, 0, 1, MEMORY.at(population), MEMORY_HEADROOM)
        },
    }
}

fn forecast(population: Population, factors: Factors) -> Size {
    let of = |prior: u64, factor: u64, headroom: u128| {
        u128::from(prior).saturating_mul(u128::from(factor)).saturating_mul(headroom) / 100_000
    };
    let cpu = of(CPU.at(population), factors.cpu, CPU_HEADROOM);
    let memory =
        of(MEMORY.at(population), factors.memory, MEMORY_HEADROOM).saturating_add(RESERVE_BYTES.into());
    Size::from_nanos(cpu, memory.saturating_mul(1_000_000_000))
}

/// Returns the first step that is not below an amount. Steps start at `first` units and grow by a quarter.
fn step(first: u64, unit: u64, amount: u64, max: u64) -> u64 {
    let mut step = first;
    while step * unit < amount {
        if step * unit >= max {
            return max;
        }
        step += step.div_ceil(4);
    }
    (step * unit).min(max)
}

/// Rounds CPU up to a step, from 5 millicores.
pub(super) fn cpu_step(amount: u64) -> u64 {
    step(5, 1, amount, MAX_CPU)
}

/// Rounds memory up to a step in whole MiB, from 16 MiB.
pub(super) fn memory_step(amount: u64) -> u64 {
    step(16, 1 << 20, amount, MAX_MEMORY)
}

#[cfg(test)]
mod tests;
