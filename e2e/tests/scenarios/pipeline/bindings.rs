//! A binding's role is immutable: the operator recreates its own binding if the role differs, and leaves a foreign
//! one.

use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv};
use e2e::testbed::pipeline;
use e2e::{Client, Result, check};
use serde_json::{Value, json};

use super::{MINUTE, OPERATORS_PODS, TIMEOUT, condition, operator, ready};

const BINDING: [&str; 2] = ["clusterrolebinding", "metrics-core:collector"];
const OPERATOR: [&str; 2] = ["deployment", "metrics-pipeline-operator"];

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "recreates_a_binding_to_another_role", Needs::Alone, recreates_a_binding);
}

/// Replaces the operator's binding by one to another role while no operator is running.
fn supplant(client: &Client, labels: &Value) -> Result<()> {
    let replaced = replace(client, labels);
    scale(client, 1)?;
    replaced?;
    operator(client).map(drop)
}

fn replace(client: &Client, labels: &Value) -> Result<()> {
    scale(client, 0)?;
    // An operator that is shutting down finishes its reconcile first, and would recreate the binding.
    client.wait_for("no operator is running", MINUTE, |client| {
        let pods = client.get(&["-n", pipeline::NAMESPACE, "pods", "-l", OPERATORS_PODS])?;
        match pods["items"].as_array().map_or(0, Vec::len) {
            0 => Ok(()),
            count => Err(format!("{count} pods").into()),
        }
    })?;
    client.delete(&BINDING)?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": BINDING[1], "labels": labels},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "metrics-core", "namespace": pipeline::NAMESPACE}],
    });
    client.with_manifest(&["create"], &binding.to_string()).map(drop)
}

fn scale(client: &Client, replicas: u8) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    client.run(&[&["-n", pipeline::NAMESPACE, "scale"], &OPERATOR[..], &[&replicas]].concat())?;
    client
        .run(&[&["-n", pipeline::NAMESPACE, "rollout", "status", "--timeout=60s"], &OPERATOR[..]].concat())?;
    Ok(())
}

fn recreates_a_binding(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    supplant(client, &json!({"app.kubernetes.io/managed-by": "metrics-pipeline-operator"}))?;
    client.wait_for("the binding has the operator's role again", MINUTE, |client| {
        let role = client.get(&BINDING)?["roleRef"]["name"].clone();
        if role == BINDING[1] { Ok(()) } else { Err(role.to_string().into()) }
    })?;
    client.wait_for("an event reports it", MINUTE, |client| {
        let events = client.get(&["-n", "default", "events"])?;
        let reported = events["items"].as_array().into_iter().flatten().any(|event| {
            let note = event["message"].as_str().unwrap_or_default();
            event["reason"] == "DriftReverted"
                && event["related"]["name"] == BINDING[1]
                && note.contains("ClusterRole view")
                && note.contains("recreates the binding")
        });
        if reported { Ok(()) } else { Err("none".into()) }
    })?;
    ready(client)?;

    supplant(client, &json!({"app.kubernetes.io/managed-by": "somebody"}))?;
    let object = client.wait_for("the condition reports the foreign binding", TIMEOUT, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        match condition(&object, "AccessReady") {
            Some(access) if access["reason"] == "ForeignObject" => Ok(object),
            _ => Err(object["status"].to_string().into()),
        }
    })?;
    let message =
        condition(&object, "AccessReady").map(|access| access["message"].clone()).unwrap_or_default();
    let message = message.as_str().unwrap_or_default();
    check!(
        message.contains("ClusterRoleBinding metrics-core:collector") && message.contains("kubectl delete"),
        "{message}"
    );
    client.delete(&BINDING)?;
    ready(client)
}
