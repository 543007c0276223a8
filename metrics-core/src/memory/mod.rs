//! One memory budget for all that others cause: connections, requests, responses, kubelets' bodies.
//!
//! ```text
//! cgroup     the memory limit of the container, which the nanny changes in place
//! sizing     limit − data of the cluster − margin = the budget; read again every 10 s
//! class      what reserves memory, and the share of each
//! budget     reservations: a guaranteed part per class, and a part that all classes share
//! holder     a response that keeps memory until its client reads; the one that stalls longest is revoked
//! metrics    metrics_core_memory_…
//! ```
//!
//! Whoever is to keep memory for others reserves it first, in coarse steps:
//! [`MemoryBudget::try_reserve`]. Without memory a request gets 429, a connection is closed, and the body of a
//! kubelet waits or fails with a cause. The memory of scrapes is guaranteed, so that they go on whatever clients do.

mod budget;
mod cgroup;
mod class;
mod holder;
mod metrics;
mod sizing;

pub use budget::{MemoryBudget, Reservation};
pub use class::MemoryClass;
pub(crate) use holder::{Holder, Lease, keep_until_sent};
pub(crate) use sizing::{ClusterSize, INITIAL_BUDGET, follow};
