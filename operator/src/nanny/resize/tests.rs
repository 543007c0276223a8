use super::*;
use serde_json::{Value, json};

fn resources(cpu: &str, memory: &str) -> ResourceRequirements {
    serde_json::from_value(
        json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "memory": memory } }),
    )
    .expect("resources")
}

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn pod(requested: &ResourceRequirements, actual: &ResourceRequirements, conditions: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "a", "uid": "u", "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r" }] },
        "spec": { "containers": [{ "name": "beside" }, { "name": METRICS_CORE, "resources": requested }] },
        "status": { "phase": "Running", "conditions": conditions, "containerStatuses": [{
            "name": METRICS_CORE, "image": "i", "imageID": "", "ready": true, "restartCount": 0, "resources": actual }] },
    }))
    .expect("a pod")
}

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn of(pod: &Pod, wanted: &ResourceRequirements) -> ResizeState {
    resize_state(pod, wanted, &ResizeRejections::new(), now())
}

#[test]
fn resize_goes_from_not_requested_to_complete() {
    let (small, large) = (resources("20m", "64Mi"), resources("0.04", "131072Ki"));
    let same = resources("40m", "128Mi");
    assert_eq!(of(&pod(&small, &small, json!([])), &large), ResizeState::NotRequested);
    let progress = json!([{ "type": "PodResizeInProgress", "status": "True" }]);
    assert_eq!(of(&pod(&same, &small, progress), &large), ResizeState::InProgress);
    assert_eq!(of(&pod(&same, &small, json!([])), &large), ResizeState::InProgress);
    assert_eq!(of(&pod(&same, &same, json!([])), &large), ResizeState::Complete);
}

#[test]
fn blocked_resize_quotes_the_kubelet_and_waits() {
    let (small, large) = (resources("20m", "64Mi"), resources("40m", "128Mi"));
    let pending = |reason: &str, since: &str| {
        json!([{ "type": "PodResizePending", "status": "True", "reason": reason, "message": "no room",
            "lastTransitionTime": since }])
    };
    let blocked = |conditions| match of(&pod(&large, &small, conditions), &large) {
        ResizeState::Blocked { blocker, waiting } => (blocker, waiting),
        other => panic!("{other:?}"),
    };
    let words = || "the kubelet reports \"no room\"".to_owned();
    assert_eq!(
        blocked(pending("Infeasible", "2026-01-01T00:09:59Z")),
        (ResizeBlocker::Infeasible(words()), false)
    );
    assert_eq!(
        blocked(pending("Deferred", "2026-01-01T00:09:30Z")),
        (ResizeBlocker::Deferred(words()), true)
    );
    assert_eq!(
        blocked(pending("Deferred", "2026-01-01T00:08:00Z")),
        (ResizeBlocker::Deferred(words()), false)
    );
    let error = json!([{ "type": "PodResizeInProgress", "status": "True", "reason": "Error", "message": "no room",
        "lastTransitionTime": "2026-01-01T00:09:30Z" }]);
    assert_eq!(blocked(error), (ResizeBlocker::Rejected(words()), true));
}

#[test]
fn ignores_conditions_of_an_earlier_generation() {
    let (small, large) = (resources("20m", "64Mi"), resources("40m", "128Mi"));
    for (type_, reason) in [("PodResizePending", "Infeasible"), ("PodResizeInProgress", "Error")] {
        let of_generation = |seen: i64| {
            let conditions =
                json!([{ "type": type_, "status": "True", "reason": reason, "observedGeneration": seen }]);
            let mut pod = pod(&large, &small, conditions);
            pod.metadata.generation = Some(3);
            of(&pod, &large)
        };
        assert_eq!(of_generation(2), ResizeState::InProgress, "{reason}");
        assert!(matches!(of_generation(3), ResizeState::Blocked { .. }), "{reason}");
    }
}

#[test]
fn rejected_resize_is_blocked_until_the_desired_resources_change() {
    let (small, large) = (resources("20m", "64Mi"), resources("40m", "128Mi"));
    let rejection = ResizeRejection {
        wanted: large.clone(),
        message: "quota".to_owned(),
        kind: RejectionKind::Forbidden,
    };
    let rejections = ResizeRejections::from([("u".to_owned(), rejection)]);
    let pod = pod(&small, &small, json!([]));
    assert!(matches!(
        resize_state(&pod, &large, &rejections, now()),
        ResizeState::Blocked { waiting: true, .. }
    ));
    assert_eq!(resize_state(&pod, &resources("40m", "100Mi"), &rejections, now()), ResizeState::NotRequested);
}

