//! Explains why pods are not ready.

use std::time::Duration;

use crds::{Estimator, MetricsPipelineSpec, NannyMode, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::common::METRICS_CORE;
use crate::common::normalize::bounded;
use crate::nanny::Policy;

/// A container that has been running for less than this is still starting.
const STARTING: Duration = Duration::from_secs(60);

/// A container that has restarted more than once, and last within this time, counts as crashing.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// The maximum length of a quotation, in characters.
const MAX_QUOTE: usize = 400;

/// Returns the most severe problem of the pods, if any. Problems that do not resolve by themselves come first.
#[must_use]
pub(super) fn worst(
    pods: &[Pod],
    spec: &MetricsPipelineSpec,
    namespace: &str,
    now: Timestamp,
) -> Option<(Reason, String)> {
    let rank = |reason: Reason| match reason {
        Reason::ImagePullBackOff => 0,
        Reason::CrashLoopBackOff => 1,
        Reason::Unschedulable => 2,
        _ => 3,
    };
    pods.iter().filter_map(|pod| problem(pod, spec, namespace, now)).min_by_key(|(reason, _)| rank(*reason))
}

fn problem(
    pod: &Pod,
    spec: &MetricsPipelineSpec,
    namespace: &str,
    now: Timestamp,
) -> Option<(Reason, String)> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let terminated_phase = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if pod.metadata.deletion_timestamp.is_some() || terminated_phase {
        return None;
    }
    let condition =
        |type_: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == type_);
    if condition("Ready").is_some_and(|ready| ready.status == "True") {
        return None;
    }
    if let Some(scheduled) = condition("PodScheduled").filter(|scheduled| scheduled.status == "False") {
        let message = quote(scheduled.message.as_deref());
        return Some((
            Reason::Unschedulable,
            format!(
                "Pod {name} cannot be scheduled: the scheduler reports \"{message}\". Check \
                 spec.metricsCore.scheduling and spec.metricsCore.resources, or add node capacity. Run `kubectl \
                 describe pod {name} --namespace {namespace}` for details."
            ),
        ));
    }
    let has_lasted = |type_: &str| {
        let since = condition(type_).and_then(|condition| condition.last_transition_time.as_ref());
        since.is_some_and(|since| lasts(since.0, now))
    };
    // Our container first; an injected container (sidecar or init container) may be the cause too.
    let mut containers: Vec<_> = status.container_statuses.iter().flatten().collect();
    containers.sort_by_key(|container| container.name != METRICS_CORE);
    let injected = status.init_container_statuses.iter().flatten();
    let of_a_container = containers.iter().copied().chain(injected).filter(|container| !container.ready);
    let found = of_a_container.clone().find_map(|container| {
        waiting(container, name, namespace)
            .or_else(|| crashing(container, spec, name, namespace, now))
            .or_else(|| not_ready(container, name, namespace, now))
    });
    if found.is_some() {
        return found;
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("?");
    if has_lasted("PodScheduled")
        && let Some(stuck) =
            of_a_container.clone().find_map(|container| stuck(container, name, node, namespace))
    {
        return Some(stuck);
    }
    let all_ready = !containers.is_empty() && containers.iter().all(|container| container.ready);
    (all_ready && has_lasted("Ready")).then(|| (Reason::PodsNotReady, silent(name, node, namespace)))
}

/// Explains a pod that is not ready although the kubelet last reported all its containers as ready.
fn silent(pod: &str, node: &str, namespace: &str) -> String {
    format!(
        "Pod {pod} is not ready, although its containers were ready in the kubelet's last report. Node {node} may be \
         down, or a readiness gate is not met. Run `kubectl get node {node}` and `kubectl describe pod {pod} \
         --namespace {namespace}`."
    )
}

/// Returns whether a state has lasted longer than a normal start.
fn lasts(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) >= SignedDuration::try_from(STARTING).unwrap_or_default()
}

fn waiting(container: &ContainerStatus, pod: &str, namespace: &str) -> Option<(Reason, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = quote(waiting.message.as_deref());
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError"
        | "RegistryUnavailable" => Some((
            Reason::ImagePullBackOff,
            format!(
                "Image {} of pod {pod} cannot be pulled: the kubelet reports {reason} \"{message}\". Correct \
                 spec.metricsCore.image, spec.metricsCore.imagePullSecrets or the registry.",
                container.image
            ),
        )),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some((
            Reason::PodsNotReady,
            format!(
                "Container {} of pod {pod} cannot start: the kubelet reports {reason} \"{message}\". Run `kubectl \
                 describe pod {pod} --namespace {namespace}` for details.",
                container.name
            ),
        )),
        _ => None,
    }
}

