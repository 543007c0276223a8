use super::*;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde_json::{Value, json};

const PORT: &str = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn pod(uid: &str, memory: &str, conditions: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": uid, "uid": uid, "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r" }] },
        "spec": { "containers": [{ "name": "metrics-core", "resources": resources(memory) }] },
        "status": { "phase": "Running", "conditions": conditions },
    }))
    .expect("a pod")
}

fn resources(memory: &str) -> ResourceRequirements {
    serde_json::from_value(json!({ "requests": { "memory": memory } })).expect("resources")
}

fn old(memory: &str) -> Pod {
    pod("old", memory, json!([{ "type": "PodScheduled", "status": "True" }]))
}

/// Returns a pod that the scheduler could not place for some seconds, with its message.
fn new(memory: &str, says: &str, seconds: i64) -> Pod {
    let since = now() - SignedDuration::from_secs(seconds);
    let unplaced = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": says,
        "lastTransitionTime": since }]);
    pod("new", memory, unplaced)
}

fn with(host_network: bool, pods: &[Pod]) -> Order {
    order(host_network, pods, &ResizeRejections::new(), now())
}

#[test]
fn surges_and_deletes_no_pod_for_an_unschedulable_one() {
    let no_memory = "0/3 nodes are available: 3 Insufficient memory.";
    for host_network in [false, true] {
        assert_eq!(with(host_network, &[]), Order::NewFirst);
        assert_eq!(with(host_network, &[old("64Mi")]), Order::NewFirst);
        assert_eq!(with(host_network, &[old("64Mi"), new("64Mi", no_memory, 900)]), Order::NewFirst);
    }
    assert_eq!(with(false, &[old("64Mi"), new("64Mi", PORT, 900)]), Order::NewFirst);
    assert_eq!(Order::NewFirst.surge_and_unavailable(), (1, 0));
}

#[test]
fn deletes_an_old_pod_first_when_no_node_has_a_free_port() {
    assert_eq!(with(true, &[old("64Mi"), new("64Mi", PORT, 2)]), Order::NewFirst, "not before it is sure");
    assert_eq!(with(true, &[old("64Mi"), new("64Mi", PORT, 10)]), Order::OldFirst);
    // With other reasons in the message, as on a larger cluster.
    let several = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't have free ports for \
                   the requested pod ports.";
    assert_eq!(with(true, &[old("64Mi"), old("64Mi"), new("64Mi", several, 60)]), Order::OldFirst);
    // Scheduled: the next rollout surges again.
    assert_eq!(with(true, &[old("64Mi"), old("64Mi")]), Order::NewFirst);
    assert_eq!(Order::OldFirst.surge_and_unavailable(), (0, 1));
}

/// Returns a pod with the labels of metrics-core and these fields in its spec.
fn with_spec(mut pod: Pod, spec: &Value) -> Pod {
    pod.metadata.labels = Some([("app".to_owned(), "metrics-core".to_owned())].into());
    let mut whole = serde_json::to_value(&pod).expect("JSON");
    whole["spec"].as_object_mut().expect("a spec").extend(spec.as_object().expect("fields").clone());
    serde_json::from_value(whole).expect("a pod")
}

#[test]
fn deletes_an_old_pod_first_when_it_keeps_the_new_one_off_every_node() {
    const REPELS: &str = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.";
    const REPELLED: &str =
        "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.";
    const UNEVEN: &str = "0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.";
    let anti_affinity = |app: &str| {
        let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": app } } });
        json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } })
    };
    let spread = |when: &str| {
        json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when,
            "labelSelector": { "matchExpressions": [{ "key": "app", "operator": "In", "values": ["metrics-core"] }] } }] })
    };
    let ours = anti_affinity("metrics-core");
    let order = |old_spec: &Value, new_spec: &Value, says: &str, seconds: i64| {
        let pods = [with_spec(old("64Mi"), old_spec), with_spec(new("64Mi", says, seconds), new_spec)];
        with(false, &pods)
    };
    let none = json!({});
    assert_eq!(order(&ours, &ours, REPELS, 10), Order::OldFirst);
    assert_eq!(order(&ours, &ours, REPELS, 9), Order::NewFirst, "not before it is sure");
    assert_eq!(order(&ours, &none, REPELLED, 10), Order::OldFirst, "the old pod still repels the new one");
    assert_eq!(order(&none, &spread("DoNotSchedule"), UNEVEN, 10), Order::OldFirst);
    // No old pod is the cause.
    assert_eq!(order(&none, &none, REPELS, 60), Order::NewFirst);
    let of_others = anti_affinity("database");
    assert_eq!(order(&of_others, &of_others, REPELS, 60), Order::NewFirst);
    assert_eq!(order(&none, &spread("ScheduleAnyway"), UNEVEN, 60), Order::NewFirst);
    assert_eq!(order(&ours, &ours, "0/2 nodes are available: 2 Insufficient memory.", 60), Order::NewFirst);
    // Without an old pod there is nothing to delete.
    assert_eq!(with(false, &[with_spec(new("64Mi", REPELS, 60), &ours)]), Order::NewFirst);
}

#[test]
fn keeps_an_old_pod_whose_place_the_new_one_could_not_take() {
    let mut stuck = old("512Mi");
    stuck.status.as_mut().expect("a status").container_statuses = serde_json::from_value(json!([{
        "name": "metrics-core", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "resources": resources("64Mi") }]))
    .expect("statuses");
    assert_eq!(with(true, &[stuck.clone(), new("512Mi", PORT, 60)]), Order::NewFirst);
    // It waits for other resources than those of the new pod.
    assert_eq!(with(true, &[stuck, new("64Mi", PORT, 60)]), Order::OldFirst);

    let refused = |kind, memory: &str| {
        let rejection = ResizeRejection { wanted: resources(memory), message: String::new(), kind };
        let rejections = ResizeRejections::from([("old".to_owned(), rejection)]);
        order(true, &[old("64Mi"), new("512Mi", PORT, 60)], &rejections, now())
    };
    assert_eq!(refused(RejectionKind::Infeasible, "512Mi"), Order::NewFirst);
    assert_eq!(refused(RejectionKind::Infeasible, "900Mi"), Order::OldFirst);
    // An older cluster does not report whether there is room.
    assert_eq!(refused(RejectionKind::NotInPlace, "512Mi"), Order::OldFirst);
}

#[test]
fn ignores_a_terminating_pod() {
    let mut ending = new("64Mi", PORT, 60);
    ending.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    assert_eq!(with(true, &[old("64Mi"), ending]), Order::NewFirst);
}

#[test]
fn max_unavailable_is_computed_as_the_deployment_controller_does() {
    let number = IntOrString::Int;
    let share = |percent: &str| IntOrString::String(percent.to_owned());
    let of = |surge, unavailable, replicas| {
        let spec = RollingUpdateSpec { max_surge: surge, max_unavailable: unavailable };
        max_unavailable(Some(&spec), replicas)
    };
    assert_eq!(max_unavailable(None, 1), 0);
    assert_eq!(max_unavailable(None, 3), 0);
    assert_eq!(max_unavailable(None, 4), 1);
    assert_eq!(of(None, Some(number(2)), 1), 2);
    assert_eq!(of(Some(number(1)), Some(share("50%")), 3), 1);
    assert_eq!(of(Some(share("10%")), Some(share("10%")), 2), 0);
    // Neither bound allows a step, so one replica may be unavailable.
    assert_eq!(of(Some(number(0)), Some(share("50%")), 1), 1);
    assert_eq!(of(Some(share("0%")), None, 2), 1);
}
