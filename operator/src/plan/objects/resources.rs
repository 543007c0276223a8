//! The resources of the container: the fields of the nanny's field manager.

use crds::Limits;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;
use std::collections::BTreeMap;

use super::{Context, Desired};
use crate::common::quantity::nanos;
use crate::common::{METRICS_CORE, ManagedObject, NANNY_FIELD_MANAGER};
use crate::nanny::Size;

/// An annotation of the template that only distinguishes pods with it from pods without it.
pub(crate) const AGAIN: &str = "metrics-pipeline.dev/made-again";

const DEFAULT_CPU: &str = "50m";
const DEFAULT_MEMORY: &str = "128Mi";

/// Returns the requests and limits of the nanny, or else of the spec. Limits that are not set follow `nanny.limits`.
#[must_use]
pub(crate) fn requirements(context: Context<'_>) -> ResourceRequirements {
    context.size.map_or_else(|| literal(context), |size| sized(context, size))
}

/// Returns the nanny's requests. A limit of the spec is never lowered, only raised to the request.
fn sized(context: Context<'_>, size: Size) -> ResourceRequirements {
    let named = context.spec.metrics_core.resources.limits.clone().unwrap_or_default();
    let at_least = |limit: Option<Quantity>, request: Quantity| {
        let amount = |quantity: &Quantity| nanos(&quantity.0).unwrap_or(0);
        limit.filter(|limit| amount(limit) > amount(&request)).unwrap_or(request)
    };
    let (cpu, memory) = (size.cpu_quantity(), size.memory_quantity());
    let has_cpu_limit = named.cpu.is_some() || context.spec.nanny.limits == Limits::Same;
    let cpu_limit = has_cpu_limit.then(|| at_least(named.cpu, cpu.clone()));
    let memory_limit = at_least(named.memory, memory.clone());
    resources(cpu, memory, cpu_limit, memory_limit)
}

fn literal(context: Context<'_>) -> ResourceRequirements {
    let spec = &context.spec.metrics_core.resources;
    let requests = spec.requests.clone().unwrap_or_default();
    let limits = spec.limits.clone().unwrap_or_default();
    let or_limit = |request: Option<Quantity>, limit: &Option<Quantity>, default: &str| {
        // As in Kubernetes, a limit without a request is the request, too.
        request.or_else(|| limit.clone()).unwrap_or_else(|| Quantity(default.to_owned()))
    };
    let cpu = or_limit(requests.cpu, &limits.cpu, DEFAULT_CPU);
    let memory = or_limit(requests.memory, &limits.memory, DEFAULT_MEMORY);
    let cpu_limit = limits.cpu.or_else(|| match context.spec.nanny.limits {
        Limits::MemoryOnly => None,
        Limits::Same => Some(cpu.clone()),
    });
    let memory_limit = limits.memory.unwrap_or_else(|| memory.clone());
    resources(cpu, memory, cpu_limit, memory_limit)
}

fn resources(
    cpu: Quantity,
    memory: Quantity,
    cpu_limit: Option<Quantity>,
    memory_limit: Quantity,
) -> ResourceRequirements {
    let named = |cpu: Option<Quantity>, memory: Quantity| -> BTreeMap<String, Quantity> {
        cpu.map(|cpu| ("cpu".to_owned(), cpu)).into_iter().chain([("memory".to_owned(), memory)]).collect()
    };
    ResourceRequirements {
        requests: Some(named(Some(cpu), memory)),
        limits: Some(named(cpu_limit, memory_limit)),
        ..ResourceRequirements::default()
    }
}

/// Builds the nanny's part of the Deployment: the container's resources, and [`AGAIN`].
pub(crate) fn build(
    context: Context<'_>,
    resources: &ResourceRequirements,
    again: bool,
) -> Result<Desired, serde_json::Error> {
    let resource = ManagedObject::Deployment.resource();
    let mut body = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": { "name": ManagedObject::Deployment.name(), "namespace": context.settings.namespace },
        "spec": { "template": { "spec": { "containers": [
            { "name": METRICS_CORE, "resources": resources },
        ] } } },
    });
    if again {
        body["spec"]["template"]["metadata"] = json!({ "annotations": { AGAIN: "true" } });
    }
    Ok(Desired { manager: NANNY_FIELD_MANAGER, ..Desired::new(ManagedObject::Deployment, &body)? })
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;
    use crds::{MetricsPipelineSpec, ResourceAmounts, Resources};

    fn built(change: impl FnOnce(&mut MetricsPipelineSpec)) -> serde_json::Value {
        let body = with_context(change, |context| {
            build(context, &requirements(context), false).expect("built").body
        });
        body["spec"]["template"]["spec"]["containers"][0]["resources"].clone()
    }

    fn amounts(cpu: Option<&str>, memory: Option<&str>) -> ResourceAmounts {
        let quantity = |value: Option<&str>| value.map(|value| Quantity(value.to_owned()));
        ResourceAmounts { cpu: quantity(cpu), memory: quantity(memory) }
    }

    #[test]
    fn memory_limit_is_the_request_and_cpu_has_none() {
        assert_eq!(
            built(|_| {}),
            json!({ "requests": { "cpu": "50m", "memory": "128Mi" }, "limits": { "memory": "128Mi" } })
        );
    }

    #[test]
    fn same_sets_limits_to_requests() {
        assert_eq!(
            built(|spec| {
                spec.nanny.limits = Limits::Same;
                spec.metrics_core.resources.requests = Some(amounts(Some("1"), None));
            }),
            json!({ "requests": { "cpu": "1", "memory": "128Mi" }, "limits": { "cpu": "1", "memory": "128Mi" } })
        );
    }

    #[test]
    fn resources_of_the_spec_are_literal() {
        assert_eq!(
            built(|spec| {
                spec.metrics_core.resources = Resources {
                    requests: Some(amounts(None, Some("100Mi"))),
                    limits: Some(amounts(Some("2"), Some("200Mi"))),
                };
            }),
            json!({ "requests": { "cpu": "2", "memory": "100Mi" }, "limits": { "cpu": "2", "memory": "200Mi" } })
        );
    }
}
