use super::super::objects::tests::with_context;
use super::*;
use crate::common::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::nanny::resize::{RejectionKind, ResizeRejection};
use crate::observe::Found;
use crds::{MetricsPipelineSpec, NannyStatus, ResizeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const MEBI: u64 = 1 << 20;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn size(mebi: u64) -> Size {
    Size { cpu: 20, memory: mebi * MEBI }
}

fn resources(mebi: u64) -> ResourceRequirements {
    let memory = format!("{mebi}Mi");
    serde_json::from_value(
        json!({ "requests": { "cpu": "20m", "memory": memory }, "limits": { "memory": memory } }),
    )
    .expect("resources")
}

/// Returns the fields of a body as server-side apply records them.
fn fields(body: &Value) -> Value {
    let Some(object) = body.as_object() else { return json!({}) };
    let below = |key: &str, value: &Value| match value.as_array() {
        Some(containers) if key == "containers" => {
            let named = |container: &Value| {
                (format!("k:{}", json!({ "name": container["name"] })), fields(container))
            };
            Value::Object(containers.iter().map(named).collect())
        }
        _ => fields(value),
    };
    let identity = ["apiVersion", "kind"];
    let all: Map<_, _> = object
        .iter()
        .filter(|(key, _)| !identity.contains(&key.as_str()))
        .map(|(key, value)| (format!("f:{key}"), below(key, value)))
        .collect();
    Value::Object(all)
}

/// Returns the Deployment after both managers applied it, with these resources in the template.
fn deployment(context: Context<'_>, template: &ResourceRequirements, again: bool) -> DynamicObject {
    let main = objects::deployment::build(context, "image:1", Order::NewFirst, false).expect("built");
    let nanny = objects::resources::build(context, template, again).expect("built");
    let entry = |manager: &str, body: &Value| {
        let mut owned = fields(body);
        if let Some(metadata) = owned.get_mut("f:metadata").and_then(Value::as_object_mut) {
            metadata.remove("f:name");
            metadata.remove("f:namespace");
        }
        if owned["f:metadata"].as_object().is_some_and(Map::is_empty) {
            owned.as_object_mut().expect("fields").remove("f:metadata");
        }
        json!({ "manager": manager, "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": owned })
    };
    let mut body = main.body.clone();
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = json!(template);
    if again {
        body["spec"]["template"]["metadata"]["annotations"] = json!({ objects::resources::AGAIN: "true" });
    }
    body["status"] = json!({ "observedGeneration": 7, "replicas": 1, "updatedReplicas": 1 });
    body["metadata"]["generation"] = json!(7);
    body["metadata"]["labels"][MANAGED_BY_LABEL] = json!(MANAGED_BY);
    body["metadata"]["managedFields"] =
        json!([entry(FIELD_MANAGER, &main.body), entry(NANNY_FIELD_MANAGER, &nanny.body)]);
    let found = serde_json::from_value(body).expect("a Deployment");
    assert!(differences(&main, &found).is_empty(), "{:?}", differences(&main, &found));
    assert!(differences(&nanny, &found).is_empty(), "{:?}", differences(&nanny, &found));
    found
}

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn pod(uid: &str, asked: u64, actual: Option<u64>, conditions: Value) -> Pod {
    let status = actual.map(|actual| {
        json!([{ "name": METRICS_CORE, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "resources": resources(actual) }])
    });
    serde_json::from_value(json!({
        "metadata": { "name": uid, "uid": uid, "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": format!("set-of-{uid}") }] },
        "spec": { "containers": [{ "name": METRICS_CORE, "resources": resources(asked) }] },
        "status": { "phase": "Running", "conditions": conditions, "containerStatuses": status },
    }))
    .expect("a pod")
}

fn deferred(since: &str) -> Value {
    json!([{ "type": "PodResizePending", "status": "True", "reason": "Deferred", "message": "no room",
        "lastTransitionTime": since }])
}

