//! The hooks of the chart: installation, upgrade, rollback and removal with Helm alone, and the ways out without them.

use std::path::Path;

use e2e::bench::upgrade::{self, Release};
use e2e::suite::{Needs, Suite, TestEnv, failed};
use e2e::testbed::cluster::KubeletKind;
use e2e::testbed::{binaries, images, pipeline};
use e2e::{Client, Plugin, Result, check, command, wait};
use serde_json::{Value, json};

use super::{LOAD, MINUTE, TIMEOUT, ready};

/// All kinds of which the chart or the operator has objects.
const KINDS: &str = "secrets,configmaps,serviceaccounts,services,deployments,jobs,poddisruptionbudgets,networkpolicies,roles,\
                     rolebindings,clusterroles,clusterrolebindings,validatingadmissionpolicies,\
                     validatingadmissionpolicybindings,apiservices,metricspipelines";
const OURS: &str = "app.kubernetes.io/part-of=metrics-pipeline";
/// Whether the hooks create and delete the MetricsPipeline, as by default.
const HOOKS: &str = "pipeline.create=true";

pub(super) fn add(suite: &mut Suite) {
    let group = suite.group_with("hooks", KubeletKind::OnDemand, Vec::new(), Some(load));
    suite.add(&group, "install_serves_and_uninstall_leaves_nothing", Needs::Alone, install_and_uninstall);
    suite.add(&group, "hooks_leave_a_users_pipeline_alone", Needs::Alone, leave_a_users_pipeline_alone);
    suite.add(&group, "upgrade_and_rollback_fail_no_list", Needs::Alone, upgrade_and_rollback);
    suite.add(&group, "doctor_has_the_way_out_without_hooks", Needs::Alone, way_out);
}

fn load(env: &TestEnv) -> Result<()> {
    pipeline::load(env.own_cluster()?, &images::for_scenarios(&env.progress)?)?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LOAD}});
    env.client.apply(&namespace.to_string())?;
    env.client.apply(&pipeline::idle_deployment(LOAD))?;
    Ok(())
}

fn install(env: &TestEnv, values: &[&str]) -> Result<String> {
    let (helm, built) = (binaries::helm(&env.progress)?, images::for_scenarios(&env.progress)?);
    pipeline::install_with(&env.client, &helm, &built, values)
}

fn uninstall(env: &TestEnv, arguments: &[&str]) -> Result<String> {
    let mut helm = env.client.command(&binaries::helm(&env.progress)?);
    helm.args(["uninstall", "metrics-pipeline", "--namespace", pipeline::NAMESPACE, "--timeout", "4m"]);
    command::output(helm.args(arguments))
}

/// Returns the names of all objects of the chart and of the operator.
fn ours(client: &Client) -> Result<String> {
    let labelled = client.run(&["get", KINDS, "-A", "-l", OURS, "-o", "name"])?;
    let pipelines = client.run(&["get", "metricspipelines", "-o", "name"])?;
    Ok(format!("{labelled}{pipelines}"))
}

fn nothing_is_left(client: &Client) -> Result<()> {
    client.wait_for("no object of the chart or of the operator exists", TIMEOUT, |client| {
        match ours(client)?.as_str() {
            "" => Ok(()),
            left => Err(left.replace('\n', " ").into()),
        }
    })?;
    // Discovery is complete, or the deletion of a namespace hangs.
    client.run(&["delete", "namespace", pipeline::NAMESPACE, "--ignore-not-found", "--timeout=60s"])?;
    Ok(())
}

fn install_and_uninstall(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    install(env, &[HOOKS])?;
    ready(client)?;
    client.wait_for("kubectl top nodes succeeds", TIMEOUT, |client| {
        client.run(&["top", "nodes"])?;
        Ok(())
    })?;
    let hooks = client.run(&["get", KINDS, "-A", "-l", "app.kubernetes.io/component=hook", "-o", "name"])?;
    check!(hooks.is_empty(), "objects of the hooks remain: {hooks}");

    // An upgrade changes what the chart created.
    install(env, &[HOOKS, "pipeline.spec.metricsCore.replicas=2"])?;
    let replicas =
        || client.get(&["mpl", pipeline::NAME]).map(|it| it["spec"]["metricsCore"]["replicas"].clone());
    check!(replicas()? == 2, "the hook did not update the MetricsPipeline: {}", replicas()?);
    ready(client)?;

    // kube-apiserver's message is in Helm's.
    for (value, expected) in [
        ("pipeline.spec.metricsCore.replicas=-1", "spec.metricsCore.replicas"),
        ("pipeline.spec.metricsCore.nonsense=1", "nonsense"),
    ] {
        let error =
            install(env, &[HOOKS, value]).map_or_else(|error| error.to_string(), |_| "accepted".into());
        check!(error.contains("kube-apiserver returned") && error.contains(expected), "{value}: {error}");
    }
    // A field that a user has changed since is not overwritten, and that is said.
    client.run(&[
        "patch",
        "mpl",
        pipeline::NAME,
        "--type=merge",
        "-p",
        r#"{"spec":{"metricsCore":{"replicas":1}}}"#,
    ])?;
    let error = install(env, &[HOOKS, "pipeline.spec.metricsCore.replicas=2"])
        .map_or_else(|error| error.to_string(), |_| "accepted".into());
    check!(error.contains("conflict") && error.contains("kubectl annotate"), "{error}");
    check!(replicas()? == 1, "the user's change was overwritten");

    let output = uninstall(env, &["--wait"])?;
    env.progress.say(output);
    nothing_is_left(client)
}

