//! The responses of the Metrics API in each representation that clients request.

use std::process::Stdio;
use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::pipeline;
use e2e::wait::Pending;
use e2e::{Result, check, command};
use serde_json::Value;

use super::{LOAD, MINUTE};

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "kubectl_top_reports_the_cpu_limit_of_a_busy_container",
        Needs::OurCluster,
        kubectl_top_reports_the_cpu_limit_of_a_busy_container,
    );
    suite.add(group, "serves_raw_requests", Needs::Cluster, serves_raw_requests);
    suite.add(group, "serves_kubectl_proxy", Needs::OurCluster, serves_kubectl_proxy);
    suite.add(group, "kubectl_get_prints_a_table", Needs::Cluster, kubectl_get_prints_a_table);
    suite.add(group, "selectors_filter_objects", Needs::OurCluster, selectors_filter_objects);
    suite.add(group, "kubectl_explains_the_kinds", Needs::Cluster, kubectl_explains_the_kinds);
}

fn kubectl_top_reports_the_cpu_limit_of_a_busy_container(env: &TestEnv) -> Result<()> {
    env.client.wait_for(
        "kubectl top reports 90m to 110m for a busy container with a limit of 100m",
        MINUTE * 2,
        |client| {
            let cpu = pipeline::top_millicores(client, LOAD, "busy")?;
            if (90..=110).contains(&cpu) { Ok(()) } else { Err(Pending(format!("{cpu}m"))) }
        },
    )?;
    let node = &env.own_cluster()?.node().name;
    let nodes = env.client.run(&["top", "nodes", "--no-headers"])?;
    let fields: Vec<_> = nodes.split_whitespace().collect();
    check!(
        fields.first() == Some(&node.as_str()) && !nodes.contains("<unknown>"),
        "kubectl top nodes: {nodes}"
    );
    let all = env.client.run(&["top", "pods", "-A", "--containers", "--no-headers"])?;
    check!(
        all.lines().any(|line| line.contains("metrics-core")) && all.contains("busy"),
        "kubectl top pods -A: {all}"
    );
    Ok(())
}

fn serves_raw_requests(env: &TestEnv) -> Result<()> {
    for version in ["v1beta1", "v1"] {
        let root = format!("/apis/metrics.k8s.io/{version}");
        let nodes = env.client.raw_json(&format!("{root}/nodes"))?;
        let node = nodes["items"][0]["metadata"]["name"].as_str().unwrap_or_default();
        check!(nodes["kind"] == "NodeMetricsList" && !node.is_empty(), "{nodes}");
        let one = env.client.raw_json(&format!("{root}/nodes/{node}"))?;
        plausible(&one, "NodeMetrics", &[&one["usage"]])?;
        check!(
            one["metadata"]["labels"]["kubernetes.io/hostname"].is_string(),
            "no labels of the node: {one}"
        );

        let pods = env.client.raw_json(&format!("{root}/pods"))?;
        let keys: Vec<_> = pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pod| (pod["metadata"]["namespace"].to_string(), pod["metadata"]["name"].to_string()))
            .collect();
        check!(keys.len() >= 3 && keys.is_sorted(), "pods of all namespaces, in order: {keys:?}");
        // A pod that has metrics: another one may be starting just now.
        let text = |field: &str| pods["items"][0]["metadata"][field].as_str().unwrap_or_default();
        let path = format!("{root}/namespaces/{}/pods/{}", text("namespace"), text("name"));
        let one = env.client.raw_json(&path)?;
        check!(one["containers"].as_array().is_some_and(|containers| !containers.is_empty()), "{one}");
        plausible(&one, "PodMetrics", &[&one["containers"][0]["usage"]])?;
    }
    for (path, words) in [
        ("nodes/none-such", "node \"none-such\" not found"),
        ("namespaces/default/pods/none-such", "pods \"none-such\" not found"),
    ] {
        let answer = env.client.raw(&format!("/apis/metrics.k8s.io/v1beta1/{path}"));
        let text = answer.map_or_else(|error| error.to_string(), |body| format!("a response: {body}"));
        check!(text.contains(words), "{path}: {text}");
    }
    Ok(())
}

