//! The observed state.
//!
//! Enums are plain strings in the schema: a newer operator can write a new value through an older
//! CustomResourceDefinition, and an older operator parses it as `Other`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resources::ResourceAmounts;

/// The observed state of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsPipelineStatus {
    /// The `metadata.generation` that the operator last processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The namespace of the managed objects. After the operator was installed into another namespace, it is the previous
    /// one until nothing is left there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The conditions of the pipeline. `Ready` summarizes the others. Each message contains cause, evidence and
    /// remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The number of nodes with metrics, and why others have none or incomplete ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
    /// The certificates in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesStatus>,
    /// The size that the nanny recommends, and the last change of resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nanny: Option<NannyStatus>,
}

/// The size that the nanny recommends, and the last change of resources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NannyStatus {
    /// The recommended size, as of the last decision that changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommendation: Option<Recommendation>,
    /// The last change of resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<ResizeStatus>,
}

/// A recommended size and its basis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// The recommended requests.
    pub requests: ResourceAmounts,
    /// The number of nodes, or of containers with `nanny.scalingMode: ContainerProportional`.
    pub population: i64,
    /// The basis of the decision.
    pub reason: String,
}

/// A change of resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResizeStatus {
    /// When the resources were changed.
    pub time: Time,
    /// How the resources were changed.
    ///
    /// - `InPlace`: running pods were resized without a restart (KEP-1287).
    /// - `Rollout`: new pods replaced the old ones.
    #[schemars(with = "String")]
    pub method: ResizeMethod,
    /// The requests before the change.
    pub from: ResourceAmounts,
    /// The requests after the change.
    pub to: ResourceAmounts,
    /// The basis of the decision.
    pub reason: String,
}

/// How resources were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResizeMethod {
    /// Running pods were resized without a restart (KEP-1287).
    InPlace,
    /// New pods replaced the old ones.
    Rollout,
    /// A method that this version does not know.
    #[serde(other)]
    Other,
}

/// The number of nodes with metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesStatus {
    /// The number of nodes that `kubelet.nodeSelector` selects.
    pub total: i32,
    /// The number of nodes with metrics.
    pub covered: i32,
    /// `covered/total`, for the printer column.
    pub summary: String,
    /// Why nodes have no metrics, or incomplete or wrong ones, most frequent cause first.
    #[serde(default)]
    pub causes: Vec<NodesWithCause>,
}

/// Nodes that are affected by one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesWithCause {
    /// The cause, a code such as `connection_refused` or `clock_skew`; docs/diagnosis.md lists the codes.
    pub cause: String,
    /// The number of nodes with this cause.
    pub count: i32,
    /// The names of at most three of them.
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
    /// The front-proxy CA that signs the client certificate, if the operator issues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_proxy_ca: Option<CertificateStatus>,
    /// The front-proxy client certificate, if the operator issues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_proxy: Option<CertificateStatus>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When the certificate expires.
    pub not_after: Time,
    /// When the operator renews the certificate. Absent if the operator does not issue it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_time: Option<Time>,
}
