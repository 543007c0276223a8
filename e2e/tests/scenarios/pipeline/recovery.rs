//! The pipeline is Ready again after components were killed or objects changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::cluster::KubeletKind;
use e2e::testbed::pipeline;
use e2e::{Cluster, ClusterSpec, Result, check};
use serde_json::{Value, json};

use super::{MINUTE, TIMEOUT, metrics_core, operator, patch_spec, ready};

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "serves_first_metrics_in_time_after_a_start",
        Needs::Alone,
        serves_first_metrics_in_time_after_a_start,
    );
    suite.add(group, "no_request_fails_during_a_rollout", Needs::Alone, no_request_fails_during_a_rollout);
    suite.add(group, "reverts_drift", Needs::Alone, reverts_drift);
    suite.add(group, "killed_components_recover", Needs::Alone, killed_components_recover);
}

/// The limits from the start of metrics-core's container, in seconds.
#[derive(Clone, Copy)]
struct StartLimits {
    kubelet: KubeletKind,
    first_pods: f64,
    all_pods: f64,
    nodes: f64,
}

/// The longest time from a kubelet's start to cAdvisor's second sample of a container.
const SECOND_SAMPLE: Duration = Duration::from_secs(35);

/// An on-demand kubelet has new samples for the second scrape. Before a replica is ready it also checks for some seconds that
/// no other one serves. A cached one has them after up to 20 s (busy containers) or
/// 30 s (idle ones); then follow a scrape interval and 5 s.
const STARTS: [StartLimits; 2] = [
    StartLimits { kubelet: KubeletKind::OnDemand, first_pods: 10.0, all_pods: 20.0, nodes: 15.0 },
    StartLimits { kubelet: KubeletKind::Cached, first_pods: 50.0, all_pods: 50.0, nodes: 50.0 },
];

fn serves_first_metrics_in_time_after_a_start(env: &TestEnv) -> Result<()> {
    let (cluster, quiet) = (env.own_cluster()?, env.progress.clone().quiet());
    let before = cluster.kubelet_kind();
    let result = STARTS.iter().try_for_each(|limits| {
        cluster.restart_kubelet_as(limits.kubelet, &quiet)?;
        // Until cAdvisor's second sample, a cached kubelet asks the runtime at each request.
        thread::sleep(if limits.kubelet == KubeletKind::Cached { SECOND_SAMPLE } else { Duration::ZERO });
        serves_first_metrics_within(env, *limits)
    });
    cluster.restart_kubelet_as(before, &quiet)?;
    result
}

/// Returns the pods that have metrics, as namespace and name; those of metrics-core come and go.
fn pods_with_metrics(env: &TestEnv) -> Result<BTreeSet<String>> {
    let list = env.client.raw_json("/apis/metrics.k8s.io/v1beta1/pods")?;
    let items = list["items"].as_array().into_iter().flatten();
    let names = items.map(|pod| format!("{}/{}", pod["metadata"]["namespace"], pod["metadata"]["name"]));
    Ok(names.filter(|name| !name.contains("\"metrics-core-")).collect())
}

