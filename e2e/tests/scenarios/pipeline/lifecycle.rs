//! Deletes a MetricsPipeline and creates a new one, and changes its Deployment.

use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv};
use e2e::testbed::pipeline;
use e2e::{Client, Result, check};
use serde_json::{Value, json};

use super::{MINUTE, TIMEOUT, patch_spec, ready};

/// The kinds of the operator's objects.
const KINDS: &str = "secrets,configmaps,serviceaccounts,services,deployments,poddisruptionbudgets,roles,rolebindings,\
                     clusterroles,clusterrolebindings,apiservices";
const OURS: &str = "app.kubernetes.io/managed-by=metrics-pipeline-operator";

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "deletion_removes_all_objects", Needs::Alone, deletion_removes_all_objects);
    suite.add(
        group,
        "two_replicas_have_a_disruption_budget",
        Needs::Alone,
        two_replicas_have_a_disruption_budget,
    );
    suite.add(group, "deployment_follows_the_strategy", Needs::Alone, deployment_follows_the_strategy);
}

fn owned(client: &Client) -> Result<Vec<String>> {
    let list = client.run(&["get", KINDS, "-A", "-l", OURS, "-o", "name"])?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn deletion_removes_all_objects(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    let before = owned(client)?;
    check!(before.len() > 12, "it owns no more than {before:?}");
    // The APIService must be deleted before its backend: while it has none, no namespace can be deleted.
    client.run(&["delete", "mpl", pipeline::NAME, "--wait=false"])?;
    client
        .wait_for(
            "the MetricsPipeline is gone, and never an APIService without its server",
            TIMEOUT,
            |client| {
                let services = client.run(&["get", "apiservices", "-l", OURS, "-o", "name"])?;
                let deployment = client.run(&[
                    "-n",
                    pipeline::NAMESPACE,
                    "get",
                    "deployment",
                    "metrics-core",
                    "--ignore-not-found",
                    "-o",
                    "name",
                ])?;
                let registered = client.run(&["get", "apiservices", "-l", OURS, "-o", "name"])?;
                if !services.is_empty() && deployment.is_empty() && !registered.is_empty() {
                    return Ok(Err(format!("there is {registered} without its Deployment")));
                }
                match client
                    .run(&["get", "mpl", pipeline::NAME, "--ignore-not-found", "-o", "name"])?
                    .as_str()
                {
                    "" => Ok(Ok(())),
                    _ => Err("still there".into()),
                }
            },
        )?
        .map_err(e2e::suite::failed)?;
    let left = owned(client)?;
    check!(left.is_empty(), "left behind: {left:?}");
    // A namespace can be deleted: discovery is complete.
    client.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "short-lived"}}).to_string(),
    )?;
    client.run(&["delete", "namespace", "short-lived", "--timeout=60s"])?;
    client.apply(&pipeline::manifest(pipeline::NAME, &json!({})))?;
    ready(client)
}

fn two_replicas_have_a_disruption_budget(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let scale = |replicas: u8| patch_spec(client, json!({"metricsCore": {"replicas": replicas}}));
    let budget = || {
        client.run(&[
            "-n",
            pipeline::NAMESPACE,
            "get",
            "pdb",
            "metrics-core",
            "--ignore-not-found",
            "-o",
            "name",
        ])
    };
    scale(2)?;
    ready(client)?;
    let deployment = client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])?;
    check!(deployment["status"]["readyReplicas"] == 2, "two replicas: {}", deployment["status"]);
    check!(!budget()?.is_empty(), "no PodDisruptionBudget with two replicas");
    scale(1)?;
    client.wait_for("the PodDisruptionBudget is gone", MINUTE, |_| match budget()?.as_str() {
        "" => Ok(()),
        name => Err(name.into()),
    })?;
    ready(client)
}

/// No field manager owns the bounds that kube-apiserver defaults, and it rejects `Recreate` with bounds.
fn deployment_follows_the_strategy(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let rolling_update = |surge: Value, unavailable: Value| {
        let bounds = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        json!({"type": "RollingUpdate", "rollingUpdate": bounds})
    };
    for (strategy, expected) in [
        (json!({"type": "RollingUpdate"}), rolling_update(json!("25%"), json!("25%"))),
        (json!({"type": "Recreate"}), json!({"type": "Recreate"})),
        (Value::Null, rolling_update(json!(1), json!(0))),
        (json!({"type": "Recreate"}), json!({"type": "Recreate"})),
        (Value::Null, rolling_update(json!(1), json!(0))),
    ] {
        patch_spec(client, json!({"metricsCore": {"strategy": strategy}}))?;
        client.wait_for(&format!("the strategy of the Deployment is {expected}"), MINUTE, |client| {
            let deployment = client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])?;
            match &deployment["spec"]["strategy"] {
                found if *found == expected => Ok(()),
                found => Err(found.to_string().into()),
            }
        })?;
        ready(client)?;
    }
    Ok(())
}
