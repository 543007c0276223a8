use super::*;
use crate::common::{FIELD_MANAGER, ManagedObject, NANNY_FIELD_MANAGER};
use serde_json::json;

fn desired(body: Value) -> Desired {
    Desired { object: ManagedObject::Service, manager: FIELD_MANAGER, body, resource_version: None }
}

/// Returns a Service as kube-apiserver returns it, with defaults and managed fields.
fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "metrics-core", "namespace": "ns", "uid": "u", "resourceVersion": "7",
            "labels": { "app": "a", "somebody": "else" },
            "managedFields": [
                { "manager": "kubectl", "operation": "Update", "apiVersion": "v1",
                  "fieldsV1": { "f:metadata": { "f:labels": { "f:somebody": {} } } } },
                { "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": "v1",
                  "fieldsV1": {
                    "f:metadata": { "f:labels": { "f:app": {} } },
                    "f:spec": {
                        "f:ports": { "k:{\"port\":443,\"protocol\":\"TCP\"}": {
                            ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {} } },
                        "f:selector": {}, "f:type": {} } } },
            ],
        },
        "spec": {
            "clusterIP": "10.0.0.1", "type": "ClusterIP", "selector": { "app": "a" },
            "ports": [
                { "name": "other", "port": 80, "protocol": "TCP", "targetPort": 80 },
                { "name": "https", "port": 443, "protocol": "TCP", "targetPort": "https" },
            ],
        },
    })
}

fn wanted() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "metrics-core", "namespace": "ns", "labels": { "app": "a" } },
        "spec": {
            "type": "ClusterIP", "selector": { "app": "a" },
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": "https" }],
        },
    })
}

fn found(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

#[test]
fn defaults_and_fields_of_other_managers_are_no_drift() {
    assert_eq!(differences(&desired(wanted()), &found(service())), Vec::<String>::new());
}

#[test]
fn object_that_was_never_applied_differs() {
    let mut object = service();
    object["metadata"]["managedFields"].as_array_mut().expect("entries").pop();
    assert_eq!(differences(&desired(wanted()), &found(object)).len(), 1);
}

#[test]
fn returns_the_path_of_a_changed_value() {
    let mut object = service();
    object["spec"]["type"] = json!("NodePort");
    assert_eq!(differences(&desired(wanted()), &found(object)), [".spec.type"]);
}

#[test]
fn field_of_another_manager_differs() {
    let mut object = service();
    let fields = &mut object["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"];
    fields.as_object_mut().expect("fields").remove("f:selector");
    assert_eq!(differences(&desired(wanted()), &found(object)), [".spec.selector"]);
}

#[test]
fn field_that_is_no_longer_desired_differs() {
    let mut want = wanted();
    want["spec"].as_object_mut().expect("spec").remove("type");
    assert_eq!(differences(&desired(want), &found(service())), [".spec.type"]);
}

/// Labels and annotations that the user adds are removed with the spec; those of others are kept.
#[test]
fn removed_labels_and_annotations_differ_but_those_of_others_do_not() {
    let mut object = service();
    object["metadata"]["labels"]["team"] = json!("a");
    object["metadata"]["annotations"] = json!({ "note": "b", "of/others": "c" });
    let owned = &mut object["metadata"]["managedFields"][1]["fieldsV1"]["f:metadata"];
    owned["f:labels"]["f:team"] = json!({});
    owned["f:annotations"] = json!({ "f:note": {} });
    let object = found(object);

    let mut want = wanted();
    want["metadata"]["labels"]["team"] = json!("a");
    want["metadata"]["annotations"] = json!({ "note": "b" });
    assert_eq!(differences(&desired(want.clone()), &object), Vec::<String>::new());

    let mut other = want.clone();
    other["metadata"]["annotations"] = json!({ "note": "c", "new": "d" });
    assert_eq!(
        differences(&desired(other), &object),
        [".metadata.annotations.note", ".metadata.annotations.new"]
    );

    want["metadata"]["labels"].as_object_mut().expect("labels").remove("team");
    want["metadata"].as_object_mut().expect("metadata").remove("annotations");
    assert_eq!(differences(&desired(want), &object), [".metadata.annotations", ".metadata.labels.team"]);
}

#[test]
fn finds_items_of_an_associative_list_by_key() {
    let mut want = wanted();
    want["spec"]["ports"][0]["targetPort"] = json!("http");
    assert_eq!(
        differences(&desired(want), &found(service())),
        [".spec.ports.[{\"port\":443,\"protocol\":\"TCP\"}].targetPort"]
    );
    let mut want = wanted();
    want["spec"]["ports"].as_array_mut().expect("ports").push(json!({ "port": 1, "protocol": "TCP" }));
    assert_eq!(differences(&desired(want), &found(service())), [".spec.ports"]);
}

#[test]
fn compares_an_atomic_list_as_one_value() {
    let object = |rules: Value| {
        found(json!({
            "metadata": { "name": "r", "managedFields": [{ "manager": FIELD_MANAGER, "operation": "Apply",
                "apiVersion": "v1", "fieldsV1": { "f:rules": {} } }] },
            "rules": rules,
        }))
    };
    let want = desired(
        json!({ "apiVersion": "v1", "kind": "R", "metadata": { "name": "r" }, "rules": [{ "a": 1 }] }),
    );
    assert!(differences(&want, &object(json!([{ "a": 1, "b": "" }]))).is_empty());
    assert_eq!(differences(&want, &object(json!([{ "a": 1, "b": 2 }]))), [".rules"]);
    assert_eq!(differences(&want, &object(json!([{ "a": 1 }, { "a": 2 }]))), [".rules"]);
    assert_eq!(differences(&want, &object(json!([{ "a": 2 }]))), [".rules"]);
}

#[test]
fn nanny_owns_only_resources_and_quantities_are_compared_by_value() {
    let deployment = found(json!({
        "metadata": { "name": "metrics-core", "managedFields": [
            { "manager": NANNY_FIELD_MANAGER, "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": {
                "f:spec": { "f:template": { "f:spec": { "f:containers": { "k:{\"name\":\"metrics-core\"}": {
                    ".": {}, "f:name": {}, "f:resources": { "f:requests": { "f:cpu": {}, "f:memory": {} } } } } } } } } }] },
        "spec": { "template": { "spec": { "containers": [
            { "name": "metrics-core", "image": "i", "resources": { "requests": { "cpu": "100m", "memory": "1Gi" } } } ] } } },
    }));
    let want = |cpu: &str| Desired {
        object: ManagedObject::Deployment,
        manager: NANNY_FIELD_MANAGER,
        body: json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "metrics-core", "namespace": "ns" },
            "spec": { "template": { "spec": { "containers": [
                { "name": "metrics-core", "resources": { "requests": { "cpu": cpu, "memory": "1024Mi" } } } ] } } },
        }),
        resource_version: None,
    };
    assert!(differences(&want("0.1"), &deployment).is_empty());
    assert_eq!(differences(&want("0.2"), &deployment).len(), 1);
}