fn serves_first_metrics_within(env: &TestEnv, limits: StartLimits) -> Result<()> {
    ready(&env.client)?;
    let before = env.client.wait_for("the busy and idle pods have metrics", TIMEOUT, |_| {
        let now = pods_with_metrics(env)?;
        if now.len() >= 3 { Ok(now) } else { Err(format!("{now:?}").into()) }
    })?;
    let [name, _, _] = metrics_core(&env.client)?;
    env.client.delete(&["-n", pipeline::NAMESPACE, "pod", &name, "--grace-period=0", "--force"])?;
    // The old one must have stopped serving, or its responses would be taken for the new one's.
    env.client.wait_for("kubectl top pods fails without its server", MINUTE, |client| {
        match client.run(&["top", "pods", "-A"]) {
            Err(_) => Ok(()),
            Ok(_) => Err("it still responds".into()),
        }
    })?;
    let (mut pods, mut nodes, mut all) = (None, None, None);
    let deadline = Instant::now() + TIMEOUT;
    let clock = || jiff::Timestamp::now();
    while (pods.is_none() || nodes.is_none() || all.is_none()) && Instant::now() < deadline {
        if pods.is_none() && env.client.run(&["top", "pods", "-A"]).is_ok() {
            pods = Some(clock());
        }
        if nodes.is_none() && env.client.run(&["top", "nodes"]).is_ok() {
            nodes = Some(clock());
        }
        if all.is_none() && pods_with_metrics(env).is_ok_and(|now| now.is_superset(&before)) {
            all = Some(clock());
        }
        thread::sleep(Duration::from_millis(100));
    }
    let [fresh, _, _] = metrics_core(&env.client)?;
    check!(fresh != name, "the pod is still the old one");
    let pod = env.client.get(&["-n", pipeline::NAMESPACE, "pod", &fresh])?;
    let started = &pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"];
    let started: jiff::Timestamp = started
        .as_str()
        .unwrap_or_default()
        .parse()
        .map_err(|error| failed(format!("{started}: {error}")))?;
    let after = |then: Option<jiff::Timestamp>| {
        then.map(|then| then.duration_since(started).as_secs_f64())
            .ok_or_else(|| failed("no response within two minutes".into()))
    };
    let (pods, nodes, all) = (after(pods)?, after(nodes)?, after(all)?);
    env.progress.say(format!(
        "{} kubelet, from the container's start: kubectl top pods after {pods:.1} s, all {} pods after {all:.1} s, nodes \
         after {nodes:.1} s",
        limits.kubelet,
        before.len()
    ));
    // startedAt has whole seconds, rounded down: the result is up to a second too long.
    check!(
        pods >= 0.0 && nodes >= 0.0,
        "answered before the new container's start: {pods:.1} s, {nodes:.1} s"
    );
    let limit = |limit: f64| limit + 1.0;
    let kubelet = limits.kubelet;
    check!(pods <= limit(limits.first_pods), "{kubelet} kubelet, kubectl top pods: {pods:.1} s");
    check!(all <= limit(limits.all_pods), "{kubelet} kubelet, all pods: {all:.1} s");
    check!(nodes <= limit(limits.nodes), "{kubelet} kubelet, kubectl top nodes: {nodes:.1} s");
    ready(&env.client)
}

/// During a rollout of metrics-core, no `kubectl top` fails, and no node and no pod that had metrics is missing.
fn no_request_fails_during_a_rollout(env: &TestEnv) -> Result<()> {
    ready(&env.client)?;
    let names = |arguments: &[&str]| -> Result<Vec<String>> {
        let table = env.client.run(arguments)?;
        let lines = table.lines().filter(|line| !line.contains("metrics-core-"));
        let first = |line: &str, count| line.split_whitespace().take(count).collect::<Vec<_>>().join("/");
        let count = if arguments.contains(&"pods") { 2 } else { 1 };
        Ok(lines.map(|line| first(line, count)).collect())
    };
    let (pods, nodes) = (["top", "pods", "-A", "--no-headers"], ["top", "nodes", "--no-headers"]);
    // Only these must have metrics throughout; pods of metrics-core come and go meanwhile.
    let before = (names(&pods)?, names(&nodes)?);
    check!(!before.0.is_empty() && !before.1.is_empty(), "nothing has metrics");
    let [old, _, _] = metrics_core(&env.client)?;
    let deployment = ["-n", pipeline::NAMESPACE, "rollout", "restart", "deployment", "metrics-core"];
    env.client.run(&deployment)?;
    let (began, mut lists, mut replaced) = (Instant::now(), 0, None);
    // A while after the end of the old one, whose address some component may still use.
    while replaced.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(15)) {
        check!(began.elapsed() < 2 * MINUTE, "no new pod of metrics-core alone within two minutes");
        let now = (names(&pods)?, names(&nodes)?);
        for (what, before, now) in [("pods", &before.0, &now.0), ("nodes", &before.1, &now.1)] {
            let missing: Vec<_> = before.iter().filter(|name| !now.contains(name)).collect();
            check!(missing.is_empty(), "{what} missing after {:?}: {missing:?}", began.elapsed());
        }
        lists += 1;
        if replaced.is_none() && metrics_core(&env.client).is_ok_and(|[name, _, _]| name != old) {
            replaced = Some(Instant::now());
        }
        thread::sleep(Duration::from_millis(500));
    }
    env.progress.say(format!("{lists} lists of pods and nodes during a rollout were complete"));
    ready(&env.client)
}