/// Explains a container that has been waiting for longer than a normal start: for the network, a volume or an init
/// container.
fn stuck(container: &ContainerStatus, pod: &str, node: &str, namespace: &str) -> Option<(Reason, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or("no reason");
    Some((
        Reason::PodsNotReady,
        format!(
            "Container {} of pod {pod} does not start: the kubelet of node {node} reports {reason}. A volume, the pod \
             network or an init container is not ready. See the events in `kubectl describe pod {pod} --namespace \
             {namespace}`.",
            container.name
        ),
    ))
}

/// Returns whether a terminated container is likely to terminate again. A single restart is no crash loop: a reboot of the
/// machine restarts each container once.
fn repeats(container: &ContainerStatus, last: &ContainerStateTerminated, now: Timestamp) -> bool {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let backs_off = waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"));
    let is_recent = |ended: &Time| now.duration_since(ended.0) < RECENT;
    backs_off || (container.restart_count > 1 && last.finished_at.as_ref().is_none_or(is_recent))
}

fn crashing(
    container: &ContainerStatus,
    spec: &MetricsPipelineSpec,
    pod: &str,
    namespace: &str,
    now: Timestamp,
) -> Option<(Reason, String)> {
    let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.clone())
    };
    let earlier = || terminated(&container.last_state).filter(|last| repeats(container, last, now));
    let last = terminated(&container.state).or_else(earlier)?;
    let ContainerStateTerminated { exit_code, reason, message, .. } = last;
    let reason = reason.unwrap_or_default();
    // The last line of the log is the most specific.
    let message = message.unwrap_or_default();
    let output = message.trim_end().lines().next_back().unwrap_or_default();
    let output =
        if output.is_empty() { "(empty)".to_owned() } else { format!("\"{}\"", quote(Some(output))) };
    let remedy = if reason == "OOMKilled" {
        more_memory(&container.name, spec)
    } else {
        format!("Run `kubectl logs {pod} --container {} --namespace {namespace} --previous`.", container.name)
    };
    Some((
        Reason::CrashLoopBackOff,
        format!(
            "Container {} of pod {pod} keeps crashing. Its last exit code is {exit_code} ({reason}) and its last \
             output is {output}. {remedy}",
            container.name
        ),
    ))
}

/// Returns the remedy for a container that was OOM-killed.
fn more_memory(container: &str, spec: &MetricsPipelineSpec) -> String {
    if container != METRICS_CORE {
        return format!(
            "Increase the memory limit of container {container}: another component adds it to the pod."
        );
    }
    match (spec.nanny.mode, spec.nanny.estimator) {
        (NannyMode::Apply, Estimator::Measured) => format!(
            "The nanny raises the memory after an OOM kill, up to spec.nanny.max.memory ({}). If the container crashes with \
             this size too, increase spec.nanny.max.memory. Set spec.nanny.min.memory to start with more. \
             spec.metricsCore.resources is only the initial size.",
            Policy::new(spec).max.memory_quantity().0
        ),
        (NannyMode::Apply, Estimator::Linear | Estimator::Exponential) => {
            "Increase spec.nanny.memory or spec.nanny.extraMemory, from which the nanny computes the memory, and \
             spec.nanny.max.memory if it is set. spec.metricsCore.resources is only the initial size."
                .to_owned()
        }
        (NannyMode::Recommend | NannyMode::Off, _) => {
            let limits = spec.metrics_core.resources.limits.as_ref();
            if limits.is_some_and(|limits| limits.memory.is_some()) {
                "Increase spec.metricsCore.resources.limits.memory.".to_owned()
            } else {
                "Increase spec.metricsCore.resources.requests.memory. It is also the memory limit.".to_owned()
            }
        }
    }
}

fn not_ready(
    container: &ContainerStatus,
    pod: &str,
    namespace: &str,
    now: Timestamp,
) -> Option<(Reason, String)> {
    let running = container.state.as_ref()?.running.as_ref()?;
    let started = running.started_at.as_ref()?.0;
    if !lasts(started, now) {
        return None;
    }
    Some((
        Reason::PodsNotReady,
        format!(
            "Pod {pod} has been running since {started} but is not ready. Run `kubectl logs {pod} --namespace \
             {namespace}` to see what it is waiting for."
        ),
    ))
}

