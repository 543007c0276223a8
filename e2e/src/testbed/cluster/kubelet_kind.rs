//! The two kinds of kubelet that exist in the field, by the source of their container samples.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Where a kubelet's container samples in `/metrics/resource` come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KubeletKind {
    /// From the cache of its cAdvisor, which samples a container every 10 to 20 s (an idle one every 15 to 30 s):
    /// timestamps repeat between two samples. A stock kubelet.
    #[default]
    Cached,
    /// From the container runtime, at each request: cAdvisor does not know the containers.
    OnDemand,
}

impl fmt::Display for KubeletKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cached => "cached",
            Self::OnDemand => "on-demand",
        })
    }
}
