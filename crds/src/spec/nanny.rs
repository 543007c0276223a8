//! How metrics-core is sized.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the resources of metrics-core are set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NannySpec {
    /// Whether resources follow the size of the cluster.
    pub mode: NannyMode,
    /// Which limits go with the requests. They fix the pod's QoS class; a change is a rollout.
    pub limits: Limits,
}

/// Whether resources follow the size of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NannyMode {
    /// `metricsCore.resources` are taken literally.
    #[default]
    Off,
}

/// Which limits go with the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Limits {
    /// The memory limit equals the request, and there is no CPU limit: a busy moment is slower, never killed.
    #[default]
    MemoryOnly,
    /// Limits equal requests (QoS class Guaranteed), as addon-resizer sets them.
    Same,
}
