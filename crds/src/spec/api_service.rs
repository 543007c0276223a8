//! The registration with the aggregation layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