/// Checks an object's kind, times and amounts.
fn plausible(row: &Value, kind: &str, usages: &[&Value]) -> Result<()> {
    check!(row["kind"] == kind, "the kind is not {kind}: {row}");
    let window = row["window"].as_str().unwrap_or_default();
    check!(window.ends_with('s') && !window.starts_with('0') && !window.starts_with('-'), "window: {row}");
    check!(
        row["timestamp"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 20),
        "timestamp: {row}"
    );
    for usage in usages {
        let cpu = usage["cpu"].as_str().unwrap_or_default();
        let memory = usage["memory"].as_str().unwrap_or_default();
        check!(!cpu.is_empty() && (memory.ends_with("Ki") || memory.ends_with("Mi")), "usage: {row}");
    }
    Ok(())
}

fn serves_kubectl_proxy(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    let port = "18001";
    let mut proxy = env
        .client
        .kubectl()
        .args(["proxy", "--port", port])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(format!("kubectl proxy: {error}")))?;
    let url = format!("http://127.0.0.1:{port}/apis/metrics.k8s.io/v1beta1/nodes/{}", cluster.node().name);
    let answer = env.client.wait_for("kubectl proxy responds", MINUTE, |_| {
        let mut curl = cluster.network().command("curl");
        command::output(curl.args(["-sSf", "--noproxy", "*", "-m", "10", &url])).map_err(Pending::from)
    });
    let _ = proxy.kill();
    let _ = proxy.wait();
    let answer = answer?;
    // For curl it is indented, as the API server's own responses are.
    let answer: Value =
        serde_json::from_str(&answer).map_err(|error| failed(format!("{error}: {answer}")))?;
    check!(answer["kind"] == "NodeMetrics", "through kubectl proxy: {answer}");
    Ok(())
}

fn kubectl_get_prints_a_table(env: &TestEnv) -> Result<()> {
    let table = env.client.run(&["get", "pods.metrics.k8s.io", "-n", pipeline::NAMESPACE])?;
    let header: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    check!(header == ["NAME", "CPU", "MEMORY", "WINDOW"], "kubectl get pods.metrics.k8s.io: {table}");
    let yaml = env.client.run(&["get", "nodes.metrics.k8s.io", "-o", "yaml"])?;
    check!(yaml.contains("kind: NodeMetrics"), "as YAML: {yaml}");
    Ok(())
}

fn selectors_filter_objects(env: &TestEnv) -> Result<()> {
    let names = |query: &str| -> Result<Vec<String>> {
        let list =
            env.client.raw_json(&format!("/apis/metrics.k8s.io/v1beta1/namespaces/{LOAD}/pods?{query}"))?;
        let items = list["items"].as_array().cloned().ok_or_else(|| failed(format!("no items: {list}")))?;
        Ok(items.iter().map(|pod| pod["metadata"]["name"].to_string()).collect())
    };
    let all = names("")?;
    check!(!all.is_empty() && names("labelSelector=app%3Dbusy")? == all, "app=busy does not select {all:?}");
    check!(names("labelSelector=app%21%3Dbusy")?.is_empty(), "app!=busy selects something");
    check!(names("fieldSelector=metadata.name%3Dnone-such")?.is_empty(), "another name selects something");
    let refused = env.client.raw("/apis/metrics.k8s.io/v1beta1/pods?fieldSelector=spec.nodeName%3Dx");
    check!(
        refused.is_err_and(|error| error.to_string().contains("field selector")),
        "an unknown field is accepted"
    );
    Ok(())
}

fn kubectl_explains_the_kinds(env: &TestEnv) -> Result<()> {
    // It also invalidates kubectl's discovery cache, which `explain` would otherwise use for hours.
    let resources = env.client.run(&["api-resources", "--api-group=metrics.k8s.io"])?;
    check!(
        resources.contains("NodeMetrics") && resources.contains("PodMetrics"),
        "api-resources: {resources}"
    );
    let group = "--api-version=metrics.k8s.io/v1beta1";
    for (arguments, words) in [
        (&["pods", group] as &[&str], "containers"),
        (&["nodes", group], "usage"),
        (&["metricspipelines.spec.metricsCore.kubelet.tls"], "certificateAuthority"),
    ] {
        let text = env.client.run(&[&["explain"], arguments].concat())?;
        check!(text.contains(words) && text.contains("DESCRIPTION"), "kubectl explain {arguments:?}: {text}");
    }
    Ok(())
}
