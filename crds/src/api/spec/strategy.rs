//! The update strategy of the metrics-core Deployment.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The update strategy of the Deployment (Deployment v1, `spec.strategy`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.type == 'RollingUpdate' || !has(self.rollingUpdate)",
    "message": "rollingUpdate: must be absent with type Recreate",
    "fieldPath": ".rollingUpdate",
}]))]
pub struct StrategySpec {
    /// How new pods replace old ones.
    ///
    /// - `RollingUpdate`: replaces the pods step by step, within the bounds of `rollingUpdate`.
    /// - `Recreate`: stops all old pods before it starts new ones. There are no metrics until a new pod is ready.
    #[serde(rename = "type")]
    pub type_: StrategyType,
    /// The bounds of `RollingUpdate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdateSpec>,
}

/// The type of an update strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StrategyType {
    /// Replaces the pods step by step.
    RollingUpdate,
    /// Stops all old pods before new ones start.
    Recreate,
}

/// The bounds of a rolling update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.maxSurge) || !has(self.maxUnavailable) || \
             !(string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])",
    "message": "maxUnavailable: must not be 0 if maxSurge is 0",
    "fieldPath": ".maxUnavailable",
}]))]
pub struct RollingUpdateSpec {
    /// The maximum number of pods above `replicas`, as a number or as a percentage such as `25%`, rounded up. When
    /// absent, Kubernetes sets 25%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_percentage")]
    pub max_surge: Option<IntOrString>,
    /// The maximum number of unavailable pods, as a number or as a percentage such as `25%`, rounded down. When
    /// absent, Kubernetes sets 25%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_percentage")]
    pub max_unavailable: Option<IntOrString>,
}

fn number_or_percentage(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "x-kubernetes-int-or-string": true,
        // Applies to numbers.
        "minimum": 0,
        // Applies to strings.
        "pattern": "^(100|[1-9]?[0-9])%$",
    })
}
