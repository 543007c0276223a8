//! The nanny: it sizes the metrics-core container.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::nanny_delay;
use crate::api::resources::{ResourceAmounts, cpu_quantity, memory_quantity, quantity};

/// How the nanny sizes the metrics-core container.
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
    /// Whether the container's resources follow the size of the cluster.
    ///
    /// - `Off`: the resources are those in `metricsCore.resources`.
    /// - `Recommend`: as `Off`, and `status.nanny.recommendation` reports the recommended size.
    /// - `Apply`: the nanny sets the recommended size, in place where possible. The requests in
    ///   `metricsCore.resources` are only the initial size.
    ///
    /// Default: `Apply`. Set `Off` if another controller, such as a VerticalPodAutoscaler, sizes metrics-core.
    pub mode: NannyMode,
    /// How the nanny estimates the size.
    ///
    /// - `Measured`: from the measured usage of metrics-core and its cost for each node. Until usage is known, the
    ///   nanny uses figures from benchmarks.
    /// - `Linear`: `cpu + extraCpu × n` and `memory + extraMemory × n`, as addon-resizer computes them.
    /// - `Exponential`: as `Linear`, with `n` rounded up to the next of the steps `minClusterSize`, ×1.5, ×1.5², ….
    ///
    /// Default: `Measured`. Use `Linear` or `Exponential` for sizes that can be computed in advance.
    pub estimator: Estimator,
    /// What `n` counts in the estimators `Linear` and `Exponential`.
    ///
    /// - `NodeProportional`: the nodes that `kubelet.nodeSelector` selects.
    /// - `ContainerProportional`: the containers of running pods that have metrics.
    ///
    /// Default: `NodeProportional`.
    pub scaling_mode: ScalingMode,
    /// The CPU for an empty cluster, in cores, up to `1000`, for `Linear` and `Exponential` (addon-resizer's
    /// `--cpu`). Default: `20m`.
    #[serde(deserialize_with = "required_quantity")]
    #[schemars(schema_with = "cpu_quantity")]
    pub cpu: Quantity,
    /// The additional CPU for each node or container, in cores (addon-resizer's `--extra-cpu`). Fractions of a
    /// millicore are valid. Default: `20u`.
    #[serde(deserialize_with = "required_quantity")]
    #[schemars(schema_with = "cpu_quantity")]
    pub extra_cpu: Quantity,
    /// The memory for an empty cluster, in bytes, up to `16Ti`, for `Linear` and `Exponential` (addon-resizer's
    /// `--memory`). Default: `64Mi`.
    #[serde(deserialize_with = "required_quantity")]
    #[schemars(schema_with = "memory_quantity")]
    pub memory: Quantity,
    /// The additional memory for each node or container, in bytes (addon-resizer's `--extra-memory`). Default:
    /// `128Ki`.
    #[serde(deserialize_with = "required_quantity")]
    #[schemars(schema_with = "memory_quantity")]
    pub extra_memory: Quantity,
    /// The tolerance of `Linear` and `Exponential`, in percent from 0 to 99: the nanny keeps a size that differs
    /// from the computed size by less than that. Default: `5`. Increase it for fewer changes.
    #[schemars(range(min = 0, max = 99))]
    pub threshold: i32,
    /// The first step of `Exponential`, from 2 to 100000: a smaller number of nodes or containers is computed as
    /// this one. Default: `16`.
    #[schemars(range(min = 2, max = 100_000))]
    pub min_cluster_size: i32,
    /// How long the estimate must stay above the current size, and the minimum time since the last change, before
    /// the nanny increases the resources, as a Go duration from `0s` to `24h`. It merges a burst of new nodes into one change. If memory is nearly
    /// exhausted, the nanny does not wait. Default: `5s`.
    #[schemars(schema_with = "nanny_delay")]
    pub scale_up_delay: Duration,
    /// How long the estimate must stay below the current size, and the minimum time since the last change, before
    /// the nanny decreases the resources, as a Go duration from `0s` to `24h`. Default: `600s` (10 minutes).
    #[schemars(schema_with = "nanny_delay")]
    pub scale_down_delay: Duration,
    /// The minimum size. Set it if the nanny's sizes are too small for the number of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<ResourceAmounts>,
    /// The maximum size. Set it if the nodes or a quota have no room for larger pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<ResourceAmounts>,
    /// The container's limits in relation to its requests. They determine the pods' QoS class, so a change
    /// triggers a rollout.
    ///
    /// - `MemoryOnly`: the memory limit equals the memory request, and there is no CPU limit (QoS class Burstable).
    /// - `Same`: both limits equal the requests (QoS class Guaranteed), as addon-resizer sets them. CPU is
    ///   throttled at the limit.
    ///
    /// Default: `MemoryOnly`.
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
            // Twice the measured usage (docs/performance.md), plus the usage in an empty cluster.
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

/// Whether the container's resources follow the size of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NannyMode {
    /// Uses `metricsCore.resources`.
    Off,
    /// Uses `metricsCore.resources` and reports the recommended size.
    Recommend,
    /// Sets the recommended size.
    #[default]
    Apply,
}

/// How the nanny estimates a size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Estimator {
    /// From measured usage.
    #[default]
    Measured,
    /// Proportional to the count, as addon-resizer computes it.
    Linear,
    /// Proportional to the next step of the count, as addon-resizer computes it.
    Exponential,
}

/// What the estimators `Linear` and `Exponential` count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// Nodes that `kubelet.nodeSelector` selects.
    #[default]
    NodeProportional,
    /// Containers of running pods that have metrics.
    ContainerProportional,
}

/// The container's limits in relation to its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Limits {
    /// The memory limit equals the request, and there is no CPU limit.
    #[default]
    MemoryOnly,
    /// Both limits equal the requests.
    Same,
}