/// Quotes a message of Kubernetes, truncated to the maximum length.
pub(super) fn quote(message: Option<&str>) -> String {
    bounded(message.unwrap_or_default(), MAX_QUOTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "metrics-core-1" }, "status": status }))
            .expect("a pod")
    }

    #[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn container(state: Value, last: Value) -> Value {
        json!({ "phase": "Running", "containerStatuses": [{
            "name": "metrics-core", "image": "registry/x:1", "imageID": "", "ready": false, "restartCount": 3,
            "state": state, "lastState": last,
        }] })
    }

    fn worst_of(pods: &[Pod]) -> Option<(Reason, String)> {
        worst_with(pods, &MetricsPipelineSpec::default())
    }

    fn worst_with(pods: &[Pod], spec: &MetricsPipelineSpec) -> Option<(Reason, String)> {
        worst(pods, spec, "ns", "2026-01-01T00:10:00Z".parse().expect("a time"))
    }

    #[test]
    fn the_remedy_for_an_oom_kill_has_an_effect_in_the_mode_of_the_nanny() {
        let killed = |name: &str| {
            let mut status = container(
                json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
                json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } }),
            );
            status["containerStatuses"][0]["name"] = json!(name);
            [pod(status)]
        };
        let remedy = |spec: Value| {
            let spec = serde_json::from_value(spec).expect("a spec");
            worst_with(&killed("metrics-core"), &spec).expect("a problem").1
        };
        // By default the nanny applies its own size, and spec.metricsCore.resources has no effect.
        let message = remedy(json!({}));
        assert!(
            message.contains("increase spec.nanny.max.memory") && message.contains("(8192Mi)"),
            "{message}"
        );
        let message = remedy(json!({ "nanny": { "max": { "memory": "100Mi" } } }));
        assert!(message.contains("(100Mi)"), "{message}");
        let message = remedy(json!({ "nanny": { "estimator": "Linear" } }));
        assert!(message.contains("Increase spec.nanny.memory or spec.nanny.extraMemory"), "{message}");
        for mode in ["Off", "Recommend"] {
            let message = remedy(json!({ "nanny": { "mode": mode } }));
            assert!(message.contains("Increase spec.metricsCore.resources.requests.memory"), "{message}");
            assert!(!message.contains("nanny"), "{message}");
            let resources = json!({ "limits": { "memory": "64Mi" } });
            let message =
                remedy(json!({ "nanny": { "mode": mode }, "metricsCore": { "resources": resources } }));
            assert!(message.contains("Increase spec.metricsCore.resources.limits.memory"), "{message}");
        }
        let message =
            worst_with(&killed("mesh-proxy"), &MetricsPipelineSpec::default()).expect("a problem").1;
        assert!(message.contains("memory limit of container mesh-proxy"), "{message}");
    }

    #[test]
    fn reports_containers_that_never_start_and_nodes_that_are_down() {
        let scheduled = |at: &str, ready: &str| {
            json!([
                { "type": "PodScheduled", "status": "True", "lastTransitionTime": at },
                { "type": "Ready", "status": "False", "lastTransitionTime": ready },
            ])
        };
        let of = |statuses: Value, at: &str| {
            let mut status = json!({ "phase": "Pending", "conditions": scheduled(at, at) });
            status
                .as_object_mut()
                .expect("an object")
                .extend(statuses.as_object().expect("an object").clone());
            worst_of(&[pod(status)])
        };
        let one = |name: &str, ready: bool, state: Value| json!({ "name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state });
        let creating = one("metrics-core", false, json!({ "waiting": { "reason": "ContainerCreating" } }));
        let alone = json!({ "containerStatuses": [creating] });
        assert_eq!(of(alone.clone(), "2026-01-01T00:09:55Z"), None);
        let (reason, message) = of(alone, "2026-01-01T00:05:00Z").expect("a cause");
        assert!(reason == Reason::PodsNotReady && message.contains("ContainerCreating"), "{message}");
        let init = one("mesh-init", false, json!({ "waiting": { "reason": "CrashLoopBackOff" } }));
        let mut init = init;
        init["lastState"] = json!({ "terminated": { "exitCode": 7, "reason": "Error" } });
        let before = one("metrics-core", false, json!({ "waiting": { "reason": "PodInitializing" } }));
        let both = json!({ "containerStatuses": [before], "initContainerStatuses": [init] });
        let (reason, message) = of(both, "2026-01-01T00:05:00Z").expect("a cause");
        assert!(reason == Reason::CrashLoopBackOff && message.contains("mesh-init"), "{message}");
        let well = one("metrics-core", true, json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } }));
        let silent = json!({ "containerStatuses": [well] });
        assert_eq!(of(silent.clone(), "2026-01-01T00:09:55Z"), None);
        let (reason, message) = of(silent, "2026-01-01T00:05:00Z").expect("a cause");
        assert!(reason == Reason::PodsNotReady && message.contains("may be down"), "{message}");
    }

    #[test]
    fn ignores_a_single_or_old_restart() {
        let mut status = container(
            json!({ "running": { "startedAt": "2026-01-01T00:09:58Z" } }),
            json!({ "terminated": { "exitCode": 255, "reason": "Unknown", "finishedAt": "2026-01-01T00:09:50Z" } }),
        );
        assert_eq!(
            worst_of(&[pod(status.clone())]).map(|(reason, _)| reason),
            Some(Reason::CrashLoopBackOff)
        );
        status["containerStatuses"][0]["restartCount"] = json!(1);
        assert_eq!(worst_of(&[pod(status.clone())]), None);
        status["containerStatuses"][0]["restartCount"] = json!(3);
        status["containerStatuses"][0]["lastState"]["terminated"]["finishedAt"] =
            json!("2025-12-31T00:00:00Z");
        assert_eq!(worst_of(&[pod(status)]), None);
    }

    #[test]
    fn returns_reason_and_evidence_for_each_cause() {
        let cases = [
            (
                json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
                    "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory." }] }),
                Reason::Unschedulable,
                "Insufficient memory",
            ),
            (
                container(
                    json!({ "waiting": { "reason": "ImagePullBackOff", "message": "not found" } }),
                    json!({}),
                ),
                Reason::ImagePullBackOff,
                "registry/x:1",
            ),
            (
                container(
                    json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
                    json!({ "terminated": { "exitCode": 2, "reason": "Error", "message": "a\nerror: unknown flag\n" } }),
                ),
                Reason::CrashLoopBackOff,
                "exit code is 2 (Error) and its last output is \"error: unknown flag\"",
            ),
            (
                container(
                    json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
                    json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } }),
                ),
                Reason::CrashLoopBackOff,
                "spec.nanny.max.memory",
            ),
            (
                container(
                    json!({ "waiting": { "reason": "CreateContainerConfigError", "message": "configmap \"x\" not found" } }),
                    json!({}),
                ),
                Reason::PodsNotReady,
                "configmap",
            ),
            (
                container(json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } }), json!({})),
                Reason::PodsNotReady,
                "kubectl logs metrics-core-1 --namespace ns",
            ),
        ];
        for (status, reason, evidence) in cases {
            let (found, message) = worst_of(&[pod(status)]).expect("a problem");
            assert_eq!(found, reason, "{message}");
            assert!(message.contains(evidence), "{message}");
        }
    }

    #[test]
    fn ignores_pods_that_are_starting_terminated_or_ready() {
        assert_eq!(
            worst_of(&[pod(container(
                json!({ "running": { "startedAt": "2026-01-01T00:09:50Z" } }),
                json!({})
            ))]),
            None
        );
        assert_eq!(worst_of(&[pod(json!({ "phase": "Failed", "reason": "Evicted" }))]), None);
        assert_eq!(worst_of(&[pod(json!({ "conditions": [{ "type": "Ready", "status": "True" }] }))]), None);
        assert_eq!(worst_of(&[pod(json!({ "phase": "Pending" }))]), None);
    }

    #[test]
    fn prefers_problems_that_do_not_resolve_by_themselves() {
        let slow = pod(container(json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } }), json!({})));
        let missing = pod(container(json!({ "waiting": { "reason": "ErrImageNeverPull" } }), json!({})));
        assert_eq!(worst_of(&[slow, missing]).expect("a problem").0, Reason::ImagePullBackOff);
    }

    #[test]
    fn prefers_the_problem_of_our_container_to_that_of_a_sidecar() {
        let beside = |name: &str, ready: bool, waiting: &str| {
            json!({ "name": name, "image": "registry/x:1", "imageID": "", "ready": ready, "restartCount": 0,
                "state": { "waiting": { "reason": waiting } } })
        };
        let pulled = |ours_ready: bool| {
            let status = json!({ "phase": "Pending", "containerStatuses": [
                beside("a-proxy", false, "ErrImagePull"), beside("metrics-core", ours_ready, "CreateContainerError") ] });
            worst_of(&[pod(status)]).expect("a problem").0
        };
        assert_eq!(pulled(false), Reason::PodsNotReady);
        assert_eq!(pulled(true), Reason::ImagePullBackOff);
    }
}
