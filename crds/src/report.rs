//! The response of a metrics-core replica to `GET /report` (JSON): its failures by cause, with examples.
//!
//! Its size is bounded: causes are an enumeration, a cause has at most [`MAX_EXAMPLES`] examples, and texts are
//! truncated. It contains no secret. Reading it requires permission to `get` the non-resource URL `/report`. For this
//! path alone metrics-core also accepts tokens of the audience [`AUDIENCE`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cause::{CredentialCause, HandshakeCause, ScrapeCause};

/// The path of the report.
pub const PATH: &str = "/report";

/// The audience of the ServiceAccount token with which the operator reads the report. kube-apiserver does not accept a token
/// of this audience, so metrics-core can't use it for anything else.
pub const AUDIENCE: &str = "metrics-core.metrics-pipeline.dev";

/// The maximum number of examples of one cause.
pub const MAX_EXAMPLES: usize = 3;

/// The report of one metrics-core replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When the process started.
    pub started: Timestamp,
    /// When the report was created.
    pub now: Timestamp,
    /// The SHA-256 digest of the serving certificate in use (the leaf, DER), in lower-case hexadecimal.
    #[serde(default)]
    pub serving_certificate: Option<String>,
    /// The number of nodes, and how many have samples.
    pub nodes: NodeCounts,
    /// The nodes whose last scrape failed, by cause, most frequent first.
    #[serde(default)]
    pub scrapes: Vec<FailedScrapes>,
    /// The nodes whose responses are incomplete or wrong, by cause, most frequent first.
    #[serde(default)]
    pub samples: Vec<SampleIssues>,
    /// Credentials that were rejected in the last five minutes, by cause, latest first. They include a front proxy's
    /// certificate without a user name in the headers, even if another credential then authenticated the request.
    #[serde(default)]
    pub refused_credentials: Vec<RefusedCredentials>,
    /// TLS handshakes that failed in the last five minutes, by cause, latest first.
    #[serde(default)]
    pub failed_handshakes: Vec<FailedHandshakes>,
    /// When metrics-core last accepted a request of a front proxy (kube-apiserver).
    #[serde(default)]
    pub last_front_proxy_request: Option<Timestamp>,
    /// The front proxy of that request.
    #[serde(default)]
    pub last_front_proxy: Option<FrontProxyClient>,
    /// When a client without any credential last requested metrics, as a kube-apiserver without
    /// `--proxy-client-cert-file` does.
    #[serde(default)]
    pub last_anonymous_request: Option<Timestamp>,
    /// The IP address of that request's client.
    #[serde(default)]
    pub last_anonymous_client: Option<String>,
    /// How long ago kube-apiserver last confirmed what each watch knows. Normally at most half a minute.
    #[serde(default)]
    pub watches: Vec<WatchAge>,
}

/// The age of what a watch knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchAge {
    /// The code of a [`WatchTarget`]; a string, so that a reader can show a code that it does not know.
    pub watch: String,
    /// The seconds since the last event, bookmark, complete list or regular end of the watch.
    pub age_seconds: u64,
}

/// What metrics-core watches at kube-apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchTarget {
    /// The Nodes.
    Nodes,
    /// The Running pods.
    Pods,
    /// ConfigMap kube-system/extension-apiserver-authentication.
    AuthenticationConfig,
    /// The Secret with the serving certificate.
    ServingCertificate,
}

impl WatchTarget {
    /// All targets.
    pub const ALL: [Self; 4] =
        [Self::Nodes, Self::Pods, Self::AuthenticationConfig, Self::ServingCertificate];

    /// Returns the code in the report and in the metric `metrics_core_discovery_age_seconds{watch}`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::AuthenticationConfig => "authentication_config",
            Self::ServingCertificate => "serving_certificate",
        }
    }

    /// Returns the target with this code; `None` for a code of a newer version.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.as_str() == code)
    }
}

