//! What programs beside the operator may use of it: the kubectl plugin, and the simulation of the nanny.
//!
//! The plugin has no knowledge of its own: which MetricsPipeline is active, who owns an object, and what
//! extension-apiserver-authentication means come from here.

pub use crate::assess::diagnosis::front_proxy::Configured;
pub use crate::common::error_chain;
pub use crate::common::names::{LEASE, MANAGED_BY, MANAGED_BY_LABEL, METRICS_CORE};
pub use crate::common::ownership::{describe_owner, is_ours};
pub use crate::hook::RELEASE_ANNOTATION;
pub use crate::observe::{ActivePipeline, FrontProxyMap, Pipeline, Unreadable, select_active};
pub use crate::pki::Certificate;
pub use crate::pki::front_proxy_flags::FrontProxyFlags;
pub use crate::plan::front_proxy::flags as front_proxy_flags;

/// The nanny's policy, for the simulation in `examples/nanny-sim`.
pub mod nanny {
    pub use crate::nanny::{Nanny, NannyInput, Policy, Usage};
}