/// Returns a new pod that can't be scheduled.
fn unplaced_pod(mebi: u64) -> Pod {
    let says = json!([{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient memory." }]);
    pod("new", mebi, None, says)
}

/// The same, recreated from the same template.
fn again(mut pod: Pod) -> Pod {
    pod.metadata.annotations = Some([(objects::resources::AGAIN.to_owned(), "true".to_owned())].into());
    pod
}

/// Plans the template where 128Mi are wanted, with a template of `template` and these pods.
fn decided(
    template: u64,
    pods: Vec<Pod>,
    change: impl FnOnce(&mut Observed),
    last: Option<(ResizeMethod, u64)>,
) -> Sizing {
    decided_for((template, false), pods, change, last).0
}

/// The same with or without the annotation; also returns whether the plan has it.
fn decided_for(
    (template, again): (u64, bool),
    pods: Vec<Pod>,
    change: impl FnOnce(&mut Observed),
    last: Option<(ResizeMethod, u64)>,
) -> (Sizing, bool) {
    let specify = |spec: &mut MetricsPipelineSpec| spec.metrics_core.image = Some("image:1".to_owned());
    with_context(specify, |context| {
        let mut pipeline = context.pipeline.clone();
        let amounts = |mebi: u64| size(mebi).amounts();
        pipeline.status.nanny = last.map(|(method, from)| NannyStatus {
            recommendation: None,
            applied: Some(ResizeStatus {
                time: Time(now()),
                method,
                from: amounts(from),
                to: amounts(128),
                reason: String::new(),
            }),
        });
        let context = Context { size: Some(size(128)), pipeline: &pipeline, ..context };
        let mut observed = Observed { pods, ..Observed::default() };
        let found = Found::Present(Box::new(deployment(context, &resources(template), again)));
        observed.objects.insert(ManagedObject::Deployment, found);
        change(&mut observed);
        let again = decide(context, &observed, now()).expect("a decision").again;
        (sizing(context, &observed, now()).expect("a decision"), again)
    })
}

fn template(sizing: &Sizing) -> u64 {
    let requests =
        sizing.template.as_ref().and_then(|template| template.requests.as_ref()).expect("requests");
    let memory = crate::common::quantity::nanos(&requests["memory"].0).expect("a quantity") / 1_000_000_000;
    u64::try_from(memory).expect("positive") / MEBI
}

#[test]
fn keeps_the_template_while_pods_are_resized_in_place() {
    for pods in [
        vec![],
        vec![pod("old", 64, Some(64), json!([]))],
        vec![pod("old", 128, Some(64), json!([]))],
        vec![pod("old", 128, Some(128), json!([]))],
        vec![pod("old", 128, Some(64), deferred("2026-01-01T00:09:30Z"))],
        // A smaller size waits for the next rollout.
        vec![pod("old", 128, Some(256), deferred("2026-01-01T00:00:00Z"))],
    ] {
        let sizing = decided(64, pods.clone(), |_| {}, None);
        assert_eq!((template(&sizing), sizing.rollout_blocker), (64, None), "{pods:?}");
    }
}

/// Changes the Deployment's container as another writer does, without touching the managed fields of the nanny.
fn edit_container(observed: &mut Observed, edit: impl FnOnce(&mut Value)) {
    let Some(Found::Present(found)) = observed.objects.get_mut(&ManagedObject::Deployment) else { return };
    edit(&mut found.data["spec"]["template"]["spec"]["containers"][0]);
}

#[test]
fn foreign_amounts_in_the_template_do_not_turn_in_place_resizes_off() {
    for (kind, key, amount) in [
        ("requests", "ephemeral-storage", "1Gi"),
        ("limits", "ephemeral-storage", "2Gi"),
        ("limits", "cpu", "1"),
        ("requests", "example.com/device", "1"),
    ] {
        let add = |observed: &mut Observed| {
            edit_container(observed, |container| container["resources"][kind][key] = json!(amount));
        };
        let sizing = decided(64, vec![pod("old", 64, Some(64), json!([]))], add, None);
        assert_eq!((template(&sizing), &sizing.template_from), (64, &None), "{kind} {key}");
    }
    // An amount of the nanny that another writer changed is reverted: the nanny does not own it any more.
    let take_over = |observed: &mut Observed| {
        edit_container(observed, |container| container["resources"]["requests"]["memory"] = json!("1Gi"));
        let Some(Found::Present(found)) = observed.objects.get_mut(&ManagedObject::Deployment) else {
            return;
        };
        let entries = found.metadata.managed_fields.as_mut().expect("managed fields");
        let nanny = entries.iter_mut().find(|entry| entry.manager.as_deref() == Some(NANNY_FIELD_MANAGER));
        let owned = &mut nanny.expect("the nanny's").fields_v1.as_mut().expect("fields").0;
        let container = "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"metrics-core\"}";
        let requests = owned.pointer_mut(&format!("{container}/f:resources/f:requests")).expect("requests");
        requests.as_object_mut().expect("fields").remove("f:memory");
    };
    let sizing = decided(64, vec![pod("old", 64, Some(64), json!([]))], take_over, None);
    assert_eq!(template(&sizing), 128);
}

#[test]
fn limit_that_the_nanny_no_longer_wants_is_removed_by_a_rollout() {
    let specify = |spec: &mut MetricsPipelineSpec| spec.metrics_core.image = Some("image:1".to_owned());
    with_context(specify, |context| {
        let context = Context { size: Some(size(128)), ..context };
        let limited: ResourceRequirements = serde_json::from_value(json!({
            "requests": { "cpu": "20m", "memory": "128Mi" }, "limits": { "cpu": "1", "memory": "128Mi" } }))
        .expect("resources");
        let mut observed = Observed::default();
        let found = Found::Present(Box::new(deployment(context, &limited, false)));
        observed.objects.insert(ManagedObject::Deployment, found);
        let decided = decide(context, &observed, now()).expect("a decision");
        assert!(same_resources(&decided.resources, &resources(128)), "{:?}", decided.resources);
    });
}

#[test]
fn recreates_pods_that_cannot_be_resized_in_place() {
    let no_room = vec![pod("old", 128, Some(64), deferred("2026-01-01T00:08:00Z"))];
    let sizing = decided(64, no_room, |_| {}, None);
    assert_eq!(template(&sizing), 128);
    assert!(
        matches!(sizing.rollout_blocker, Some(ResizeBlocker::Deferred(says)) if says.contains("no room"))
    );
    assert_eq!(sizing.template_from, Some(resources(64)));

    let refuse = |kind| {
        move |observed: &mut Observed| {
            let refusal = ResizeRejection { wanted: resources(128), message: "404".to_owned(), kind };
            observed.resize_rejections.insert("old".to_owned(), refusal);
        }
    };
    let old = || vec![pod("old", 64, Some(64), json!([]))];
    let older_cluster = decided(64, old(), refuse(RejectionKind::NotInPlace), None);
    assert_eq!(
        (template(&older_cluster), older_cluster.rollout_blocker),
        (128, Some(ResizeBlocker::Rejected("404".to_owned())))
    );
    // New pods would be rejected as well.
    let quota = decided(64, old(), refuse(RejectionKind::Forbidden), None);
    assert_eq!((template(&quota), quota.rollout_blocker), (64, None));
    // Once the template has the size, nothing changes.
    let underway = |observed: &mut Observed| {
        refuse(RejectionKind::NotInPlace)(observed);
        let Some(Found::Present(found)) = observed.objects.get_mut(&ManagedObject::Deployment) else {
            return;
        };
        found.data["status"]["replicas"] = json!(2);
    };
    let underway = decided(128, old(), underway, None);
    assert_eq!((template(&underway), underway.rollout_blocker, underway.template_from), (128, None, None));
}

#[test]
fn applies_the_size_with_another_rollout() {
    let another_image = |observed: &mut Observed| {
        let Some(Found::Present(found)) = observed.objects.get_mut(&ManagedObject::Deployment) else {
            return;
        };
        found.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("image:0");
    };
    let sizing = decided(64, vec![pod("old", 128, Some(128), json!([]))], another_image, None);
    assert_eq!((template(&sizing), sizing.rollout_blocker), (128, None));
    // It is paused until both managers have applied.
    let paused = |observed: &mut Observed| {
        let Some(Found::Present(found)) = observed.objects.get_mut(&ManagedObject::Deployment) else {
            return;
        };
        found.data["spec"]["paused"] = json!(true);
    };
    assert_eq!(template(&decided(64, vec![pod("old", 128, Some(128), json!([]))], paused, None)), 128);
}

#[test]
fn reverts_an_unschedulable_rollout_when_the_old_pods_are_resized_in_place() {
    let rollout = Some((ResizeMethod::Rollout, 64));
    let with = |old: Pod, new: Option<Pod>, last| {
        template(&decided(128, std::iter::once(old).chain(new).collect(), |_| {}, last))
    };
    let sized = || pod("old", 128, Some(128), json!([]));
    assert_eq!(with(sized(), Some(unplaced_pod(128)), rollout), 64);
    // Not yet, not for this reason, not any more.
    let waits = pod("old", 128, Some(64), deferred("2026-01-01T00:08:00Z"));
    assert_eq!(with(waits, Some(unplaced_pod(128)), rollout), 128, "the old one waits still");
    assert_eq!(
        with(sized(), Some(pod("new", 128, Some(128), json!([]))), rollout),
        128,
        "the new one is placed"
    );
    assert_eq!(with(sized(), None, rollout), 128);
    let mut alike = unplaced_pod(128);
    alike.metadata.owner_references = sized().metadata.owner_references;
    assert_eq!(with(sized(), Some(alike), rollout), 128, "one more of the same");
    let along = Some((ResizeMethod::InPlace, 64));
    assert_eq!(with(sized(), Some(unplaced_pod(128)), along), 128, "a rollout for another reason");
    // The revert pauses the Deployment for a moment, which must not start the rollout again.
    let paused = |observed: &mut Observed| {
        let Some(Found::Present(found)) = observed.objects.get_mut(&ManagedObject::Deployment) else {
            return;
        };
        found.data["spec"]["paused"] = json!(true);
    };
    assert_eq!(template(&decided(64, vec![sized(), unplaced_pod(128)], paused, rollout)), 64);
}

#[test]
fn recreates_pods_when_the_template_has_the_size_already() {
    // They were shrunk in place after their creation, and can't grow again.
    let stuck =
        |mark: fn(Pod) -> Pod| vec![mark(pod("old", 128, Some(64), deferred("2026-01-01T00:08:00Z")))];
    let (sizing, marked) = decided_for((128, false), stuck(|pod| pod), |_| {}, None);
    assert!(marked && matches!(sizing.rollout_blocker, Some(ResizeBlocker::Deferred(_))));
    assert_eq!((template(&sizing), sizing.template_from), (128, Some(resources(64))));
    // The next time the annotation is removed.
    assert!(!decided_for((128, true), stuck(again), |_| {}, None).1);
    // It stays until the new pods exist.
    for underway in [
        json!({ "observedGeneration": 6, "replicas": 1, "updatedReplicas": 1 }),
        json!({ "observedGeneration": 7, "replicas": 1, "updatedReplicas": 0 }),
        json!({ "observedGeneration": 7, "replicas": 2, "updatedReplicas": 1 }),
    ] {
        let change = |observed: &mut Observed| {
            let Some(Found::Present(found)) = observed.objects.get_mut(&ManagedObject::Deployment) else {
                return;
            };
            found.data["status"] = underway.clone();
        };
        let (sizing, marked) = decided_for((128, true), stuck(|pod| pod), change, None);
        assert_eq!((marked, sizing.template_from), (true, None), "{underway}");
    }
    // A pod that waits for its resize is no reason, and an ordinary rollout keeps the annotation.
    let waiting = vec![pod("old", 128, Some(64), deferred("2026-01-01T00:09:30Z"))];
    assert!(!decided_for((128, false), waiting, |_| {}, None).1);
    assert!(decided_for((64, true), vec![again(pod("old", 128, Some(128), json!([])))], |_| {}, None).1);
}

#[test]
fn reverts_an_unschedulable_rollout_of_the_same_template() {
    let rollout = Some((ResizeMethod::Rollout, 64));
    let both = || vec![pod("old", 128, Some(128), json!([])), again(unplaced_pod(128))];
    let (sizing, marked) = decided_for((128, true), both(), |_| {}, rollout);
    assert_eq!((marked, sizing.reverts_rollout, template(&sizing)), (false, true, 128));
    assert_eq!(sizing.rollout_blocker, None);
    // While the unschedulable pod exists.
    let (sizing, marked) = decided_for((128, false), both(), |_| {}, rollout);
    assert_eq!((marked, sizing.reverts_rollout, sizing.template_from), (false, false, None));
}

/// Returns what is applied for a Deployment on the host network whose new pod finds no free port.
fn applied_while_a_port_is_missing(template: u64, change: impl FnOnce(&mut Observed)) -> Value {
    let specify = |spec: &mut MetricsPipelineSpec| {
        spec.metrics_core.image = Some("image:1".to_owned());
        spec.metrics_core.scheduling.host_network = true;
    };
    with_context(specify, |context| {
        let mut pipeline = context.pipeline.clone();
        pipeline.status.nanny = Some(NannyStatus {
            recommendation: None,
            applied: Some(ResizeStatus {
                time: Time(now()),
                method: ResizeMethod::Rollout,
                from: size(64).amounts(),
                to: size(128).amounts(),
                reason: String::new(),
            }),
        });
        let context = Context { size: Some(size(128)), pipeline: &pipeline, ..context };
        let says = json!([{ "type": "PodScheduled", "status": "False", "message": "1 node(s) didn't have free ports",
            "lastTransitionTime": "2026-01-01T00:09:00Z" }]);
        let pods = vec![pod("old", 128, Some(128), json!([])), pod("new", 128, None, says)];
        let mut observed = Observed { pods, ..Observed::default() };
        let found = Found::Present(Box::new(deployment(context, &resources(template), false)));
        observed.objects.insert(ManagedObject::Deployment, found);
        change(&mut observed);
        let plan = crate::plan::maintain::maintain_plan(context, &observed, now()).expect("a plan");
        let main = plan.desired.into_iter().find(|desired| desired.object == ManagedObject::Deployment);
        main.expect("a Deployment").body["spec"].clone()
    })
}

#[test]
fn change_of_the_size_alone_is_one_write_and_deletes_no_old_pod() {
    // Reverted without a pause: a paused Deployment would delete the new pod before the template is reverted.
    let back = applied_while_a_port_is_missing(128, |_| {});
    assert_eq!(back.get("paused"), None);
    assert_eq!(back["strategy"]["rollingUpdate"], json!({ "maxSurge": 1, "maxUnavailable": 0 }));
    // With other changes of the template it waits for the nanny's fields.
    let another_image = |observed: &mut Observed| {
        let Some(Found::Present(found)) = observed.objects.get_mut(&ManagedObject::Deployment) else {
            return;
        };
        found.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("image:0");
    };
    assert_eq!(applied_while_a_port_is_missing(128, another_image)["paused"], true);
    // A pod that waits for a port, and is not replaced, gets it.
    let over = |observed: &mut Observed| {
        let owners = observed.pods[1].metadata.owner_references.clone();
        observed.pods[0].metadata.owner_references = owners;
    };
    let handed_over = applied_while_a_port_is_missing(128, over);
    assert_eq!(handed_over["strategy"]["rollingUpdate"], json!({ "maxSurge": 0, "maxUnavailable": 1 }));
}
