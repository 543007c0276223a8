use super::*;
use crate::common::ManagedObject;
use crate::nanny::resize::ResizeBlocker;
use crate::nanny::{Population, Size, SizeReason};
use crate::plan::Sizing;
use serde_json::json;

fn resources(memory: &str) -> ResourceRequirements {
    serde_json::from_value(
        json!({ "requests": { "cpu": "20m", "memory": memory }, "limits": { "memory": memory } }),
    )
    .expect("resources")
}

/// 128Mi is desired. The template changes to `template`, from `from`.
fn sizing(template: &str, from: Option<&str>, rollout_blocker: Option<ResizeBlocker>) -> Sizing {
    let recommended = RecommendedSize {
        size: Size { cpu: 20, memory: 128 << 20 },
        population: 21,
        reason: SizeReason::PopulationChanged { population: Population::Nodes(21), before: 1 },
        changed: None,
    };
    Sizing {
        recommended: Some(recommended),
        wanted: Some(resources("128Mi")),
        template: Some(resources(template)),
        template_from: from.map(resources),
        rollout_blocker,
        reverts_rollout: false,
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
fn in_place_resize_is_reported_once() {
    let sizing = sizing("64Mi", None, None);
    let (unwritten, resized) = (Outcome::default(), one_resized());
    assert_eq!(method_after(None, &sizing, &unwritten, &resized), Some((ResizeMethod::InPlace, true)));
    let words = |before| {
        change(before, &sizing, &unwritten, &resized).and_then(|change| resize_note(change, &sizing))
    };
    let note = "metrics-core is resized in place to 20m CPU and 128Mi memory, from 20m CPU and 64Mi memory (21 nodes instead of 1).";
    assert_eq!(words(None).as_deref(), Some(note));
    // A new pod from the old template.
    let known = before(ResizeMethod::InPlace, "128Mi");
    assert_eq!(
        method_after(Some(&known), &sizing, &unwritten, &resized),
        Some((ResizeMethod::InPlace, false))
    );
}

#[test]
fn rollout_for_the_size_is_reported_with_its_reason() {
    let known = before(ResizeMethod::InPlace, "128Mi");
    let message = "the kubelet reports \"no room\"".to_owned();
    let forced = sizing("128Mi", Some("64Mi"), Some(ResizeBlocker::Deferred(message)));
    let nothing = Resized::default();
    assert_eq!(
        method_after(Some(&known), &forced, &applied(), &nothing),
        Some((ResizeMethod::Rollout, true))
    );
    let forced_change =
        change(Some(&known), &forced, &applied(), &nothing).and_then(|change| resize_note(change, &forced));
    let text = forced_change.expect("a note");
    assert!(text.contains("by a rollout") && text.contains("the kubelet reports \"no room\""), "{text}");
    // A rollout for another reason contains the size that the pods already have.
    let combined = sizing("128Mi", Some("64Mi"), None);
    assert!(change(Some(&known), &combined, &applied(), &nothing).is_none());
    assert_eq!(
        method_after(Some(&known), &combined, &applied(), &nothing),
        Some((ResizeMethod::InPlace, false))
    );
    // Nothing was written.
    assert!(change(Some(&known), &forced, &Outcome::default(), &nothing).is_none());
}

#[test]
fn change_of_limits_alone_has_no_previous_size() {
    let shape = sizing("128Mi", Some("128Mi"), Some(ResizeBlocker::Immutable));
    let note =
        change(None, &shape, &applied(), &Resized::default()).and_then(|change| resize_note(change, &shape));
    let expected = "metrics-core is resized by a rollout to 20m CPU and 128Mi memory (21 nodes instead of 1). An in-place \
                resize is not possible: its QoS class or its set of limits would change, and both are immutable for a \
                running pod.";
    assert_eq!(note.as_deref(), Some(expected));
}

#[test]
fn reverted_rollout_is_reported_as_in_place() {
    let tried = before(ResizeMethod::Rollout, "128Mi");
    let back = Sizing { reverts_rollout: true, ..sizing("64Mi", Some("128Mi"), None) };
    assert!(revert_note(&back, &applied()).is_some_and(|note| note.contains("reverted")));
    assert!(change(Some(&tried), &back, &applied(), &Resized::default()).is_none());
    // The method is Rollout until the revert is applied.
    let nothing = Resized::default();
    assert_eq!(method_after(Some(&tried), &back, &applied(), &nothing), Some((ResizeMethod::Rollout, false)));
    let done = sizing("64Mi", None, None);
    assert!(revert_note(&done, &applied()).is_none());
    assert_eq!(method_after(Some(&tried), &done, &applied(), &nothing), Some((ResizeMethod::InPlace, false)));
    // With the same template, the method is InPlace as soon as the template is applied.
    let again = Sizing { reverts_rollout: true, ..sizing("128Mi", Some("128Mi"), None) };
    assert!(revert_note(&again, &applied()).is_some());
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
