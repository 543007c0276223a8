//! The test bed as a cluster: it runs pods, routes Services and exposes container metrics, as the pipeline requires.

use std::sync::Arc;
use std::time::Duration;

use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::images::BUSYBOX;
use e2e::{Error, Result, check};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "runs_a_pod_and_routes_its_service",
        Needs::OurCluster,
        runs_a_pod_and_routes_its_service,
    );
    suite.add(
        group,
        "kubelet_exposes_metrics_of_each_container",
        Needs::OurCluster,
        kubelet_exposes_metrics_of_each_container,
    );
    suite.add(group, "publishes_the_aggregation_layer", Needs::OurCluster, publishes_the_aggregation_layer);
    suite.add(group, "audit_log_names_the_writer", Needs::OurCluster, audit_log_names_the_writer);
    suite.add(group, "distinguishes_users", Needs::OurCluster, distinguishes_users);
}

fn runs_a_pod_and_routes_its_service(env: &TestEnv) -> Result<()> {
    let namespace = env.namespace()?;
    start(env, "web", &["httpd", "-f", "-p", "8080", "-h", "/bin"])?;
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    env.client.apply(&service.to_string())?;
    start(env, "asking", &["sleep", "3600"])?;
    let address =
        env.client.run(&["-n", namespace, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    // From the node, from another pod, and from the pod of the Service itself.
    let url = format!("http://{address}/nothing-here");
    env.client.wait_for("the Service responds to the node", MINUTE, |_| {
        let status = e2e::testbed::http::Request::get(&url);
        let status = env.own_cluster()?.send(&status)?.status;
        if status == 404 { Ok(()) } else { Err(format!("status {status}").into()) }
    })?;
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80");
    for pod in ["asking", "web"] {
        env.client.wait_for(&format!("the Service responds to the pod {pod}"), MINUTE, |client| {
            let answer = client.run(&["-n", namespace, "exec", pod, "--", "/bin/sh", "-c", &ask])?;
            if answer.starts_with("HTTP/1.1 404") { Ok(()) } else { Err(answer.into()) }
        })?;
    }
    Ok(())
}

fn kubelet_exposes_metrics_of_each_container(env: &TestEnv) -> Result<()> {
    let namespace = env.namespace()?;
    start(env, "steady", &["sleep", "3600"])?;
    let cluster = env.own_cluster()?;
    let series = format!(
        "container_cpu_usage_seconds_total{{container=\"steady\",namespace=\"{namespace}\",pod=\"steady\"}}"
    );
    let path = format!("/api/v1/nodes/{}/proxy/metrics/resource", cluster.node().name);
    env.client.wait_for(&format!("{series} in {path}"), MINUTE, |client| {
        let body = client.raw(&path)?;
        if body.contains(&series) { Ok(()) } else { Err(format!("{} bytes without it", body.len()).into()) }
    })?;
    // Its certificate is signed by the cluster's authority and has the node's address.
    let request = e2e::testbed::http::Request {
        authority: Some(cluster.cluster_authority()?.certificate().to_owned()),
        ..e2e::testbed::http::Request::get(format!(
            "https://{}:10250/metrics/resource",
            cluster.node().address
        ))
    };
    let status = cluster.send(&request)?.status;
    check!(status == 401, "an anonymous request to the kubelet returns {status}, not 401");
    Ok(())
}

fn publishes_the_aggregation_layer(env: &TestEnv) -> Result<()> {
    let name = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
    let data = env.client.get(&name)?["data"].clone();
    for (key, value) in [
        ("requestheader-allowed-names", "[\"aggregator\"]"),
        ("requestheader-extra-headers-prefix", "[\"X-Remote-Extra-\"]"),
        ("requestheader-group-headers", "[\"X-Remote-Group\"]"),
        ("requestheader-username-headers", "[\"X-Remote-User\"]"),
        ("requestheader-client-ca-file", env.own_cluster()?.front_proxy_authority()?.certificate()),
    ] {
        let found = data[key].as_str().unwrap_or_default();
        check!(found.trim() == value.trim(), "{key} is {found:?}, not {value:?}");
    }
    Ok(())
}

fn audit_log_names_the_writer(env: &TestEnv) -> Result<()> {
    let namespace = env.namespace()?;
    let cluster = env.own_cluster()?;
    env.client.wait_for("the namespace's creation in the audit log", MINUTE, |_| {
        let log = std::fs::read_to_string(cluster.layout().audit_log()).map_err(|error| error.to_string())?;
        let events = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut writes = events.filter(|event| {
            event["verb"] == "create"
                && event["objectRef"]["resource"] == "namespaces"
                && event["objectRef"]["name"] == namespace
        });
        match writes.next() {
            Some(event) if event["user"]["username"] == "e2e-admin" => Ok(()),
            Some(event) => Err(event.to_string().into()),
            None => Err("no such event".into()),
        }
    })
}

fn distinguishes_users(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    let jane = cluster.client_as("jane", Some("developers"))?;
    let me = jane.run(&[
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username} {.status.userInfo.groups}",
    ])?;
    check!(me.starts_with("jane ") && me.contains("developers"), "the API server authenticates jane as {me}");
    match jane.get(&["pods", "-A"]) {
        Err(Error::Command { output, .. }) if output.contains("Forbidden") => Ok(()),
        other => Err(failed(format!("jane may list pods: {other:?}"))),
    }
}

/// Starts a pod with one container of the same name, and waits until it is Running with an address.
pub(crate) fn start(env: &TestEnv, name: &str, command: &[&str]) -> Result<()> {
    let namespace = env.namespace()?;
    let command: Vec<String> = command
        .iter()
        .enumerate()
        .map(|(at, word)| if at == 0 { format!("/bin/{word}") } else { (*word).into() })
        .collect();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": name,
                "image": BUSYBOX,
                "imagePullPolicy": "Never",
                "command": command,
                "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},
            }],
        },
    });
    env.client.apply(&pod.to_string())?;
    env.client.wait_for(&format!("pod {name} runs and has an address"), MINUTE, |client| {
        let status = client.get(&["-n", namespace, "pod", name])?["status"].clone();
        if status["phase"] == "Running" && status["podIP"].is_string() {
            Ok(())
        } else {
            Err(status.to_string().into())
        }
    })
}
