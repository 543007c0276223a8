//! What the user asks for.

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, Toleration, TopologySpreadConstraint};
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::resources::Resources;
use crate::status::MetricsPipelineStatus;

/// The desired state of the cluster's resource-metrics pipeline. Every field has a default: `spec: {}` is
/// a complete pipeline.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metrics-pipeline.dev",
    version = "v1alpha1",
    kind = "MetricsPipeline",
    plural = "metricspipelines",
    shortname = "mp",
    category = "metrics",
    status = "MetricsPipelineStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "MetricsPipeline is the resource-metrics pipeline of a cluster: its metrics server, certificates, access rights and APIServices. One is served; of several the oldest.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: may have at most 63 characters, as it becomes a label value").reason(Reason::FieldValueInvalid),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether metrics are served"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why it is, or is not, ready"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes.summary", description = "Nodes with metrics, of all nodes"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", description = "Cause, evidence and remedy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MetricsPipelineSpec {
    /// The metrics server: how it scrapes, how it is run.
    #[serde(default)]
    pub metrics_core: MetricsCoreSpec,
    /// The registration with the aggregation layer of kube-apiserver.
    #[serde(default)]
    pub api_service: ApiServiceSpec,
    /// The certificates of the pipeline.
    #[serde(default)]
    pub certificates: CertificatesSpec,
    /// How the resources of metrics-core are set.
    #[serde(default)]
    pub nanny: NannySpec,
}

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

/// A Go duration from 1 s to 10 min. Its own schema, as Kubernetes has no format for it that CEL bounds.
fn metric_resolution(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("duration('1s')", "duration('10m')", "1s to 10m, such as 15s")
}

fn request_timeout(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("duration('100ms')", "duration('2m')", "100ms to 2m, such as 10s")
}

fn certificate_validity(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("duration('1h')", "duration('87600h')", "1h to 87600h (ten years), such as 2160h")
}

fn bounded_duration(min: &str, max: &str, words: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        // CEL's duration() fails the whole rule on nonsense; the pattern says it first and by name.
        "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$",
        "x-kubernetes-validations": [{
            "rule": format!("duration(self) >= {min} && duration(self) <= {max}"),
            "message": format!("must be a duration from {words}"),
        }],
    })
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

/// How kubelets are reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletSpec {
    /// Where the port comes from: left out, from each Node's `status.daemonEndpoints.kubeletEndpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Which of a Node's addresses are tried, in this order.
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub address_types: Vec<KubeletAddressType>,
    /// How long one scrape may take, connection included, as a Go duration.
    #[schemars(schema_with = "request_timeout")]
    pub request_timeout: Duration,
    /// Only nodes with these labels are scraped (a label selector: `key=value,key!=value,key in (a,b)`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub node_selector: Option<String>,
    /// How the kubelet's certificate is verified.
    pub tls: KubeletTlsSpec,
}

impl Default for KubeletSpec {
    fn default() -> Self {
        use KubeletAddressType as Address;
        Self {
            port: None,
            // Addresses before names: a node's name often resolves nowhere but on itself.
            address_types: vec![
                Address::InternalIP,
                Address::Hostname,
                Address::InternalDNS,
                Address::ExternalIP,
                Address::ExternalDNS,
            ],
            request_timeout: Duration::from(std::time::Duration::from_secs(10)),
            node_selector: None,
            tls: KubeletTlsSpec::default(),
        }
    }
}

/// A type of Node address (Node v1, `status.addresses[].type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(clippy::upper_case_acronyms, reason = "the names of the Node API")]
pub enum KubeletAddressType {
    /// The host name that the node reports.
    Hostname,
    /// An address reachable within the cluster.
    InternalIP,
    /// A name that resolves within the cluster.
    InternalDNS,
    /// An address reachable from outside.
    ExternalIP,
    /// A name that resolves outside.
    ExternalDNS,
}

/// How the kubelet's serving certificate is verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.mode == 'Verify' || !has(self.certificateAuthority)",
    "message": "certificateAuthority: is only used with mode Verify",
    "fieldPath": ".certificateAuthority",
}]))]
pub struct KubeletTlsSpec {
    /// `Verify` (recommended) or `Insecure`.
    pub mode: KubeletTlsMode,
    /// Where the CA that signs kubelets' serving certificates is found. Left out, it is the cluster's root CA
    /// (ConfigMap `kube-root-ca.crt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<ConfigMapKey>,
}

/// Whether kubelets' certificates are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KubeletTlsMode {
    /// The certificate must be signed by the CA and name the node or one of its addresses.
    #[default]
    Verify,
    /// Any certificate is accepted: whoever can redirect the connection reads the service account's token.
    Insecure,
}

/// A key of a ConfigMap in the operator's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key that holds PEM certificates.
    #[serde(default = "ca_crt")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}

/// Where the pods of metrics-core run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingSpec {
    /// Labels that a node must have. `kubernetes.io/os: linux` is added unless another value is given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Affinity. Left out, replicas prefer different nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread over zones and nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The PriorityClass; without it a full node evicts the cluster's metrics first.
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: String,
    /// Whether pods use the node's network: for clusters whose kube-apiserver can't reach pod addresses.
    pub host_network: bool,
}

impl Default for SchedulingSpec {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            priority_class_name: "system-cluster-critical".to_owned(),
            host_network: false,
        }
    }
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

/// The registration with the aggregation layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiServiceSpec {
    /// What happens when an APIService of `metrics.k8s.io` belongs to somebody else, such as an installed
    /// metrics-server.
    pub adoption: Adoption,
}

/// What happens to an APIService of somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// It is left alone, and the condition APIServiceAvailable says whose it is.
    #[default]
    Never,
    /// It is taken over and points to metrics-core; the other server is left running without requests.
    Adopt,
}

/// The certificates of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "duration(self.servingValidity) <= duration(self.caValidity)",
    "message": "servingValidity: must not exceed caValidity",
    "fieldPath": ".servingValidity",
}]))]
pub struct CertificatesSpec {
    /// Who issues the serving certificate.
    pub source: CertificateSource,
    /// The algorithm of new keys.
    pub key_algorithm: KeyAlgorithm,
    /// How long a serving certificate is valid, as a Go duration. It is renewed when a third of it is left.
    #[schemars(schema_with = "certificate_validity")]
    pub serving_validity: Duration,
    /// How long the CA is valid, as a Go duration. It is renewed when a third of it is left; old and new are
    /// trusted together meanwhile.
    #[schemars(schema_with = "certificate_validity")]
    pub ca_validity: Duration,
}

impl Default for CertificatesSpec {
    fn default() -> Self {
        let days = |days: u64| Duration::from(std::time::Duration::from_secs(days * 24 * 60 * 60));
        Self {
            source: CertificateSource::default(),
            key_algorithm: KeyAlgorithm::default(),
            serving_validity: days(30),
            ca_validity: days(365),
        }
    }
}

/// Who issues the serving certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateSource {
    /// A CA of the operator's own, kept in the Secret `metrics-core-ca`.
    #[default]
    SelfSigned,
}

/// The algorithm of a private key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// ECDSA with P-256 (FIPS 186-5).
    #[default]
    ECDSAP256,
    /// RSA with 2048 bits.
    RSA2048,
    /// RSA with 4096 bits.
    RSA4096,
}

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
