use super::*;
use crate::common::ManagedObject;
use crate::nanny::Size;
use crate::nanny::resize::ResizeBlocker;
use crate::plan::Sizing;
use serde_json::json;

fn resources(memory: &str) -> ResourceRequirements {
    serde_json::from_value(
        json!({ "requests": { "cpu": "20m", "memory": memory }, "limits": { "memory": memory } }),
    )
    .expect("resources")
}

/// 128Mi is wanted and the template is to have `template`, which had `from`.
fn sizing(template: &str, from: Option<&str>, instead: Option<ResizeBlocker>) -> Sizing {
    let recommended = RecommendedSize {
        size: Size { cpu: 20, memory: 128 << 20 },
        population: 21,
        reason: "21 nodes instead of 1".to_owned(),
        changed: None,
    };
    Sizing {
        recommended: Some(recommended),
        wanted: Some(resources("128Mi")),
        template: Some(resources(template)),
        template_from: from.map(resources),
        instead,
        taken_back: false,
    }
}

fn applied() -> Outcome {
    Outcome { applied: vec![ManagedObject::Deployment], ..Outcome::default() }
}

fn before(method: ResizeMethod, to: &str) -> NannyStatus {
    let amounts = |memory: &str| requests(&resources(memory));
    let applied = ResizeStatus {
        time: Time(Timestamp::UNIX_EPOCH),
        method,
        from: amounts("64Mi"),
        to: amounts(to),
        reason: "21 nodes instead of 1".to_owned(),
    };
    NannyStatus { recommendation: None, applied: Some(applied) }
}

fn method_after(
    before: Option<&NannyStatus>,
    sizing: &Sizing,
    outcome: &Outcome,
    resized: &Resized,
) -> Option<(ResizeMethod, bool)> {
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let status = status(before, sizing, outcome, resized, now).expect("a status");
    status.applied.map(|applied| (applied.method, applied.time.0 == now))
}

fn one_resized() -> Resized {
    Resized { from: vec![resources("64Mi")], ..Resized::default() }
}

#[test]
fn a_resize_in_place_is_told_once() {
    let sizing = sizing("64Mi", None, None);
    let (unwritten, resized) = (Outcome::default(), one_resized());
    assert_eq!(method_after(None, &sizing, &unwritten, &resized), Some((ResizeMethod::InPlace, true)));
    let words =
        |before| change(before, &sizing, &unwritten, &resized).and_then(|change| words(change, &sizing));
    let note = "metrics-core gets 20m CPU and 128Mi memory instead of 20m CPU and 64Mi memory, in place: 21 nodes instead of 1.";
    assert_eq!(words(None).as_deref(), Some(note));
    // A new pod from the old template.
    let known = before(ResizeMethod::InPlace, "128Mi");
    assert_eq!(
        method_after(Some(&known), &sizing, &unwritten, &resized),
        Some((ResizeMethod::InPlace, false))
    );
}

#[test]
fn new_pods_for_the_sizes_sake_are_told_with_the_reason_and_others_are_not() {
    let asked = before(ResizeMethod::InPlace, "128Mi");
    let says = "the kubelet reports \"no room\"".to_owned();
    let forced = sizing("128Mi", Some("64Mi"), Some(ResizeBlocker::Deferred(says)));
    let none = Resized::default();
    assert_eq!(method_after(Some(&asked), &forced, &applied(), &none), Some((ResizeMethod::Rollout, true)));
    let told = change(Some(&asked), &forced, &applied(), &none).and_then(|change| words(change, &forced));
    let told = told.expect("a note");
    assert!(told.contains("by new pods") && told.contains("the kubelet reports \"no room\""), "{told}");
    // A rollout for another reason takes along what the pods have already.
    let along = sizing("128Mi", Some("64Mi"), None);
    assert!(change(Some(&asked), &along, &applied(), &none).is_none());
    assert_eq!(method_after(Some(&asked), &along, &applied(), &none), Some((ResizeMethod::InPlace, false)));
    // Nothing was written.
    assert!(change(Some(&asked), &forced, &Outcome::default(), &none).is_none());
}

#[test]
fn another_set_of_limits_is_no_other_size() {
    let shape = sizing("128Mi", Some("128Mi"), Some(ResizeBlocker::Immutable));
    let told = change(None, &shape, &applied(), &Resized::default()).and_then(|change| words(change, &shape));
    let note = "metrics-core gets 20m CPU and 128Mi memory (21 nodes instead of 1), by new pods, as that can't be had in \
                place: its QoS class or its set of limits would change, and both are immutable for a running pod.";
    assert_eq!(told.as_deref(), Some(note));
}

#[test]
fn a_rollout_that_is_taken_back_was_in_place_after_all() {
    let tried = before(ResizeMethod::Rollout, "128Mi");
    let back = Sizing { taken_back: true, ..sizing("64Mi", Some("128Mi"), None) };
    assert!(taken_back(&back, &applied()).is_some_and(|note| note.contains("taken back")));
    assert!(change(Some(&tried), &back, &applied(), &Resized::default()).is_none());
    // It counts as a rollout until that is done.
    let nothing = Resized::default();
    assert_eq!(method_after(Some(&tried), &back, &applied(), &nothing), Some((ResizeMethod::Rollout, false)));
    let done = sizing("64Mi", None, None);
    assert!(taken_back(&done, &applied()).is_none());
    assert_eq!(method_after(Some(&tried), &done, &applied(), &nothing), Some((ResizeMethod::InPlace, false)));
    // Made again from the same template, it is done as soon as that is written.
    let again = Sizing { taken_back: true, ..sizing("128Mi", Some("128Mi"), None) };
    assert!(taken_back(&again, &applied()).is_some());
    assert!(change(Some(&tried), &again, &applied(), &nothing).is_none());
    assert_eq!(
        method_after(Some(&tried), &again, &applied(), &nothing),
        Some((ResizeMethod::InPlace, false))
    );
    let unwritten = Outcome::default();
    assert_eq!(
        method_after(Some(&tried), &again, &unwritten, &nothing),
        Some((ResizeMethod::Rollout, false))
    );
}
