//! How kubelets are reached and verified.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::request_timeout;

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
    "rule": "self.mode != 'Insecure' || !has(self.certificateAuthority)",
    "message": "certificateAuthority: is only used with the modes Verify and Pin",
    "fieldPath": ".certificateAuthority",
}]))]
pub struct KubeletTlsSpec {
    /// `Verify` (recommended), `Pin` or `Insecure`.
    pub mode: KubeletTlsMode,
    /// Where the CA that signs kubelets' serving certificates is found. Left out, it is the cluster's root CA
    /// (ConfigMap `kube-root-ca.crt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<ConfigMapKey>,
    /// Whether kubelets' requests for serving certificates are approved (`serverTLSBootstrap: true` in the
    /// kubelet's configuration). `Exact` needs the chart's value `csrApproval.enabled`.
    pub csr_approval: CsrApproval,
}

/// Whether the operator approves CertificateSigningRequests of the signer `kubernetes.io/kubelet-serving`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CsrApproval {
    /// Somebody else does.
    #[default]
    Never,
    /// Those that match their Node exactly: each name and address is the Node's, and no other Node's or Service's.
    /// All others are left alone.
    Exact,
}

/// Whether kubelets' certificates are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KubeletTlsMode {
    /// The certificate must be signed by the CA and name the node or one of its addresses.
    #[default]
    Verify,
    /// A certificate for which the CA vouches is verified. Of any other the public key is remembered at first sight of
    /// the Node, by each replica for as long as it runs, and a change is refused: whoever poses as a kubelet at that
    /// first moment is not found out.
    Pin,
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