/// Returns a Deployment with a strategy as kube-apiserver returns it after an apply of `owned`.
fn deployment(strategy: &Value, owned: &Value) -> DynamicObject {
    found(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "metrics-core", "managedFields": [
            { "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": "apps/v1",
              "fieldsV1": { "f:spec": { "f:strategy": owned } } } ] },
        "spec": { "strategy": strategy },
    }))
}

#[test]
fn each_change_of_the_strategy_differs_until_it_is_applied() {
    let bounds = |surge: Value, unavailable: Value| {
        let bounds = json!({ "maxSurge": surge, "maxUnavailable": unavailable });
        json!({ "type": "RollingUpdate", "rollingUpdate": bounds })
    };
    let both = json!({ "f:type": {}, "f:rollingUpdate": { "f:maxSurge": {}, "f:maxUnavailable": {} } });
    let steps = [
        (bounds(json!(1), json!(0)), both.clone()),
        (json!({ "type": "Recreate" }), json!({ "f:type": {} })),
        (bounds(json!(1), json!(0)), both.clone()),
        (bounds(json!("25%"), json!("25%")), both),
        (json!({ "type": "Recreate" }), json!({ "f:type": {} })),
    ];
    let wanted = |strategy: &Value| {
        let body = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "metrics-core" },
            "spec": { "strategy": strategy } });
        Desired { object: ManagedObject::Deployment, ..desired(body) }
    };
    for pair in steps.windows(2) {
        let [(before, owned), (after, owned_after)] = pair else { unreachable!("pairs") };
        let stored = deployment(before, owned);
        assert_eq!(differences(&wanted(before), &stored), Vec::<String>::new());
        assert_ne!(differences(&wanted(after), &stored), Vec::<String>::new(), "{before} to {after}");
        let stored = deployment(after, owned_after);
        assert_eq!(differences(&wanted(after), &stored), Vec::<String>::new());
    }
}
