//! The certificate by which kube-apiserver proves itself to aggregated API servers.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::certificate_validity;

/// The certificate by which kube-apiserver proves itself to aggregated API servers (`--proxy-client-cert-file`), and
/// the CA behind it (`--requestheader-client-ca-file`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "duration(self.clientValidity) <= duration(self.caValidity)",
    "message": "clientValidity: must not exceed caValidity",
    "fieldPath": ".clientValidity",
}]))]
pub struct FrontProxySpec {
    /// `Issue` for a cluster that has no front-proxy certificate. `Off` (the default) where something else, such as
    /// kubeadm or a provider, cares for it.
    pub mode: FrontProxyMode,
    /// The certificate's common name, as kube-apiserver's `--requestheader-allowed-names` has it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9:._-]{0,62}[A-Za-z0-9])?$"))]
    pub common_name: String,
    /// Where the files will stand on the control-plane nodes; it is written into the flags.
    #[schemars(length(max = 200), regex(pattern = r"^(/[A-Za-z0-9._-]+)+$"))]
    pub directory: String,
    /// What happens to CA and certificate when the MetricsPipeline is deleted.
    pub on_deletion: FrontProxyDeletion,
    /// How long the CA is valid, as a Go duration. When a third of it is left, a new one is made known beside it.
    #[schemars(schema_with = "certificate_validity")]
    pub ca_validity: Duration,
    /// How long the client certificate is valid, as a Go duration. It is renewed when a third of it is left: time
    /// to bring it to the control-plane nodes.
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
    /// Something else cares for it.
    #[default]
    Off,
    /// It is issued into the Secret `metrics-core-front-proxy`, and the flags into a ConfigMap beside it. Needs the
    /// chart's value `frontProxy.enabled`.
    Issue,
}

/// What happens to the front-proxy CA and certificate when they are not asked for any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FrontProxyDeletion {
    /// They stay, as a kube-apiserver may depend on them.
    #[default]
    Keep,
    /// They are deleted.
    Delete,
}