fn reverts_drift(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let namespace = ["-n", pipeline::NAMESPACE];
    let owned: [(&[&str], &str, &str); 5] = [
        (
            &["service", "metrics-core"],
            r#"{"spec":{"selector":{"app.kubernetes.io/name":"other"}}}"#,
            "/spec/selector",
        ),
        (
            &["deployment", "metrics-core"],
            r#"{"spec":{"template":{"spec":{"serviceAccountName":"default"}}}}"#,
            "/spec/template/spec/serviceAccountName",
        ),
        (&["clusterrole", "metrics-core:collector"], r#"{"rules":[]}"#, "/rules"),
        (&["configmap", "metrics-core"], r#"{"data":{"kubelet-ca.crt":"none"}}"#, "/data"),
        (
            &["apiservice", "v1beta1.metrics.k8s.io"],
            r#"{"spec":{"caBundle":null,"insecureSkipTLSVerify":true}}"#,
            "/spec",
        ),
    ];
    for (object, patch, pointer) in owned {
        let read = || -> Result<Value> {
            let value = client.get(&[&namespace[..], object].concat())?;
            Ok(value.pointer(pointer).cloned().unwrap_or_default())
        };
        let before = read()?;
        client.run(&[&namespace[..], &["patch"], object, &["--type=merge", "-p", patch]].concat())?;
        client.wait_for(&format!("{} is as it was", object.join(" ")), MINUTE, |_| {
            let now = read()?;
            if now == before { Ok(()) } else { Err(now.to_string().into()) }
        })?;
    }
    for object in [
        &["service", "metrics-core"][..],
        &["secret", "metrics-core-serving"],
        &["clusterrolebinding", "metrics-core:collector"],
        &["apiservice", "v1beta1.metrics.k8s.io"],
        &["deployment", "metrics-core"],
    ] {
        let uid = |value: &Value| value["metadata"]["uid"].to_string();
        let before = uid(&client.get(&[&namespace[..], object].concat())?);
        client.delete(&[&namespace[..], object].concat())?;
        client.wait_for(&format!("{} is there again", object.join(" ")), MINUTE, |client| {
            let now = uid(&client.get(&[&namespace[..], object].concat())?);
            if now == before { Err("still the old one".into()) } else { Ok(()) }
        })?;
    }
    ready(client)?;
    client.wait_for("kubectl top nodes succeeds", TIMEOUT, |client| {
        client.run(&["top", "nodes"])?;
        Ok(())
    })
}

fn killed_components_recover(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let cluster = env.own_cluster()?;
    let kill = |name: &str| {
        client.run(&["-n", pipeline::NAMESPACE, "delete", "pod", name, "--grace-period=0", "--force"])
    };
    let again = ClusterSpec::new(&cluster.layout().name).owned_by_this_process();
    for (what, delay) in [("nothing", 0), ("a change", 300), ("a change", 1500)] {
        if what == "a change" {
            // In the middle of a rollout.
            let resolution = if delay == 300 { "10s" } else { "15s" };
            patch_spec(client, json!({"metricsCore": {"metricResolution": resolution}}))?;
            thread::sleep(Duration::from_millis(delay));
        }
        kill(&operator(client)?[0])?;
        ready(client)?;
        kill(&metrics_core(client)?[0])?;
        kill(&operator(client)?[0])?;
        cluster.kill("kube-apiserver")?;
        Cluster::up(&again, &env.progress.clone().quiet())?;
        ready(client)?;
        client.wait_for("kubectl top succeeds", TIMEOUT, |client| {
            client.run(&["top", "nodes"])?;
            client.run(&["top", "pods", "-A"])?;
            Ok(())
        })?;
    }
    Ok(())
}