fn leave_a_users_pipeline_alone(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    install(env, &[])?;
    check!(client.run(&["get", "mpl", "-o", "name"])?.is_empty(), "pipeline.create=false created one");
    client.apply(&pipeline::manifest("mine", &json!({})))?;
    let mine = || -> Result<Value> {
        let object = client.get(&["mpl", "mine"])?;
        Ok(json!([object["metadata"]["annotations"], object["spec"]]))
    };
    let before = mine()?;
    install(env, &[HOOKS, "pipeline.spec.metricsCore.replicas=2"])?;
    check!(mine()? == before, "the hook changed the user's MetricsPipeline: {}", mine()?);
    let names = client.run(&["get", "mpl", "-o", "name"])?;
    check!(names.lines().count() == 1, "the hook created another one: {names}");

    // The value keeps it through an uninstallation; the next one deletes it.
    install(env, &[HOOKS, "pipeline.keepOnUninstall=true"])?;
    uninstall(env, &["--wait"])?;
    let kept = client.get(&["mpl", "mine"])?;
    check!(kept["metadata"]["deletionTimestamp"].is_null(), "it was not kept");
    install(env, &[HOOKS])?;
    uninstall(env, &["--wait"])?;
    nothing_is_left(client)
}

fn upgrade_and_rollback(env: &TestEnv) -> Result<()> {
    let built = images::for_scenarios(&env.progress)?;
    let release = |revision: &str, log_level: &str| {
        let spec = json!({"metricsCore": {"replicas": 2, "podMetadata": {"annotations": {"example.com/revision": revision}}}});
        let hooks = ["--set-json".to_owned(), format!("pipeline.spec={spec}")];
        let level = ["--set".to_owned(), format!("logLevel={log_level}")];
        Release {
            title: format!("revision {revision}"),
            chart: pipeline::chart(),
            values: [pipeline::values(&built), hooks.to_vec(), level.to_vec()].concat(),
            shown_by: ("/spec/template/metadata/annotations/example.com~1revision", json!(revision)),
        }
    };
    let (from, to) = (release("one", "info"), release("two", "debug"));
    let found = upgrade::run(env.own_cluster()?, &from, &to, None, &env.progress)?;
    env.progress.say(found.to_string());
    check!(found.failed.is_empty(), "lists failed: {:?}", found.failed);
    uninstall(env, &["--wait"])?;
    nothing_is_left(&env.client)
}

fn way_out(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let plugin = Plugin::build(&env.progress)?;
    let kubectl = binaries::kubernetes(&env.progress)?;

    install(env, &[HOOKS])?;
    ready(client)?;
    uninstall(env, &["--no-hooks", "--wait"])?;
    follow_doctor(env, &plugin, &kubectl)?;
    nothing_is_left(client)?;

    install(env, &[HOOKS])?;
    ready(client)?;
    client.run(&["delete", "namespace", pipeline::NAMESPACE, "--wait=false"])?;
    client.wait_for("the operator and metrics-core are gone", TIMEOUT, |client| {
        let kinds = "deployments,pods,services";
        match client.run(&["get", kinds, "-n", pipeline::NAMESPACE, "-o", "name"])?.as_str() {
            "" => Ok(()),
            left => Err(left.into()),
        }
    })?;
    follow_doctor(env, &plugin, &kubectl)?;
    nothing_is_left(client)?;
    let namespace =
        client.run(&["get", "namespace", pipeline::NAMESPACE, "--ignore-not-found", "-o", "name"])?;
    check!(namespace.is_empty(), "the namespace still exists");

    // And a new installation works.
    install(env, &[HOOKS])?;
    ready(client)?;
    uninstall(env, &["--wait"])?;
    nothing_is_left(client)
}

/// Runs the commands that `doctor` prints until it finds nothing left.
fn follow_doctor(env: &TestEnv, plugin: &Plugin, kubectl: &Path) -> Result<()> {
    let mut executed = Vec::new();
    wait::until(2 * MINUTE, "doctor reports no leftovers", || {
        let output = plugin.run(&env.client, &["doctor", "--output=json"])?;
        let tree: Value =
            serde_json::from_str(&output.text).map_err(|error| format!("{error}: {output:?}"))?;
        let mut nodes = tree["children"].as_array().into_iter().flatten();
        let Some(left) = nodes.find(|node| node["title"] == "leftovers") else { return Ok(()) };
        let commands = commands(left);
        for command in &commands {
            let path = format!("{}:{}", kubectl.display(), std::env::var("PATH").unwrap_or_default());
            let mut shell = env.client.command(Path::new("/bin/sh"));
            command::output(shell.env("PATH", path).args(["-c", command]))?;
            executed.push(command.clone());
        }
        Err(left.to_string().into())
    })?;
    env.progress.say(format!("the way out:\n{}", executed.join("\n")));
    check!(
        executed.iter().any(|command| command.starts_with("kubectl delete apiservice")),
        "doctor did not see the APIServices: {executed:?}"
    );
    if executed.is_empty() { Err(failed("doctor printed no command".to_owned())) } else { Ok(()) }
}

/// Returns the commands in backticks that a node and its children contain, without installations.
fn commands(node: &Value) -> Vec<String> {
    let text = node["text"].as_str().unwrap_or_default();
    let mut found: Vec<_> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|command| command.starts_with("kubectl "))
        .map(str::to_owned)
        .collect();
    found.extend(node["children"].as_array().into_iter().flatten().flat_map(commands));
    found
}
