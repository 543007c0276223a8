//! Independent clients of metrics-core: another kubectl, client-go, kube-rs, the recommender of VPA.

use std::collections::BTreeSet;
use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::background::Background;
use e2e::testbed::binaries;
use e2e::wait::Pending;
use e2e::{Client, Result, check, command};
use serde_json::{Value, json};

use super::{LOAD, MINUTE, TIMEOUT, kube_rs};

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "serves_two_versions_of_kubectl", Needs::Cluster, serves_two_versions_of_kubectl);
    suite.add(group, "client_go_reads_both_versions", Needs::Cluster, client_go_reads_both_versions);
    suite.add(group, "kube_rs_reads_pages", Needs::OurCluster, kube_rs_reads_pages);
    suite.add(group, "recommender_of_vpa_recommends", Needs::OurCluster, recommender_of_vpa_recommends);
}

fn serves_two_versions_of_kubectl(env: &TestEnv) -> Result<()> {
    let newer = env.client.with_kubectl(binaries::clients(&env.progress)?.join("kubectl"));
    for (kubectl, version) in [(&env.client, "v1.36."), (&newer, "v1.37.")] {
        let output = kubectl.run(&["version", "--client"])?;
        check!(output.contains(version), "kubectl {version}: {output}");
        // Its discovery cache from another scenario may be older than the group.
        kubectl.run(&["api-resources", "--api-group=metrics.k8s.io"])?;
        speaks(kubectl).map_err(|error| failed(format!("kubectl {version}: {error}")))?;
    }
    Ok(())
}

fn speaks(kubectl: &Client) -> Result<()> {
    let header = |arguments: &[&str]| -> Result<(Vec<String>, usize)> {
        let text = kubectl.run(arguments)?;
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        Ok((header, lines.count()))
    };
    for (arguments, columns) in [
        (
            &["top", "nodes"] as &[&str],
            &["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"] as &[&str],
        ),
        (&["top", "pods", "-n", LOAD], &["NAME", "CPU(cores)", "MEMORY(bytes)"]),
        (&["top", "pods", "-A", "--containers", "--sort-by=cpu"], &["NAMESPACE", "POD", "NAME"]),
        (&["top", "pods", "-n", LOAD, "--sum", "-l", "app=busy"], &["NAME", "CPU(cores)", "MEMORY(bytes)"]),
        (&["get", "nodes.metrics.k8s.io"], &["NAME", "CPU", "MEMORY", "WINDOW"]),
        (&["get", "nodes.metrics.k8s.io", "-o", "wide"], &["NAME", "CPU", "MEMORY", "WINDOW", "SWAP"]),
        (&["get", "pods.v1.metrics.k8s.io", "-n", LOAD], &["NAME", "CPU", "MEMORY", "WINDOW"]),
    ] {
        let (found, rows) = header(arguments)?;
        check!(
            found.iter().zip(columns).all(|(found, column)| found == column) && rows > 0,
            "{arguments:?}: {found:?}, {rows} rows"
        );
    }
    for arguments in
        [&["top", "nodes", "--show-swap"] as &[&str], &["top", "pods", "-n", LOAD, "--show-swap"]]
    {
        let (found, rows) = header(arguments)?;
        check!(
            found.iter().any(|column| column == "SWAP(bytes)") && rows > 0,
            "{arguments:?}: {found:?}, {rows} rows"
        );
    }
    // `kubectl explain nodes.metrics.k8s.io` would explain the field `metrics` of core Nodes, whichever server has
    // the group.
    for version in ["v1beta1", "v1"] {
        let group = format!("--api-version=metrics.k8s.io/{version}");
        for (resource, field) in [("nodes", "usage"), ("pods", "containers"), ("pods.containers", "usage")] {
            let text = kubectl.run(&["explain", resource, &group])?;
            check!(
                text.contains(&format!("VERSION:    {version}"))
                    && text.contains(field)
                    && text.contains("DESCRIPTION"),
                "explain {resource} {version}: {text}"
            );
        }
    }
    Ok(())
}

