//! The registration with the aggregation layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the APIServices of `metrics.k8s.io` are registered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiServiceSpec {
    /// What to do with an existing APIService of `metrics.k8s.io` that this operator does not manage, such as that
    /// of an installed metrics-server. Both versions, `v1` and `v1beta1`, are treated alike.
    ///
    /// - `Never`: leave both APIServices unchanged. The condition `APIServiceAvailable` is False and names their
    ///   owner.
    /// - `Adopt`: take over both APIServices as soon as a replica of metrics-core is ready. The other server keeps
    ///   running, but receives no requests.
    ///
    /// Default: `Never`. Set `Adopt` to replace an installed metrics-server.
    pub adoption: Adoption,
}

/// Whether a foreign APIService is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// Leaves it unchanged.
    #[default]
    Never,
    /// Takes it over.
    Adopt,
}
