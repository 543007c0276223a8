//! The resources of the container: the fields of the nanny's field manager.

use crds::{Limits, NannyMode};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;
use std::collections::BTreeMap;

use super::{Context, Desired};
use crate::common::quantity::{nanos, same_quantity};
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
    let (cpu, memory) = (size.cpu_quantity(), size.memory_quantity());
    let has_cpu_limit = named.cpu.is_some() || context.spec.nanny.limits == Limits::Same;
    let cpu_limit = has_cpu_limit.then(|| larger(named.cpu, &cpu));
    let memory_limit = larger(named.memory, &memory);
    of_one_class(context, cpu, memory, cpu_limit, memory_limit)
}

/// Returns the resources with the QoS class that follows from the spec, whatever the size. A pod's class is immutable, so
/// pods can be resized in place only between sizes of one class.
fn of_one_class(
    context: Context<'_>,
    cpu: Quantity,
    memory: Quantity,
    cpu_limit: Option<Quantity>,
    memory_limit: Quantity,
) -> ResourceRequirements {
    if is_guaranteed(context) {
        let (cpu, memory) = (larger(cpu_limit, &cpu), larger(Some(memory_limit), &memory));
        return resources(cpu.clone(), memory.clone(), Some(cpu), memory);
    }
    let is_equal = |limit: &Quantity, request: &Quantity| same_quantity(&limit.0, &request.0);
    let cpu_limit = cpu_limit.map(|limit| {
        // With both limits equal to the requests, the class would be Guaranteed.
        if is_equal(&limit, &cpu) && is_equal(&memory_limit, &memory) { next_millicore(&cpu) } else { limit }
    });
    resources(cpu, memory, cpu_limit, memory_limit)
}

/// Whether the spec requests the QoS class Guaranteed: by `nanny.limits: Same`, or by requests that equal limits.
fn is_guaranteed(context: Context<'_>) -> bool {
    let spec = &context.spec.metrics_core.resources;
    let (requests, limits) =
        (spec.requests.clone().unwrap_or_default(), spec.limits.clone().unwrap_or_default());
    let is_equal = |request: Option<Quantity>, limit: Option<Quantity>| {
        request.zip(limit).is_some_and(|(request, limit)| same_quantity(&request.0, &limit.0))
    };
    context.spec.nanny.limits == Limits::Same
        || (is_equal(requests.cpu, limits.cpu) && is_equal(requests.memory, limits.memory))
}

fn larger(limit: Option<Quantity>, request: &Quantity) -> Quantity {
    let amount = |quantity: &Quantity| nanos(&quantity.0).unwrap_or(0);
    limit.filter(|limit| amount(limit) > amount(request)).unwrap_or_else(|| request.clone())
}

/// Returns the next larger number of millicores.
fn next_millicore(cpu: &Quantity) -> Quantity {
    const MILLICORE: i128 = 1_000_000;
    Quantity(format!("{}m", nanos(&cpu.0).unwrap_or(0) / MILLICORE + 1))
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
    match context.spec.nanny.mode {
        // The nanny resizes the pods once it knows the size of the cluster.
        NannyMode::Apply => of_one_class(context, cpu, memory, cpu_limit, memory_limit),
        NannyMode::Recommend | NannyMode::Off => resources(cpu, memory, cpu_limit, memory_limit),
    }
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

    type Change<'a> = &'a dyn Fn(&mut MetricsPipelineSpec);

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

    /// Returns requests and limits for a size.
    fn sized_for(cpu: u64, mebi: u64, change: Change<'_>) -> ResourceRequirements {
        with_context(change, |context| {
            requirements(Context { size: Some(Size { cpu, memory: mebi << 20 }), ..context })
        })
    }

    #[test]
    fn every_size_has_the_same_qos_class() {
        let limit = |cpu, memory| {
            move |spec: &mut MetricsPipelineSpec| {
                spec.metrics_core.resources.limits = Some(amounts(cpu, memory));
            }
        };
        let same = |cpu, memory| {
            move |spec: &mut MetricsPipelineSpec| {
                limit(cpu, memory)(spec);
                spec.nanny.limits = Limits::Same;
            }
        };
        let guaranteed = |spec: &mut MetricsPipelineSpec| {
            limit(Some("100m"), Some("128Mi"))(spec);
            spec.metrics_core.resources.requests = Some(amounts(Some("0.1"), Some("128Mi")));
        };
        let specs: [(&str, Change<'_>); 8] = [
            ("no limit", &|_| {}),
            ("a CPU limit", &limit(Some("100m"), None)),
            ("a memory limit", &limit(None, Some("128Mi"))),
            ("both limits", &limit(Some("100m"), Some("128Mi"))),
            ("Same", &same(None, None)),
            ("Same and a CPU limit", &same(Some("100m"), None)),
            ("Same and both limits", &same(Some("100m"), Some("128Mi"))),
            ("requests that equal limits", &guaranteed),
        ];
        let sizes = [(20, 64), (99, 128), (100, 64), (100, 128), (200, 64), (200, 512)];
        for (name, spec) in specs {
            let all: Vec<_> = sizes.iter().map(|(cpu, mebi)| sized_for(*cpu, *mebi, spec)).collect();
            for pair in all.windows(2) {
                assert!(crate::nanny::resize::can_resize(&pair[0], &pair[1]), "{name}: {pair:?}");
            }
            // So has the pod that is created before the size of the cluster is known.
            let before = with_context(spec, requirements);
            assert!(crate::nanny::resize::can_resize(&before, &all[0]), "{name}: {before:?} {:?}", all[0]);
        }
        let limits = |resources: ResourceRequirements| json!(resources.limits);
        assert_eq!(
            limits(sized_for(100, 64, &limit(Some("100m"), None))),
            json!({ "cpu": "101m", "memory": "64Mi" })
        );
        let both = sized_for(20, 64, &same(Some("100m"), None));
        assert_eq!(json!(both.requests), json!({ "cpu": "100m", "memory": "64Mi" }));
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