#[test]
fn qos_class_and_set_of_limits_are_immutable() {
    let burstable = resources("20m", "64Mi");
    let guaranteed: ResourceRequirements = serde_json::from_value(json!({
        "requests": { "cpu": "20m", "memory": "64Mi" }, "limits": { "cpu": "20m", "memory": "64Mi" } }))
    .expect("resources");
    let wider: ResourceRequirements = serde_json::from_value(json!({
        "requests": { "cpu": "20m", "memory": "64Mi" }, "limits": { "cpu": "1", "memory": "64Mi" } }))
    .expect("resources");
    assert!(can_resize(&burstable, &resources("1", "1Gi")));
    assert!(!can_resize(&burstable, &guaranteed) && !can_resize(&guaranteed, &wider));
    let standing = of(&pod(&burstable, &burstable, json!([])), &guaranteed);
    assert_eq!(standing, ResizeState::Blocked { blocker: ResizeBlocker::Immutable, waiting: false });
}

#[test]
fn ignores_resources_that_admission_adds() {
    let with = |cpu: &str, memory: &str, cpu_limit: &str| -> ResourceRequirements {
        serde_json::from_value(json!({
            "requests": { "cpu": cpu, "memory": memory, "ephemeral-storage": "1Gi" },
            "limits": { "cpu": cpu_limit, "memory": memory, "ephemeral-storage": "1Gi" },
        }))
        .expect("resources")
    };
    let (small, large) = (with("20m", "64Mi", "1"), with("40m", "128Mi", "1"));
    assert_eq!(of(&pod(&small, &small, json!([])), &resources("40m", "128Mi")), ResizeState::NotRequested);
    assert_eq!(of(&pod(&large, &small, json!([])), &resources("40m", "128Mi")), ResizeState::InProgress);
    assert_eq!(of(&pod(&large, &large, json!([])), &resources("40m", "128Mi")), ResizeState::Complete);
    // The QoS class Guaranteed can't change to Burstable.
    let mut guaranteed = resources("20m", "64Mi");
    guaranteed.limits.clone_from(&guaranteed.requests);
    let blocked = of(&pod(&guaranteed, &guaranteed, json!([])), &resources("40m", "128Mi"));
    assert!(matches!(blocked, ResizeState::Blocked { blocker: ResizeBlocker::Immutable, .. }), "{blocked:?}");
}

#[test]
fn distinguishes_growing_from_shrinking() {
    let (small, large) = (resources("20m", "64Mi"), resources("20m", "128Mi"));
    assert!(grows(&small, &large) && !grows(&large, &small) && !grows(&small, &small));
    assert!(grows(&ResourceRequirements::default(), &small));
}

#[test]
fn is_active_excludes_finished_and_foreign_pods() {
    let resources = resources("20m", "64Mi");
    let mut pod = pod(&resources, &resources, json!([]));
    assert!(is_active(&pod));
    pod.status.as_mut().expect("a status").phase = Some("Failed".to_owned());
    assert!(!is_active(&pod));
    pod.status.as_mut().expect("a status").phase = None;
    pod.metadata.owner_references = None;
    assert!(!is_active(&pod), "a debug pod");
}

#[test]
fn pod_of_a_vertical_pod_autoscaler_is_left_alone() {
    let (theirs, wanted) = (resources("100m", "256Mi"), resources("40m", "128Mi"));
    let annotated = |updates: &str| {
        let mut pod = pod(&theirs, &theirs, json!([]));
        pod.metadata.annotations = Some([("vpaUpdates".to_owned(), updates.to_owned())].into());
        of(&pod, &wanted)
    };
    let state = annotated("Pod resources updated by core-vpa: container 1: cpu request, memory request");
    let ResizeState::Blocked { blocker: ResizeBlocker::Autoscaled(why), waiting: true } = state else {
        panic!("{state:?}")
    };
    assert!(why.contains("core-vpa") && why.contains("pod a"), "{why}");
    // Of another container only.
    let state = annotated("Pod resources updated by core-vpa: container 0: cpu request");
    assert_eq!(state, ResizeState::NotRequested);
    // Another set of limits is no reason to recreate the pod either: the next one would be mutated, too.
    let limited: ResourceRequirements =
        serde_json::from_value(json!({ "requests": { "cpu": "40m", "memory": "128Mi" },
        "limits": { "cpu": "1", "memory": "128Mi" } }))
        .expect("resources");
    let mut pod = pod(&theirs, &theirs, json!([]));
    pod.metadata.annotations =
        Some([("vpaUpdates".to_owned(), "container 1: cpu request".to_owned())].into());
    assert!(matches!(
        of(&pod, &limited),
        ResizeState::Blocked { blocker: ResizeBlocker::Autoscaled(_), waiting: true }
    ));
}
