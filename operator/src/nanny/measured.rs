//! The estimator that measures: what metrics-core uses, and what a node is seen to cost it.
//!
//! The forecast for `n` nodes is a prior of the form `base + each × n`, times how much more (or less) than the prior
//! is really used. A cluster with 100 pods a node, or with many clients, shows a factor above 1, a sparse one a
//! factor below. Sizes are steps of a quarter, and a smaller step is taken only when even a quarter more would fit
//! it: a node that comes and goes changes nothing.

use jiff::{SignedDuration, Timestamp};

use super::size::{MAX_CPU, MAX_MEMORY, Size};

/// What the container uses; the most of any replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Billionths of a core.
    pub cpu: u64,
    /// Bytes of the working set: what the limit is compared with.
    pub memory: u64,
    /// When it was sampled.
    pub sampled: Timestamp,
}

/// Memory in bytes: of an empty cluster, and for each node or for each container. With 30 pods a node of two
/// containers 48 MB were measured at 1,000 nodes and 250 MB at 5,000 (docs/performance.md); this is some more.
const MEMORY: Prior = Prior { base: 12 << 20, node: 56 << 10, container: 1 << 10 };

/// CPU in billionths of a core: 7.5 millicores were measured at 1,000 nodes, 38 at 5,000.
const CPU: Prior = Prior { base: 2_000_000, node: 8_000, container: 134 };

/// Head-room in percent: memory that runs out kills, CPU that runs out delays; the lists of many clients come in
/// bursts of CPU.
const MEMORY_HEAD_ROOM: u128 = 150;
const CPU_HEAD_ROOM: u128 = 200;

/// What is used now must fit with so much room (percent) whatever the forecast says.
pub(super) const IN_USE: u64 = 125;

/// How much more or less than the prior is believed, in thousandths.
const FACTORS: (u64, u64) = (250, 16_000);

/// So long after the number of nodes changed, use is that of the new number: two rounds of scraping at the slowest
/// usual resolution, and the Metrics API's own delay.
const ADAPTED: SignedDuration = SignedDuration::from_secs(180);

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

/// What there is to scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Population {
    /// So many nodes.
    Nodes(u64),
    /// So many containers.
    Containers(u64),
}

impl Population {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Nodes(n) | Self::Containers(n) => n,
        }
    }

    /// Whether it is the same but for a node that came or went.
    fn is_near(self, other: u64) -> bool {
        let number = self.number();
        number.abs_diff(other) <= (other / 10).max(2)
    }
}

/// How much more than the prior is used, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Factors {
    cpu: u64,
    memory: u64,
}

/// What was learned so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Learned {
    factors: Option<Factors>,
    /// The number of nodes that use is the use of, and since when.
    anchor: Option<(u64, Timestamp)>,
    sampled: Option<Timestamp>,
}

impl Learned {
    /// Takes a look.
    pub(super) fn look(&mut self, population: Population, usage: Option<Usage>, now: Timestamp) {
        let since = match self.anchor {
            Some((anchor, since)) if population.is_near(anchor) => since,
            _ => {
                self.anchor = Some((population.number(), now));
                now
            }
        };
        let Some(usage) = usage.filter(|usage| Some(usage.sampled) != self.sampled) else { return };
        if now.duration_since(since) < ADAPTED {
            return;
        }
        self.sampled = Some(usage.sampled);
        let factor = |used: u64, prior: u64| {
            let thousandths = u128::from(used) * 1000 / u128::from(prior.max(1));
            u64::try_from(thousandths).unwrap_or(u64::MAX).clamp(FACTORS.0, FACTORS.1)
        };
        let seen = Factors {
            cpu: factor(usage.cpu, CPU.at(population)),
            memory: factor(usage.memory, MEMORY.at(population)),
        };
        self.factors = Some(match self.factors {
            None => seen,
            Some(old) => Factors {
                // CPU comes in bursts: its mean counts. Memory's peaks count, and are forgotten slowly.
                cpu: old.cpu - old.cpu / 16 + seen.cpu / 16,
                memory: seen.memory.max(old.memory - old.memory.saturating_sub(seen.memory) / 16),
            },
        });
    }

