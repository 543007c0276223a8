//! The items that the kubectl plugin uses: how to read MetricsPipelines and foreign objects, and kube-apiserver's flags.
//!
//! Nothing else of this crate is meant for other crates.

pub use crate::assess::diagnosis::front_proxy::Configured as FrontProxyConfiguration;
pub use crate::common::METRICS_CORE;
pub use crate::common::error_chain::causes as error_chain;
pub use crate::common::ownership::{is_ours, whose};
pub use crate::observe::{
    FrontProxyMap, Pipeline, Serving as ActivePipeline, Unreadable, serving as select_active,
};
pub use crate::pki::front_proxy_flags::FrontProxyFlags;
pub use crate::plan::front_proxy::flags as front_proxy_flags;
pub use crate::run::LEASE;
