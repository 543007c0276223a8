//! What the operator found and did.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cause::ScrapeCause;
use crate::resources::ResourceAmounts;

/// The observed state of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsPipelineStatus {
    /// The `metadata.generation` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of the pipeline; `Ready` sums up the others. Each message names cause, evidence and remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many nodes have metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
    /// The certificates in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesStatus>,
    /// What the nanny recommends, and what it last applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nanny: Option<NannyStatus>,
}

/// What the nanny recommends, and what it last applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NannyStatus {
    /// The size that is recommended, as of the last decision that changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommendation: Option<Recommendation>,
    /// The last change of resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<ResizeStatus>,
}

/// A size and what it was decided on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// The requests.
    pub requests: ResourceAmounts,
    /// How many nodes (or containers) there were.
    pub population: i64,
    /// Why it is what it is.
    pub reason: String,
}

/// A change of resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResizeStatus {
    /// When it was made.
    pub time: Time,
    /// How it was made.
    pub method: ResizeMethod,
    /// The requests before.
    pub from: ResourceAmounts,
    /// The requests since.
    pub to: ResourceAmounts,
    /// Why.
    pub reason: String,
}

/// How resources were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResizeMethod {
    /// Of running pods, without a restart (KEP-1287).
    InPlace,
    /// By new pods.
    Rollout,
}

/// How many nodes have metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesStatus {
    /// Nodes that the cluster has (and `kubelet.nodeSelector` selects).
    pub total: i32,
    /// Nodes for which the Metrics API answers.
    pub covered: i32,
    /// Both, for the printer column: `covered/total`.
    pub summary: String,
    /// Why nodes have none, most frequent cause first.
    #[serde(default)]
    pub causes: Vec<NodesWithCause>,
}

/// Nodes that can't be scraped, with one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesWithCause {
    /// The cause, a code such as `connection_refused` or `tls_unknown_ca` (docs/diagnosis.md lists them).
    pub cause: ScrapeCause,
    /// How many nodes.
    pub count: i32,
    /// Three of them at most, by name.
    pub nodes: Vec<String>,
}

/// The certificates in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesStatus {
    /// The CA that the APIServices trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateStatus>,
    /// The certificate that metrics-core serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<CertificateStatus>,
    /// The front-proxy CA that signs, if the operator issues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_proxy_ca: Option<CertificateStatus>,
    /// The front-proxy client certificate, if the operator issues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_proxy: Option<CertificateStatus>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When it expires.
    pub not_after: Time,
    /// When the operator renews it; left out when somebody else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_time: Option<Time>,
}
