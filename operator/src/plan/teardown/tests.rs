use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::*;
use crate::common::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::observe::Found;
use crds::{FINALIZER, MetricsPipelineSpec};

fn deleted(finalizers: &[&str]) -> Pipeline {
    Pipeline {
        deleting: true,
        finalizers: finalizers.iter().map(|finalizer| (*finalizer).to_owned()).collect(),
        ..Pipeline::for_test("main", MetricsPipelineSpec::default())
    }
}

fn owner(uid: &str) -> Value {
    json!({ "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline", "name": "main", "uid": uid })
}

/// Returns every managed object with these owner references, but for the kept Secrets of the front proxy.
fn observed(owners: &[Value]) -> Observed {
    let object = |object: ManagedObject| {
        let is_kept = matches!(object, ManagedObject::FrontProxyCaSecret | ManagedObject::FrontProxySecret);
        let found: DynamicObject = serde_json::from_value(json!({ "metadata": {
            "name": object.name(), "uid": "u", "resourceVersion": "7", "labels": { MANAGED_BY_LABEL: MANAGED_BY },
            "ownerReferences": if is_kept { &[] } else { owners },
        } }))
        .expect("an object");
        (object, Found::Present(Box::new(found)))
    };
    Observed { objects: ManagedObject::ALL.map(object).into(), ..Observed::default() }
}

#[test]
fn orphaned_pipeline_leaves_everything() {
    let other = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "other" });
    let before = observed(&[owner("uid-main"), other]);
    let Action::Orphan(releases) = plan(&deleted(&[FINALIZER, ORPHAN]), &before, "ns") else {
        panic!("not orphaned")
    };
    assert_eq!(releases.len(), ManagedObject::ALL.len() - 2);
    let release = &releases[0];
    assert_eq!((release.uid.as_str(), release.resource_version.as_deref()), ("u", Some("7")));
    let left: Vec<_> = release.owner_references.iter().map(|owner| owner.uid.as_str()).collect();
    assert_eq!(left, ["other"], "references of others stay");
    let after = observed(&[]);
    let action = plan(&deleted(&[FINALIZER, ORPHAN]), &after, "ns");
    assert!(matches!(&action, Action::Orphan(releases) if releases.is_empty()), "{action:?}");
}

/// The garbage collector may be done before the operator sees the deletion.
#[test]
fn recognizes_an_orphaned_pipeline_without_the_finalizer() {
    let action = plan(&deleted(&[FINALIZER]), &observed(&[]), "ns");
    assert!(matches!(&action, Action::Orphan(releases) if releases.is_empty()), "{action:?}");
}

#[test]
fn deletes_in_order_in_the_background_and_in_the_foreground() {
    for finalizers in [&[FINALIZER][..], &[FINALIZER, "foregroundDeletion"]] {
        let Action::TearDown(plan) = plan(&deleted(finalizers), &observed(&[owner("uid-main")]), "ns") else {
            panic!("no teardown")
        };
        assert_eq!(plan.waiting, ManagedObject::API_SERVICES);
    }
    // Of an earlier MetricsPipeline of that name.
    let action = plan(&deleted(&[FINALIZER]), &observed(&[owner("uid-before")]), "ns");
    assert!(matches!(action, Action::TearDown(_)), "{action:?}");
    // One object without its owner reference is drift.
    let mut one = observed(&[owner("uid-main")]);
    one.objects
        .extend(observed(&[]).objects.into_iter().filter(|(object, _)| *object == ManagedObject::Service));
    assert!(matches!(plan(&deleted(&[FINALIZER]), &one, "ns"), Action::TearDown(_)));
}
