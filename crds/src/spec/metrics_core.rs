//! The metrics server.

use k8s_openapi::api::core::v1::LocalObjectReference;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::metric_resolution;
use super::{KubeletSpec, SchedulingSpec};
use crate::resources::Resources;

/// The metrics server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsCoreSpec {
    /// The image of metrics-core. Left out, the operator uses the one it was released with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When the image is pulled.
    pub image_pull_policy: PullPolicy,
    /// Secrets in the operator's namespace with credentials for the image's registry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// How many replicas serve. Each scrapes every node by itself. From 2 on there is a PodDisruptionBudget;
    /// 2 are recommended for production.
    #[schemars(range(min = 1, max = 16))]
    pub replicas: i32,
    /// Compute resources of the container.
    pub resources: Resources,
    /// How often each kubelet is scraped, as a Go duration. An HPA reacts the sooner the shorter it is.
    #[schemars(schema_with = "metric_resolution")]
    pub metric_resolution: Duration,
    /// How kubelets are reached.
    pub kubelet: KubeletSpec,
    /// Where the pods run.
    pub scheduling: SchedulingSpec,
    /// The TCP port that metrics-core listens on. With `scheduling.hostNetwork` it must be free on the nodes.
    #[schemars(range(min = 1, max = 65535))]
    pub secure_port: i32,
    /// How much metrics-core logs.
    pub log_level: LogLevel,
    /// The form of the log.
    pub log_format: LogFormat,
    /// Further arguments for metrics-core, behind those that the operator sets; those of metrics-server are
    /// understood. See docs/flags.md.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 4096)))]
    pub extra_args: Vec<String>,
}

impl Default for MetricsCoreSpec {
    fn default() -> Self {
        Self {
            image: None,
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            replicas: 1,
            resources: Resources::default(),
            metric_resolution: Duration::from(std::time::Duration::from_secs(15)),
            kubelet: KubeletSpec::default(),
            scheduling: SchedulingSpec::default(),
            secure_port: 4443,
            log_level: LogLevel::default(),
            log_format: LogFormat::default(),
            extra_args: Vec::new(),
        }
    }
}

/// When an image is pulled (Pod v1, `imagePullPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the image must be on the node.
    Never,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what may fail soon.
    Warn,
    /// Also what changed.
    #[default]
    Info,
    /// Also what was decided.
    Debug,
    /// Everything.
    Trace,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
