//! How metrics-core connects to kubelets and verifies them.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::request_timeout;
use super::managed_names::not_managed_here;

/// How metrics-core connects to kubelets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletSpec {
    /// The port of the kubelets, from 1 to 65535. When absent, metrics-core reads it from each Node's
    /// `status.daemonEndpoints.kubeletEndpoint` (usually 10250). Set it if a proxy serves the kubelets on another
    /// port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The types of Node addresses that metrics-core connects to, in this order. It tries the next address if the
    /// connection fails, and remembers the address that works.
    ///
    /// - `InternalIP`: an IP address that is reachable within the cluster's network.
    /// - `Hostname`: the host name that the kubelet reports.
    /// - `InternalDNS`: a DNS name that resolves within the cluster's network.
    /// - `ExternalIP`: an IP address that is reachable from outside the cluster's network.
    /// - `ExternalDNS`: a DNS name that resolves outside the cluster's network.
    ///
    /// Default: `InternalIP`, `Hostname`, `InternalDNS`, `ExternalIP`, `ExternalDNS`. Change the order if pods
    /// can't reach the internal addresses of nodes.
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub address_types: Vec<KubeletAddressType>,
    /// The timeout of one scrape, including the connection, as a Go duration from `100ms` to `2m`. metrics-core
    /// limits it to nine tenths of `metricResolution`. Default: `10s`. Increase it for slow kubelets.
    #[schemars(schema_with = "request_timeout")]
    pub request_timeout: Duration,
    /// A label selector of the nodes to scrape, such as `key=value,key!=value,key in (a,b)`. When absent,
    /// metrics-core scrapes all nodes. Set it to exclude nodes without a kubelet, such as virtual nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub node_selector: Option<String>,
    /// How metrics-core verifies the kubelets' serving certificates.
    pub tls: KubeletTlsSpec,
}

impl Default for KubeletSpec {
    fn default() -> Self {
        use KubeletAddressType as Address;
        Self {
            port: None,
            // Addresses before names: the name of a node often resolves only on that node.
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
    /// The host name that the kubelet reports.
    Hostname,
    /// An IP address that is reachable within the cluster's network.
    InternalIP,
    /// A DNS name that resolves within the cluster's network.
    InternalDNS,
    /// An IP address that is reachable from outside the cluster's network.
    ExternalIP,
    /// A DNS name that resolves outside the cluster's network.
    ExternalDNS,
}

/// How metrics-core verifies the kubelets' serving certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.mode != 'Insecure' || !has(self.certificateAuthority)",
    "message": "certificateAuthority: must be absent with mode Insecure",
    "fieldPath": ".certificateAuthority",
}]))]
pub struct KubeletTlsSpec {
    /// Which serving certificates of kubelets metrics-core accepts. It sends its ServiceAccount token to every
    /// kubelet that it accepts.
    ///
    /// - `Verify`: the certificate must be signed by the CA and contain a name or an address of the Node.
    /// - `Pin`: a certificate that is signed by the CA is verified as with `Verify`. For any other certificate,
    ///   metrics-core trusts the public key on first use (TOFU) and rejects another key later. Each replica keeps
    ///   the pins in memory until it stops. An attacker who intercepts the first connection is not detected.
    /// - `Insecure`: any certificate is accepted. An attacker who intercepts a connection obtains the token.
    ///
    /// Default: `Verify`. Use `Pin` if the kubelets' certificates are self-signed, as kubeadm's are by default.
    pub mode: KubeletTlsMode,
    /// The CA of the kubelets' serving certificates. When absent, it is the cluster's root CA (ConfigMap
    /// `kube-root-ca.crt`). Set it if another CA signs the kubelets' certificates, as on OpenShift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<ConfigMapKey>,
    /// Whether the operator approves the kubelets' CertificateSigningRequests for serving certificates (signer
    /// `kubernetes.io/kubelet-serving`). Kubelets create them with `serverTLSBootstrap: true`.
    ///
    /// - `Never`: the operator approves none.
    /// - `Exact`: the operator approves a request if each name and address in it is in the `status.addresses` of the
    ///   requesting Node and of no other Node, is no name or address of kube-apiserver, is no address of a Service or
    ///   pod, and matches `csrAllowList`. It leaves all other requests pending. Requires the chart value
    ///   `csrApproval.enabled`.
    ///
    /// Default: `Never`. Set `Exact` if no other controller approves these requests, and set `csrAllowList` with it.
    pub csr_approval: CsrApproval,
    /// The names and addresses that the operator approves in CertificateSigningRequests of kubelets: each name and
    /// address of a request must match an entry. A kubelet writes the addresses of its own Node, so without a list a
    /// compromised node can obtain a certificate for any name or address that no other object has. An entry is one of:
    ///
    /// - an IP address or a range in CIDR notation, such as `10.0.0.0/16` or `2001:db8::/64`;
    /// - a DNS name in lower case. `*` stands for any characters but dots, such as `node-*` or
    ///   `*.nodes.example.org`.
    ///
    /// At most 64 entries. When absent, names and addresses are not restricted. Set it to the networks and the domain
    /// of your nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 253), regex(pattern = r"^[0-9a-z*:]([0-9a-z*:./-]*[0-9a-z*:])?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub csr_allow_list: Option<Vec<String>>,
}

/// Whether the operator approves CertificateSigningRequests of the signer `kubernetes.io/kubelet-serving`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CsrApproval {
    /// Approves none.
    #[default]
    Never,
    /// Approves the requests that match their Node exactly.
    Exact,
}

/// Which serving certificates of kubelets are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KubeletTlsMode {
    /// Those that the CA signed for the Node.
    #[default]
    Verify,
    /// Those that the CA signed for the Node, and otherwise trust on first use.
    Pin,
    /// All.
    Insecure,
}

/// The names of the ConfigMaps that the operator manages. No field may name one as its source.
pub const MANAGED_CONFIG_MAPS: [&str; 2] = ["metrics-core", "metrics-core-front-proxy-flags"];

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = not_managed_here(&MANAGED_CONFIG_MAPS, "ConfigMap")))]
pub struct ConfigMapKey {
    /// The namespace of the ConfigMap. When absent, it is the operator's namespace. Another namespace requires the chart
    /// values `kubeletCA.namespace` and `kubeletCA.name`, so that the operator may read the ConfigMap. On OpenShift, set
    /// `openshift-config-managed`, with the name `kubelet-serving-ca` and the key `ca-bundle.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key with the CA certificates (PEM). Default: `ca.crt`.
    #[serde(default = "ca_crt")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}
