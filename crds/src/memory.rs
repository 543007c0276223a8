//! The memory that metrics-core needs. metrics-core divides its limit by this model, and the operator's nanny chooses
//! the limit by it, so that both agree.

/// The memory of metrics-core in an empty cluster, in bytes: program text, TLS configuration, buffers that are kept.
pub const FIXED_BYTES: u64 = 18_000_000;

/// The memory per node, per Running pod and per container, in bytes. Measured with 30 pods of two containers per node
/// (docs/scale.md): 29 kB for a node with its pods; here 30 kB.
pub const NODE_BYTES: u64 = 16_000;
/// See [`NODE_BYTES`].
pub const POD_BYTES: u64 = 280;
/// See [`NODE_BYTES`].
pub const CONTAINER_BYTES: u64 = 100;

/// The minimum memory that the nanny grants above what the data needs, in bytes. Connections, responses and kubelets'
/// bodies share it.
pub const RESERVE_BYTES: u64 = 32 << 20;

/// Returns the memory for the data of a cluster, in bytes: what metrics-core uses while nothing is requested.
#[must_use]
pub const fn base_bytes(nodes: u64, pods: u64, containers: u64) -> u64 {
    FIXED_BYTES
        .saturating_add(nodes.saturating_mul(NODE_BYTES))
        .saturating_add(pods.saturating_mul(POD_BYTES))
        .saturating_add(containers.saturating_mul(CONTAINER_BYTES))
}

#[cfg(test)]
mod tests {
    use super::base_bytes;

    #[test]
    fn base_is_near_the_measured_memory() {
        // docs/scale.md: RSS at 1,000, 5,000 and 9,500 nodes.
        for (nodes, measured) in [(1000, 47_400_000), (5000, 165_000_000), (9500, 298_000_000)] {
            let base = base_bytes(nodes, nodes * 30, nodes * 60);
            assert!(base >= measured && base <= measured * 11 / 10, "{nodes}: {base}");
        }
    }
}