    /// What is wanted before rounding; `None` while nothing is known that the size in force does not know better.
    /// `recorded` is that size and the number of nodes that it was decided on.
    pub(super) fn want(
        &self,
        population: Population,
        usage: Option<Usage>,
        recorded: Option<(Size, u64)>,
        least: Size,
    ) -> Option<Size> {
        let in_use = usage.map(|usage| in_use(&usage));
        let at_least = |size: Size| in_use.map_or(size, |in_use| size.within(in_use, MOST));
        let factors = match (self.factors, recorded) {
            (Some(factors), _) => factors,
            // After a restart of the operator the size in force is what was learned before it.
            (None, Some((size, then))) if population.is_near(then) => {
                return in_use.filter(|in_use| in_use.cpu > size.cpu || in_use.memory > size.memory);
            }
            (None, Some((size, then))) => shown_by(size, like(population, then), least),
            (None, None) => Factors { cpu: 1000, memory: 1000 },
        };
        Some(at_least(forecast(population, factors)))
    }
}

const MOST: Size = Size { cpu: MAX_CPU, memory: MAX_MEMORY };

/// What is used now with some room. Only memory: CPU is a share, and more of it than was requested is no harm.
pub(super) fn in_use(usage: &Usage) -> Size {
    Size { cpu: 1, memory: usage.memory.saturating_mul(IN_USE) / 100 }
}

fn like(population: Population, number: u64) -> Population {
    match population {
        Population::Nodes(_) => Population::Nodes(number),
        Population::Containers(_) => Population::Containers(number),
    }
}

/// The factors that a size stands for. The least size stands for none: anything up to it would have given it.
fn shown_by(size: Size, population: Population, least: Size) -> Factors {
    let factor = |set: u64, least: u64, unit: u128, prior: u64, room: u128| {
        if set <= least {
            return 1000;
        }
        let thousandths = u128::from(set) * unit * 100_000 / room / u128::from(prior.max(1));
        u64::try_from(thousandths).unwrap_or(u64::MAX).clamp(FACTORS.0, FACTORS.1)
    };
    Factors {
        cpu: factor(size.cpu, least.cpu, 1_000_000, CPU.at(population), CPU_HEAD_ROOM),
        memory: factor(size.memory, least.memory, 1, MEMORY.at(population), MEMORY_HEAD_ROOM),
    }
}

fn forecast(population: Population, factors: Factors) -> Size {
    let of = |prior: u64, factor: u64, room: u128| {
        u128::from(prior).saturating_mul(u128::from(factor)).saturating_mul(room) / 100_000
    };
    let cpu = of(CPU.at(population), factors.cpu, CPU_HEAD_ROOM);
    let memory = of(MEMORY.at(population), factors.memory, MEMORY_HEAD_ROOM);
    Size::from_nanos(cpu, memory.saturating_mul(1_000_000_000))
}

/// The first step of a quarter, from `first` in whole `unit`s, that is not below an amount.
fn step(first: u64, unit: u64, amount: u64, most: u64) -> u64 {
    let mut step = first;
    while step * unit < amount {
        if step * unit >= most {
            return most;
        }
        step += step.div_ceil(4);
    }
    (step * unit).min(most)
}

/// CPU in steps from 5 millicores.
pub(super) fn cpu_step(amount: u64) -> u64 {
    step(5, 1, amount, MAX_CPU)
}

/// Memory in steps from 16 MiB, in whole MiB.
pub(super) fn memory_step(amount: u64) -> u64 {
    step(16, 1 << 20, amount, MAX_MEMORY)
}

#[cfg(test)]
mod tests;