/// The certificate of a front proxy whose request was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontProxyClient {
    /// The subject's common name; at most 100 characters.
    pub common_name: String,
    /// The issuer's distinguished name, as `O=…, CN=…` in the certificate's order; at most 200 characters.
    pub issuer: String,
    /// When the certificate expires.
    #[serde(default)]
    pub not_after: Option<Timestamp>,
    /// The client's IP address.
    #[serde(default)]
    pub client: Option<String>,
}

/// The number of nodes by the state of their samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that metrics-core scrapes.
    pub known: usize,
    /// Of those, the nodes with metrics: their own usage or that of their pods is served.
    pub covered: usize,
    /// Of those, the nodes whose last scrape failed.
    pub failing: usize,
    /// Of those, the nodes whose kubelet is verified by a pinned key because its serving certificate is not signed
    /// by a trusted CA (`kubelet.tls.mode: Pin`).
    #[serde(default)]
    pub pinned: usize,
}

/// The nodes whose last scrape failed with one cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedScrapes {
    /// The cause.
    pub cause: ScrapeCause,
    /// The number of nodes.
    pub nodes: usize,
    /// Examples, ordered by name.
    pub examples: Vec<FailedScrape>,
}

/// A node whose last scrape failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedScrape {
    /// The Node's name.
    pub node: String,
    /// The scraped `host:port`, if the scrape got that far.
    #[serde(default)]
    pub address: Option<String>,
    /// The error; at most 300 characters.
    pub message: String,
    /// When the first of the consecutive failures occurred.
    pub since: Timestamp,
}

/// The nodes whose responses are incomplete or wrong in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleIssues {
    /// The code of a [`SampleCause`](crate::cause::SampleCause); a string, so that a reader can show a code that it
    /// does not know.
    pub cause: String,
    /// The number of nodes.
    pub nodes: usize,
    /// The number of affected containers, pods or nodes, over all these nodes.
    #[serde(default)]
    pub count: u64,
    /// Examples, ordered by name.
    #[serde(default)]
    pub examples: Vec<SampleIssue>,
}

/// A node whose responses are incomplete or wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleIssue {
    /// The Node's name.
    pub node: String,
    /// The number of affected containers or pods; 1 if the whole node is affected.
    #[serde(default)]
    pub count: u64,
    /// What metrics-core found; at most 300 characters.
    pub message: String,
    /// When metrics-core first found it.
    pub since: Timestamp,
}

/// Credentials that were rejected with one cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedCredentials {
    /// The cause.
    pub cause: CredentialCause,
    /// The number in the last five minutes.
    pub count: u64,
    /// When the last one was rejected.
    pub last: Timestamp,
    /// The latest distinct ones of these five minutes, latest first.
    pub examples: Vec<RefusedCredential>,
}

/// A credential that was rejected. It contains nothing of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedCredential {
    /// The subject's common name; at most 100 characters.
    #[serde(default)]
    pub common_name: Option<String>,
    /// The issuer's distinguished name, as `O=…, CN=…` in the certificate's order; at most 200 characters.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The client's IP address.
    #[serde(default)]
    pub client: Option<String>,
    /// Whether the request was for a path of the Metrics API, as kube-apiserver's requests are.
    #[serde(default)]
    pub for_api: bool,
    /// The error; at most 300 characters.
    pub message: String,
    /// When this one was last rejected.
    #[serde(default)]
    pub last: Timestamp,
}

/// TLS handshakes that failed with one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedHandshakes {
    /// The cause, as in the metric `metrics_core_tls_handshakes_total{outcome}`.
    pub cause: HandshakeCause,
    /// The number in the last five minutes.
    pub count: u64,
    /// When the last one failed.
    pub last: Timestamp,
    /// The last client's IP address.
    #[serde(default)]
    pub client: Option<String>,
    /// What the cause means, and the TLS library's error of the last one, if any; at most 300 characters.
    pub message: String,
}
