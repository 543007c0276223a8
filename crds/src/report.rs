//! What a metrics-core tells of itself at `GET /report` (JSON): what goes wrong for it, by cause, with examples.
//!
//! It is bounded whatever happens to metrics-core: causes are an enumeration, examples are at most three a
//! cause, texts are cut. It holds no secret. Reading it needs the right to `get` the non-resource URL `/report`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cause::{CredentialCause, HandshakeCause, ScrapeCause};

/// Where it is served.
pub const PATH: &str = "/report";

/// How many examples a cause has at most.
pub const MAX_EXAMPLES: usize = 3;

/// What a replica of metrics-core tells of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When the process started.
    pub started: Timestamp,
    /// When this was written.
    pub now: Timestamp,
    /// The SHA-256 of the serving certificate in use (its leaf, DER), in lower-case hexadecimal digits.
    #[serde(default)]
    pub serving_certificate: Option<String>,
    /// How many nodes have samples.
    pub nodes: NodeCounts,
    /// Nodes whose last scrape failed, by cause, most frequent first.
    #[serde(default)]
    pub scrapes: Vec<FailedScrapes>,
    /// Credentials that were refused in the last five minutes, by cause, latest first. A front proxy's certificate
    /// whose headers name no user counts among them also when the request went on as somebody else's.
    #[serde(default)]
    pub refused_credentials: Vec<RefusedCredentials>,
    /// TLS handshakes that failed in the last five minutes, by cause, latest first.
    #[serde(default)]
    pub failed_handshakes: Vec<FailedHandshakes>,
    /// When a request of a front proxy (kube-apiserver) was last accepted.
    #[serde(default)]
    pub last_front_proxy_request: Option<Timestamp>,
    /// The front proxy of that request.
    #[serde(default)]
    pub last_front_proxy: Option<FrontProxyClient>,
    /// The last request that a client without any credential made for metrics: what a kube-apiserver without
    /// `--proxy-client-cert-file` does.
    #[serde(default)]
    pub last_anonymous_request: Option<Timestamp>,
    /// The IP address of that request's client.
    #[serde(default)]
    pub last_anonymous_client: Option<String>,
}

/// The certificate that an accepted front proxy showed.
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

/// How many nodes have samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that are to be scraped.
    pub known: usize,
    /// Of those, the ones whose pods or own usage are served now.
    pub covered: usize,
    /// Of those, the ones whose last scrape failed.
    pub failing: usize,
    /// Of those, the ones whose kubelet is told by a pinned key, as no CA vouches for it (`kubelet.tls.mode: Pin`).
    #[serde(default)]
    pub pinned: usize,
}

/// Nodes whose last scrape failed with one cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedScrapes {
    /// The cause.
    pub cause: ScrapeCause,
    /// How many nodes.
    pub nodes: usize,
    /// Some of them, by name.
    pub examples: Vec<FailedScrape>,
}

/// A node whose last scrape failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedScrape {
    /// The Node's name.
    pub node: String,
    /// Where it was asked, as `host:port`, when it came so far.
    #[serde(default)]
    pub address: Option<String>,
    /// What happened, in words; at most 300 characters.
    pub message: String,
    /// Since when every scrape failed.
    pub since: Timestamp,
}

/// Credentials that were refused with one cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedCredentials {
    /// The cause.
    pub cause: CredentialCause,
    /// How many, in the last five minutes.
    pub count: u64,
    /// When the last was refused.
    pub last: Timestamp,
    /// The last ones of these five minutes that differ, latest first.
    pub examples: Vec<RefusedCredential>,
}

/// A credential that was refused; of a token nothing is told.
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
    /// Whether the request was for the API (its group's paths), as kube-apiserver's are.
    #[serde(default)]
    pub for_api: bool,
    /// What happened, in words; at most 300 characters.
    pub message: String,
    /// When this one was last refused.
    #[serde(default)]
    pub last: Timestamp,
}

/// TLS handshakes that failed with one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedHandshakes {
    /// The cause, as in the metric `metrics_core_tls_handshakes_total{outcome}`.
    pub cause: HandshakeCause,
    /// How many, in the last five minutes.
    pub count: u64,
    /// When the last one was.
    pub last: Timestamp,
    /// The last client's IP address.
    #[serde(default)]
    pub client: Option<String>,
    /// What it means, in words, with the TLS library's text of the last one if there is any; at most 300
    /// characters.
    pub message: String,
}