fn client_go_reads_both_versions(env: &TestEnv) -> Result<()> {
    let program = binaries::clients(&env.progress)?.join("client-go");
    let text = command::output(env.client.command(&program).arg("read"))?;
    let responses: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let kinds: BTreeSet<_> = responses
        .iter()
        .map(|response| format!("{} {}", response["version"], response["contentType"]))
        .collect();
    check!(kinds.len() == 4, "two versions in two encodings: {kinds:?}");
    for response in &responses {
        let found = &response["found"];
        let amounts = |usage: &Value| -> Vec<String> {
            usage.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        let node = amounts(&found["node"]["usage"]);
        check!(node == ["cpu", "memory", "swap"], "{kinds:?}: the node's usage has {node:?}");
        let pod = &found["pod"];
        let containers = pod["containers"].as_array().map_or(0, Vec::len);
        check!(containers > 0 && amounts(&pod["containers"][0]["usage"]).len() >= 2, "{pod}");
        check!(pod["window"].is_string() && pod["timestamp"].is_string(), "{pod}");
        let pods = found["pods"].as_array().map_or(0, Vec::len);
        check!(pods >= 3, "{pods} pods");
    }
    Ok(())
}

fn kube_rs_reads_pages(env: &TestEnv) -> Result<()> {
    let found = env.client.wait_for("kube-rs reads the busy pods", MINUTE, |_| {
        let found = kube_rs::read(env.own_cluster()?, LOAD)?;
        if found.is_empty() { Err("no pods".into()) } else { Ok(found) }
    })?;
    for pod in found {
        let container = &pod.containers[0];
        check!(container.name == "busy", "{pod:?}");
        check!(container.usage.contains_key("cpu") && container.usage.contains_key("memory"), "{pod:?}");
        check!(pod.window.ends_with('s') && pod.timestamp.ends_with('Z'), "{pod:?}");
    }
    Ok(())
}

fn recommender_of_vpa_recommends(env: &TestEnv) -> Result<()> {
    let [program, crds] = binaries::recommender(&env.progress)?;
    env.client.run(&["apply", "--server-side", "-f", &crds.display().to_string()])?;
    env.client.run(&[
        "wait",
        "--for=condition=Established",
        "crd/verticalpodautoscalers.autoscaling.k8s.io",
        "--timeout=60s",
    ])?;
    let autoscaler = json!({
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": {"name": "busy", "namespace": LOAD},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
            "updatePolicy": {"updateMode": "Off"},
        },
    });
    env.client.apply(&autoscaler.to_string())?;
    let mut recommender = env.client.command(&program);
    recommender.arg(format!("--kubeconfig={}", env.client.kubeconfig().display()));
    let recommender =
        Background::start(recommender.args(["--recommender-interval=5s", "--address=127.0.0.1:18942"]))?;
    // It adds 15 % to the usage; the container may use 100m, and gets less while the machine is busy.
    let fits = |target: &Value| {
        let cpu = target["cpu"].as_str().unwrap_or_default();
        let millicores: u32 = cpu.trim_end_matches('m').parse().unwrap_or_default();
        (90..=160).contains(&millicores) && target["memory"].is_string()
    };
    let target =
        env.client.wait_for("the recommender's target for the busy pods fits", TIMEOUT, |client| {
            let object = client.get(&["-n", LOAD, "vpa", "busy"])?;
            let first = &object["status"]["recommendation"]["containerRecommendations"][0];
            if first["containerName"] == "busy" && fits(&first["target"]) {
                return Ok(first["target"].clone());
            }
            let log = recommender.errors();
            let last = log.lines().rev().take(3).collect::<Vec<_>>().join("\n");
            Err(Pending(format!("{}; its log ends {last}", object["status"])))
        })?;
    env.progress.say(format!("VPA's target for a container that uses 100m: {target}"));
    env.client.delete(&["-n", LOAD, "vpa", "busy"])?;
    Ok(())
}
