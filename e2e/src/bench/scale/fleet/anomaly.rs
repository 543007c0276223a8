//! Kubelet responses that are wrong or unusual, as they were seen in the field.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::super::population::Pod;
use super::samples::{ContainerSample, Samples};
use super::sampling::hash;

/// What a kubelet's responses have from a point in time on. The "one pod" of a node is its first, and the container is
/// that pod's first.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Anomaly {
    /// One container has a second series with equal labels: an earlier instance, whose counter stands still. Which comes
    /// first changes from response to response.
    DuplicateSeries,
    /// The start time of all containers is always 4 s before the sample, and the counters go on.
    MovingStart,
    /// All values and timestamps stand still.
    Frozen,
    /// Value and timestamp of one container stand still.
    FrozenContainer,
    /// One container and the node have zero CPU and zero memory.
    Zero,
    /// `resource_scrape_error` is 1 and only the node has series.
    ScrapeError,
    /// Only the node has series, without an error.
    NoContainers,
    /// One running pod has no series.
    MissingPod,
    /// The node's clock is an hour ahead or behind.
    ClockSkew,
    /// One pod's containers restart every 20 s.
    RestartStorm,
    /// The counter of one container grows by 1,000 cores.
    ImplausibleJump,
    /// The counter of one container leaps once by a million seconds.
    SingleJump,
    /// A second Node object has the address, port and path of a node.
    DuplicateAddress,
}

/// The longest time that the containers of [`Anomaly::RestartStorm`] run.
pub(super) const STORM_MS: u64 = 20_000;

const SKEW_MS: i64 = 3_600_000;
const DEAD_CPU_US: u64 = 994_631_500_000;
const DEAD_MEMORY: u64 = 56_000_000_000;

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// An anomaly of a node since a point in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Injected {
    pub(super) anomaly: Anomaly,
    pub(super) since_ms: u64,
    /// The number of responses since then.
    pub(super) responses: u32,
}

impl Injected {
    /// Returns the time for which the kubelet computes its samples.
    pub(super) fn now(&self, now_ms: u64) -> u64 {
        if self.anomaly == Anomaly::Frozen { self.since_ms } else { now_ms }
    }

    /// Returns the time for which it computes those of one container.
    pub(super) fn now_of(&self, is_first: bool, now_ms: u64) -> u64 {
        if is_first && self.anomaly == Anomaly::FrozenContainer { self.since_ms } else { self.now(now_ms) }
    }

    /// Changes the samples of the node `node`, whose first pod is `first`.
    pub(super) fn distort(&self, node: u32, first: Pod, samples: &mut Samples<'_>) {
        let of_first = |sample: &ContainerSample<'_>| sample.pod == first && sample.container == 0;
        match self.anomaly {
            Anomaly::DuplicateSeries => self.duplicate(of_first, samples),
            Anomaly::MovingStart => {
                samples.containers.iter_mut().for_each(|one| one.start_ms = one.at_ms.saturating_sub(4000));
            }
            Anomaly::Zero => {
                for sample in samples.containers.iter_mut().filter(|one| of_first(one)) {
                    (sample.cpu_us, sample.memory) = (0, 0);
                }
                (samples.node.cpu_us, samples.node.memory) = (0, 0);
            }
            Anomaly::ScrapeError | Anomaly::NoContainers => {
                samples.containers.clear();
                samples.pods.clear();
                samples.scrape_error = self.anomaly == Anomaly::ScrapeError;
            }
            Anomaly::MissingPod => {
                samples.containers.retain(|one| one.pod != first);
                samples.pods.retain(|one| one.pod != first);
            }
            Anomaly::ClockSkew => {
                let skew = if hash(node.into()).is_multiple_of(2) { SKEW_MS } else { -SKEW_MS };
                let times = samples.containers.iter_mut().map(|one| &mut one.at_ms);
                let times = times.chain(samples.pods.iter_mut().map(|one| &mut one.at_ms));
                for time in times.chain([&mut samples.node.at_ms]) {
                    *time = time.saturating_add_signed(skew);
                }
            }
            Anomaly::ImplausibleJump | Anomaly::SingleJump => {
                for sample in samples.containers.iter_mut().filter(|one| of_first(one)) {
                    let since = sample.at_ms.saturating_sub(self.since_ms);
                    sample.cpu_us += match self.anomaly {
                        Anomaly::ImplausibleJump => since * 1_000_000,
                        _ if since > 0 => 1_000_000_000_000,
                        _ => 0,
                    };
                }
            }
            Anomaly::Frozen
            | Anomaly::FrozenContainer
            | Anomaly::RestartStorm
            | Anomaly::DuplicateAddress => {}
        }
    }

    fn duplicate(&self, of_first: impl Fn(&ContainerSample<'_>) -> bool, samples: &mut Samples<'_>) {
        let Some(at) = samples.containers.iter().position(of_first) else { return };
        let dead = ContainerSample { cpu_us: DEAD_CPU_US, memory: DEAD_MEMORY, ..samples.containers[at] };
        // The live series comes first, last, last, first, last, first.
        let live_first = 0b10_1001 >> (self.responses % 6) & 1 == 1;
        samples.containers.insert(if live_first { at + 1 } else { at }, dead);
    }
}
