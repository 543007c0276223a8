//! The items that the kubectl plugin uses: how to read MetricsPipelines and foreign objects, and kube-apiserver's flags.
//!
//! Nothing else of this crate is meant for other crates.

pub use crate::assess::diagnosis::front_proxy::Configured as FrontProxyConfiguration;
pub use crate::common::error_chain::error_chain;
pub use crate::common::names::{LEASE, METRICS_CORE};
pub use crate::common::ownership::{is_ours, whose};
pub use crate::observe::{ActivePipeline, FrontProxyMap, Pipeline, Unreadable, select_active};
pub use crate::pki::front_proxy_flags::FrontProxyFlags;
pub use crate::plan::front_proxy::flags as front_proxy_flags;
