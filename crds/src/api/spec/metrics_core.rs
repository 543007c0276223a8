//! The metrics server.

use k8s_openapi::api::core::v1::LocalObjectReference;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::metric_resolution;
use super::{ExtraMetadata, KubeletSpec, SchedulingSpec, StrategySpec, extra_args};
use crate::api::resources::Resources;

/// The port of metrics-core if `securePort` is absent.
pub const DEFAULT_SECURE_PORT: i32 = 4443;

/// The metrics server: its image, its scrapes and its Deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.imageDigest) || !has(self.image) || !self.image.contains('@')",
    "message": "imageDigest: must be absent if image contains a digest",
    "fieldPath": ".imageDigest",
}]))]
pub struct MetricsCoreSpec {
    /// The image of metrics-core, such as `registry.example/metrics-core:0.1.0`. When absent, it is the image that
    /// the operator is started with (chart values `metricsCore.image`). Set it to use another registry or version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// The digest of the image, `sha256:` and 64 hexadecimal digits. The image reference is then
    /// `repository@sha256:…`, without the tag. When absent, the image is pulled by its tag. Set it to pin the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub image_digest: Option<String>,
    /// When the kubelet pulls the image.
    ///
    /// - `Always`: at every start of the container.
    /// - `IfNotPresent`: if the node does not have the image.
    /// - `Never`: not at all. The image must exist on the node.
    ///
    /// Default: `IfNotPresent`. Set `Always` for a tag that is overwritten in the registry.
    pub image_pull_policy: PullPolicy,
    /// Secrets in the operator's namespace with credentials for the registry of the image, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The number of replicas, from 1 to 16. Each replica scrapes all nodes. With 2 or more, the operator creates a
    /// PodDisruptionBudget. Default: `1`. Set 2 for production.
    #[schemars(range(min = 1, max = 16))]
    pub replicas: i32,
    /// The requests and limits of the container. With `nanny.mode: Apply`, the requests are only the initial size,
    /// and the limits are minimums; the pods' QoS class does not change with the size: it is Guaranteed with
    /// `nanny.limits: Same` or if these requests equal these limits, else Burstable. When absent and the nanny does not apply a size, the requests are 50m CPU and
    /// 128Mi memory.
    pub resources: Resources,
    /// The scrape interval: how often metrics-core scrapes each kubelet, as a Go duration from `1s` to `10m`.
    /// Default: `15s`. With a shorter interval, an HPA reacts sooner, and metrics-core and the kubelets use more
    /// CPU.
    #[schemars(schema_with = "metric_resolution")]
    pub metric_resolution: Duration,
    /// How metrics-core connects to kubelets.
    pub kubelet: KubeletSpec,
    /// Scheduling of the pods.
    pub scheduling: SchedulingSpec,
    /// The update strategy of the Deployment. When absent, the operator chooses it: RollingUpdate with maxSurge 1
    /// and maxUnavailable 0, so that a new pod is ready before an old one stops. If the scheduler reports for 10 s
    /// that the replicas keep the new pod off every node (their port with `scheduling.hostNetwork`, a required
    /// anti-affinity, a topology spread constraint), the operator sets maxSurge 0 and maxUnavailable 1 until the pod
    /// is scheduled. It does not do so if the kubelet reported that the node has no room for the new
    /// pod. Set it if a quota or a policy requires another strategy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategySpec>,
    /// Labels and annotations for the pods only, such as those of a service mesh. For the same key, they override
    /// `commonMetadata`. A change triggers a rollout.
    #[serde(skip_serializing_if = "ExtraMetadata::is_empty")]
    pub pod_metadata: ExtraMetadata,
    /// The TCP port that metrics-core listens on, from 1 to 65535. When absent, metrics-core listens on 4443. Set
    /// another one if a firewall between kube-apiserver and the pods does not allow 4443. With
    /// `scheduling.hostNetwork`, the port must be free on the nodes. The chart value
    /// `networkPolicy.metricsCorePort` must be the same port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub secure_port: Option<i32>,
    /// The log level of metrics-core. Each level includes those before it.
    ///
    /// - `Error`: failures.
    /// - `Warn`: conditions that can cause a failure.
    /// - `Info`: changes of state.
    /// - `Debug`: each scrape and each decision.
    /// - `Trace`: all details, including those of libraries.
    ///
    /// Default: `Info`. Set `Debug` to investigate a problem.
    pub log_level: LogLevel,
    /// The format of the log.
    ///
    /// - `Text`: one line of text for each message.
    /// - `Json`: one JSON object for each message.
    ///
    /// Default: `Text`. Set `Json` for a log collector that parses JSON.
    pub log_format: LogFormat,
    /// Additional arguments of metrics-core, at most 64; docs/flags.md lists the flags. Flags that fields of this
    /// spec set are rejected, such as `--metric-resolution` (`metricResolution`) or `--kubelet-insecure-tls`
    /// (`kubelet.tls.mode`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 4096)),
        extend("x-kubernetes-validations" = extra_args::rules())
    )]
    pub extra_args: Vec<String>,
}

impl MetricsCoreSpec {
    /// Returns the port that metrics-core listens on.
    #[must_use]
    pub fn secure_port_or_default(&self) -> i32 {
        self.secure_port.unwrap_or(DEFAULT_SECURE_PORT)
    }
}

impl Default for MetricsCoreSpec {
    fn default() -> Self {
        Self {
            image: None,
            image_digest: None,
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            replicas: 1,
            resources: Resources::default(),
            metric_resolution: Duration::from(std::time::Duration::from_secs(15)),
            kubelet: KubeletSpec::default(),
            scheduling: SchedulingSpec::default(),
            strategy: None,
            pod_metadata: ExtraMetadata::default(),
            secure_port: None,
            log_level: LogLevel::default(),
            log_format: LogFormat::default(),
            extra_args: Vec::new(),
        }
    }
}

/// When the kubelet pulls the image (Pod v1, `imagePullPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start of the container.
    Always,
    /// If the node does not have the image.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

/// The log level of metrics-core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Conditions that can cause a failure.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Each scrape and each decision.
    Debug,
    /// All details.
    Trace,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// One JSON object for each message.
    Json,
}
