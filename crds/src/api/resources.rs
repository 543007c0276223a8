//! The compute resources of the metrics-core container.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Requests and limits of the metrics-core container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// The requests: the CPU and memory that the scheduler reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// The limits: the maximum CPU and memory of the container. An absent amount follows `nanny.limits`: the memory
    /// limit equals the memory request, and a CPU limit exists only with `Same`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// An amount of CPU and of memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// CPU in cores, as a Kubernetes quantity above zero, such as `50m` or `1`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "quantity")]
    #[schemars(schema_with = "positive_quantity")]
    pub cpu: Option<Quantity>,
    /// Memory in bytes, as a Kubernetes quantity above zero, such as `64Mi` or `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "quantity")]
    #[schemars(schema_with = "positive_quantity")]
    pub memory: Option<Quantity>,
}

/// Returns the schema of a quantity above zero. Kubernetes' own schema of quantities accepts any string.
fn positive_quantity(_: &mut SchemaGenerator) -> Schema {
    quantity_schema(
        // quantity() accepts strings only, and a bare integer is valid YAML for "1".
        "type(self) == int ? int(self) > 0 : isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",
        "must be a Kubernetes quantity above zero, such as 50m, 1 or 64Mi",
    )
}

/// Returns the schema of CPU above zero, up to 1,000 cores.
pub(crate) fn cpu_quantity(_: &mut SchemaGenerator) -> Schema {
    quantity_schema(
        "type(self) == int ? int(self) > 0 && int(self) <= 1000 : isQuantity(string(self)) && \
         quantity(string(self)).isGreaterThan(quantity('0')) && !quantity(string(self)).isGreaterThan(quantity('1k'))",
        "must be a quantity of CPU above zero and at most 1000 (cores), such as 50m, 20u or 1",
    )
}

/// Returns the schema of memory above zero, up to 16 TiB.
pub(crate) fn memory_quantity(_: &mut SchemaGenerator) -> Schema {
    quantity_schema(
        "type(self) == int ? int(self) > 0 && int(self) <= 17592186044416 : isQuantity(string(self)) && \
         quantity(string(self)).isGreaterThan(quantity('0')) && !quantity(string(self)).isGreaterThan(quantity('16Ti'))",
        "must be a quantity of memory above zero and at most 16Ti, such as 64Mi or 1Gi",
    )
}

fn quantity_schema(rule: &str, message: &str) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "x-kubernetes-int-or-string": true,
        "x-kubernetes-validations": [{ "rule": rule, "message": message }],
    })
}

/// Parses a quantity. A bare number as in `cpu: 1` is accepted, because the schema accepts it and kube-apiserver
/// stores it unchanged.
pub(crate) fn quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Quantity>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a quantity such as 50m, 1 or 64Mi")]
    enum Written {
        Number(i64),
        Text(String),
    }
    let written = Option::<Written>::deserialize(deserializer)?;
    Ok(written.map(|written| match written {
        Written::Number(number) => Quantity(number.to_string()),
        Written::Text(text) => Quantity(text),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_bare_number_as_a_quantity() {
        let amounts = |json| serde_json::from_value::<ResourceAmounts>(json);
        let read = amounts(serde_json::json!({ "cpu": 1, "memory": 4_294_967_296_i64 })).expect("amounts");
        assert_eq!(read.cpu, Some(Quantity("1".to_owned())));
        assert_eq!(read.memory, Some(Quantity("4294967296".to_owned())));
        let read = amounts(serde_json::json!({ "cpu": "50m" })).expect("amounts");
        assert_eq!((read.cpu, read.memory), (Some(Quantity("50m".to_owned())), None));
        assert!(amounts(serde_json::json!({ "cpu": [] })).is_err());
    }
}
