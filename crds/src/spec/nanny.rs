//! How metrics-core is sized.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::nanny_delay;
use crate::resources::{ResourceAmounts, cpu_quantity, memory_quantity, quantity};

/// How the resources of metrics-core are set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.min) || !has(self.max) || !has(self.min.cpu) || !has(self.max.cpu) || \
             !quantity(string(self.min.cpu)).isGreaterThan(quantity(string(self.max.cpu)))",
    "message": "min.cpu: must not exceed max.cpu",
    "fieldPath": ".min",
}, {
    "rule": "!has(self.min) || !has(self.max) || !has(self.min.memory) || !has(self.max.memory) || \
             !quantity(string(self.min.memory)).isGreaterThan(quantity(string(self.max.memory)))",
    "message": "min.memory: must not exceed max.memory",
    "fieldPath": ".min",
}]))]
pub struct NannySpec {
    /// Whether resources follow the size of the cluster.
    pub mode: NannyMode,
    /// How the size is estimated.
    pub estimator: Estimator,
    /// What `Linear` and `Exponential` count.
    pub scaling_mode: ScalingMode,
    /// CPU of an empty cluster, for `Linear` and `Exponential` (addon-resizer's `--cpu`).
    #[serde(deserialize_with = "required_quantity")]
    #[schemars(schema_with = "cpu_quantity")]
    pub cpu: Quantity,
    /// CPU for each node or container on top of it (addon-resizer's `--extra-cpu`); finer than a millicore is
    /// admitted, such as `20u`.
    #[serde(deserialize_with = "required_quantity")]
    #[schemars(schema_with = "cpu_quantity")]
    pub extra_cpu: Quantity,
    /// Memory of an empty cluster, for `Linear` and `Exponential` (addon-resizer's `--memory`).
    #[serde(deserialize_with = "required_quantity")]
    #[schemars(schema_with = "memory_quantity")]
    pub memory: Quantity,
    /// Memory for each node or container on top of it (addon-resizer's `--extra-memory`).
    #[serde(deserialize_with = "required_quantity")]
    #[schemars(schema_with = "memory_quantity")]
    pub extra_memory: Quantity,
    /// By how many percent the size may differ from what `Linear` or `Exponential` computes before it is changed.
    #[schemars(range(min = 0, max = 99))]
    pub threshold: i32,
    /// The smallest number of nodes or containers that `Exponential` computes with, and where its steps begin.
    #[schemars(range(min = 2, max = 100_000))]
    pub min_cluster_size: i32,
    /// How long more must be needed, and how long ago the last change must be, before resources grow, as a Go
    /// duration. It makes one change of a burst; when memory is about to run out it is not waited for.
    #[schemars(schema_with = "nanny_delay")]
    pub scale_up_delay: Duration,
    /// How long less must be enough, and how long ago the last change must be, before resources shrink, as a Go
    /// duration.
    #[schemars(schema_with = "nanny_delay")]
    pub scale_down_delay: Duration,
    /// The least that is set, whatever is estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<ResourceAmounts>,
    /// The most that is set, whatever is estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<ResourceAmounts>,
    /// Which limits go with the requests. They fix the pod's QoS class; a change is a rollout.
    pub limits: Limits,
}

impl Default for NannySpec {
    fn default() -> Self {
        let quantity = |text: &str| Quantity(text.to_owned());
        let seconds = |seconds: u64| Duration::from(std::time::Duration::from_secs(seconds));
        Self {
            mode: NannyMode::default(),
            estimator: Estimator::default(),
            scaling_mode: ScalingMode::default(),
            // Twice what metrics-core was measured to use (docs/performance.md), and room for an empty cluster.
            cpu: quantity("20m"),
            extra_cpu: quantity("20u"),
            memory: quantity("64Mi"),
            extra_memory: quantity("128Ki"),
            threshold: 5,
            min_cluster_size: 16,
            scale_up_delay: seconds(5),
            scale_down_delay: seconds(600),
            min: None,
            max: None,
            limits: Limits::default(),
        }
    }
}

fn required_quantity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
    quantity(deserializer)?
        .ok_or_else(|| serde::de::Error::custom("must be a quantity such as 50m, 1 or 64Mi"))
}

/// Whether resources follow the size of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NannyMode {
    /// `metricsCore.resources` are taken literally.
    Off,
    /// The same, and `status.nanny` says what would be set.
    Recommend,
    /// Resources are what is recommended; the requests in `metricsCore.resources` are only the start.
    #[default]
    Apply,
}

/// How a size is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Estimator {
    /// From what metrics-core uses and what each node is seen to cost it; before that is known, from what it was
    /// measured to cost elsewhere.
    #[default]
    Measured,
    /// `cpu + extraCpu × n` and `memory + extraMemory × n`, as addon-resizer computes them.
    Linear,
    /// The same for the next of the steps `minClusterSize`, ×1.5, ×1.5², …, as addon-resizer computes them.
    Exponential,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// Nodes (that `kubelet.nodeSelector` selects).
    #[default]
    NodeProportional,
    /// Containers of running pods, as far as they have metrics.
    ContainerProportional,
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
