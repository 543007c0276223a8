//! The memory limit of metrics-core: that of the nanny for the size of the cluster.

use crds::memory::{RESERVE_BYTES, base_bytes};

use crate::bench::scale::Population;
use crate::bench::scale::population::CONTAINERS;

/// The nanny's headroom over the measured usage, in percent.
const HEADROOM: u64 = 125;
/// The nanny's minimum.
const MIN_MIB: u64 = 64;

/// Returns the limit that the nanny chooses, in bytes, once it has measured that the usage is that of the model.
#[must_use]
pub fn nanny_limit(population: Population) -> u64 {
    let (nodes, pods) = (u64::from(population.nodes), u64::from(population.pods()));
    let data = base_bytes(nodes, pods, pods * CONTAINERS.len() as u64);
    let estimate = data * HEADROOM / 100 + RESERVE_BYTES;
    // Steps are a quarter apart, from 16 MiB.
    let mut step = 16_u64;
    while step << 20 < estimate {
        step += step.div_ceil(4);
    }
    step.max(MIN_MIB) << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same limits are in docs/limits.md, where a test of the operator compares them with the nanny.
    #[test]
    fn limits_are_those_of_the_nanny() {
        let mib = |nodes| nanny_limit(Population { nodes, pods_per_node: 30 }) >> 20;
        assert_eq!([1, 100, 1000, 5000].map(mib), [64, 64, 99, 243]);
    }
}
