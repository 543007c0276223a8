//! What reserves memory, and how much of the budget each class may have.

/// What memory is reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryClass {
    /// Connections of clients: TLS state and buffers.
    Connections,
    /// Heads of requests, and HTTP/2 streams.
    Requests,
    /// Lists and watches that are being sent.
    Responses,
    /// Protobuf lists that are encoded before they are sent. Without this memory they are encoded in a second pass.
    EncodedLists,
    /// Rows that a protobuf list keeps for its second pass.
    KeptRows,
    /// The text of `/metrics`.
    Exposition,
    /// Bodies of kubelets, compressed and decompressed.
    KubeletBodies,
    /// Samples of nodes that report very many containers.
    NodeSamples,
}

/// The part of the budget that a class may have.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// The part that no other class can take, in percent of the budget.
    guaranteed: usize,
    /// The maximum part of the shared pool, in percent of it.
    of_pool: usize,
    /// The maximum in bytes, however large the budget is.
    max: usize,
}

/// The limits of a class in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClassLimits {
    /// What no other class can take.
    pub(super) guaranteed: usize,
    /// The maximum.
    pub(super) max: usize,
}

const MEBI: usize = 1 << 20;

impl MemoryClass {
    /// All classes.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Requests,
        Self::Responses,
        Self::EncodedLists,
        Self::KeptRows,
        Self::Exposition,
        Self::KubeletBodies,
        Self::NodeSamples,
    ];

    /// Returns the label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Responses => "responses",
            Self::EncodedLists => "encoded_lists",
            Self::KeptRows => "kept_rows",
            Self::Exposition => "exposition",
            Self::KubeletBodies => "kubelet_bodies",
            Self::NodeSamples => "node_samples",
        }
    }

    /// The absolute maxima end a loop: more usage makes the nanny grant more, which would allow more usage.
    const fn share(self) -> Share {
        match self {
            Self::Connections => Share { guaranteed: 15, of_pool: 50, max: 128 * MEBI },
            Self::Requests => Share { guaranteed: 5, of_pool: 25, max: 64 * MEBI },
            Self::Responses => Share { guaranteed: 10, of_pool: 50, max: 128 * MEBI },
            // Two lists of 1,000 nodes with 30 pods each, and some.
            Self::EncodedLists => Share { guaranteed: 0, of_pool: 75, max: 32 * MEBI },
            // One list needs a seventh of the data of the cluster.
            Self::KeptRows => Share { guaranteed: 5, of_pool: 100, max: usize::MAX },
            Self::Exposition => Share { guaranteed: 5, of_pool: 50, max: 64 * MEBI },
            Self::KubeletBodies => Share { guaranteed: 20, of_pool: 50, max: 128 * MEBI },
            // An ordinary node reserves nothing.
            Self::NodeSamples => Share { guaranteed: 0, of_pool: 40, max: 128 * MEBI },
        }
    }
}

/// Divides a budget. Returns the limits of each class, and the size of the pool that they share.
pub(super) fn divide(total: usize) -> ([ClassLimits; MemoryClass::ALL.len()], usize) {
    let percent = |of: usize, percent: usize| of / 100 * percent;
    let guaranteed = MemoryClass::ALL.map(|class| {
        let Share { guaranteed, max, .. } = class.share();
        percent(total, guaranteed).min(max)
    });
    let pool = total.saturating_sub(guaranteed.iter().sum());
    let mut limits = MemoryClass::ALL.iter().zip(guaranteed).map(|(class, guaranteed)| {
        let Share { of_pool, max, .. } = class.share();
        ClassLimits { guaranteed, max: (guaranteed + percent(pool, of_pool)).min(max) }
    });
    (std::array::from_fn(|_| limits.next().unwrap_or_default()), pool)
}

#[cfg(test)]
mod tests {
    use super::{MemoryClass, divide};

    #[test]
    fn guaranteed_parts_and_the_pool_are_the_budget() {
        for total in [0, 1, 99, 4 << 20, 45_000_000, 300 << 20, 8 << 30] {
            let (limits, pool) = divide(total);
            let guaranteed: usize = limits.iter().map(|limits| limits.guaranteed).sum();
            assert_eq!(guaranteed + pool, total);
            for (class, limits) in MemoryClass::ALL.into_iter().zip(limits) {
                assert!(limits.guaranteed <= limits.max && limits.max <= total, "{class:?}: {limits:?}");
            }
        }
    }

    #[test]
    fn scrapes_have_a_fifth_that_clients_cannot_take() {
        let (limits, _) = divide(50_000_000);
        assert_eq!(limits[MemoryClass::KubeletBodies as usize].guaranteed, 10_000_000);
    }
}
