//! The client certificate with which kube-apiserver authenticates itself to aggregated API servers.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::certificate_validity;

/// The client certificate with which kube-apiserver authenticates itself to aggregated API servers
/// (`--proxy-client-cert-file`), and its CA (`--requestheader-client-ca-file`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "duration(self.clientValidity) <= duration(self.caValidity)",
    "message": "clientValidity: must not exceed caValidity",
    "fieldPath": ".clientValidity",
}]))]
pub struct FrontProxySpec {
    /// Whether the operator issues the front-proxy certificate.
    ///
    /// - `Off`: kubeadm, the provider or another tool manages it.
    /// - `Issue`: the operator issues the certificate into the Secret `metrics-core-front-proxy`, its CA into
    ///   `metrics-core-front-proxy-ca`, and writes the flags for kube-apiserver into the ConfigMap
    ///   `metrics-core-front-proxy-flags`. You copy the files to the control-plane nodes. Requires the chart value
    ///   `frontProxy.enabled`. kube-apiserver then trusts this CA for `--requestheader-client-ca-file`: whoever can
    ///   read the Secret `metrics-core-front-proxy-ca` can impersonate any user of the cluster, also the group
    ///   `system:masters`.
    ///
    /// Default: `Off`. Set `Issue` for a cluster whose kube-apiserver has no front-proxy certificate.
    pub mode: FrontProxyMode,
    /// The common name of the certificate, from 1 to 64 characters. kube-apiserver's
    /// `--requestheader-allowed-names` must contain it. Default: `aggregator`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9:._-]{0,62}[A-Za-z0-9])?$"))]
    pub common_name: String,
    /// The directory of the files on the control-plane nodes, an absolute path. The operator uses it in the flags for
    /// kube-apiserver. Default: `/etc/kubernetes/pki`.
    #[schemars(length(max = 200), regex(pattern = r"^(/[A-Za-z0-9._-]+)+$"))]
    pub directory: String,
    /// What happens to the CA and the certificate when the MetricsPipeline is deleted or `mode` is set to `Off`.
    ///
    /// - `Keep`: the Secrets remain, because a kube-apiserver can depend on them.
    /// - `Delete`: the operator deletes the Secrets.
    ///
    /// Default: `Keep`.
    pub on_deletion: FrontProxyDeletion,
    /// The validity of the CA, as a Go duration from `1h` to `87600h`. When a third of it is left, the operator
    /// adds a new CA to `ca.crt`. The new CA signs a client certificate as soon as a kube-apiserver trusts it.
    /// Default: `315360000s` (3650 days).
    #[schemars(schema_with = "certificate_validity")]
    pub ca_validity: Duration,
    /// The validity of the client certificate, as a Go duration from `1h` to `87600h`. It must not exceed
    /// `caValidity`. The certificate is renewed when a third of its validity is left; copy it to the control-plane
    /// nodes within that time. Default: `31536000s` (365 days).
    #[schemars(schema_with = "certificate_validity")]
    pub client_validity: Duration,
}

impl Default for FrontProxySpec {
    fn default() -> Self {
        let days = |days: u64| Duration::from(std::time::Duration::from_secs(days * 24 * 60 * 60));
        Self {
            mode: FrontProxyMode::default(),
            common_name: "aggregator".to_owned(),
            directory: "/etc/kubernetes/pki".to_owned(),
            on_deletion: FrontProxyDeletion::default(),
            ca_validity: days(3650),
            client_validity: days(365),
        }
    }
}

/// Whether the operator issues the front-proxy certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FrontProxyMode {
    /// Another tool manages it.
    #[default]
    Off,
    /// The operator issues it.
    Issue,
}

/// What happens to the front-proxy CA and certificate when they are no longer configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FrontProxyDeletion {
    /// The Secrets remain.
    #[default]
    Keep,
    /// The operator deletes the Secrets.
    Delete,
}
