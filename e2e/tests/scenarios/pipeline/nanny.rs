//! metrics-core follows the size of the cluster, and nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::images::BUSYBOX;
use e2e::scenario::{Group, Needs, Stand, Suite, failed};
use e2e::{Client, Result, check, pipeline};
use serde_json::{Value, json};

use super::{MINUTE, PATIENCE, condition, metrics_core, operator, ready};

mod older;
mod rollouts;

/// `spec.nanny.scaleUpDelay` and `scaleDownDelay` here.
const UP: Duration = Duration::from_secs(5);
const DOWN: Duration = Duration::from_secs(20);
/// So long after a delay is over, pods have their new size.
const PROMPT: Duration = Duration::from_secs(10);
/// How many nodes come and go.
const NODES: usize = 20;
/// Memory of one node and of 21 by the seed's formula: 40Mi + 4Mi × 5, and × 22.
const SMALL: &str = "60Mi";
const LARGE: &str = "128Mi";

pub fn add(suite: &mut Suite, prepare: fn(&Stand) -> Result<()>) {
    let group = suite.group_with("nanny", Vec::new(), Some(prepare));
    in_place(suite, &group);
    let group = suite.group_with("nanny-rollout", Vec::new(), Some(prepare));
    rollouts::add(suite, &group);
    older::add(suite, prepare);
}

fn in_place(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "nodes_resize_it_in_place", Needs::Alone, nodes_resize_it_in_place);
    suite.add(group, "a_new_pod_is_resized_at_once", Needs::Alone, a_new_pod_is_resized_at_once);
    suite.add(group, "a_restarted_operator_resizes", Needs::Alone, a_restarted_operator_resizes);
    suite.add(group, "a_rollout_takes_the_size_along", Needs::Alone, a_rollout_takes_the_size_along);
    suite.add(group, "limits_follow_requests", Needs::Alone, limits_follow_requests);
    suite.add(group, "containers_resize_it_in_place", Needs::Alone, containers_resize_it_in_place);
    suite.add(group, "an_infeasible_size_harms_nobody", Needs::Alone, an_infeasible_size_harms_nobody);
    suite.add(
        group,
        "other_hands_are_told_and_not_fought",
        Needs::Alone,
        other_hands_are_told_and_not_fought,
    );
}

/// The group's MetricsPipeline: the seed's parameters, and short delays.
pub fn spec() -> Value {
    json!({"nanny": {
        "estimator": "Exponential", "cpu": "40m", "extraCpu": "0.5m", "memory": "40Mi", "extraMemory": "4Mi",
        "minClusterSize": 5, "scaleUpDelay": "5s", "scaleDownDelay": "20s",
    }})
}

/// Nodes that run nothing and that nothing is placed on.
fn add_nodes(client: &Client) -> Result<()> {
    let nodes: Vec<_> = (0..NODES)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("fake-{number}"), "labels": {"fake": "node"}},
                "spec": {"unschedulable": true, "taints": [{"key": "fake", "effect": "NoSchedule"}]}})
        })
        .collect();
    client.apply(&json!({"apiVersion": "v1", "kind": "List", "items": nodes}).to_string())?;
    Ok(())
}

fn remove_nodes(client: &Client) -> Result<()> {
    client.delete(&["nodes", "-l", "fake=node"])?;
    Ok(())
}

/// The one running pod as it is.
fn pod(client: &Client) -> Result<Value> {
    let [name, _, _] = metrics_core(client)?;
    client.get(&["-n", pipeline::NAMESPACE, "pod", &name])
}

/// Waits until the running pod really has so much memory; the pod, and how long it took.
fn wait_for_memory(client: &Client, memory: &str, timeout: Duration) -> Result<(Value, Duration)> {
    let began = Instant::now();
    let pod = client.wait_for(&format!("metrics-core has {memory}"), timeout, |client| {
        let pod = pod(client)?;
        let (spec, actual) = (&pod["spec"]["containers"][0], &pod["status"]["containerStatuses"][0]);
        let has = |resources: &Value| {
            resources["requests"]["memory"] == memory && resources["limits"]["memory"] == memory
        };
        if has(&spec["resources"]) && has(&actual["resources"]) {
            Ok(pod)
        } else {
            Err(format!("spec {}, actual {}", spec["resources"], actual["resources"]).into())
        }
    })?;
    Ok((pod, began.elapsed()))
}

fn template(client: &Client) -> Result<Value> {
    let deployment = client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])?;
    Ok(deployment["spec"]["template"].clone())
}

fn check_same_pod(before: &Value, after: &Value) -> Result<()> {
    check!(before["metadata"]["uid"] == after["metadata"]["uid"], "another pod");
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].clone();
    check!(restarts(after) == 0, "restarted {} times", restarts(after));
    Ok(())
}

/// Runs `work` while `kubectl top pods` is tried once a second; every answer must be good.
fn while_answering(stand: &Stand, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (done, client) = (Arc::new(AtomicBool::new(false)), stand.client.clone());
    let over = Arc::clone(&done);
    let asking = thread::spawn(move || {
        let (mut answers, mut failures) = (0_usize, Vec::new());
        // A few at least: on a busy machine one takes seconds.
        while !over.load(Ordering::Relaxed) || answers + failures.len() < 4 {
            match client.run(&["top", "pods", "-A"]) {
                Ok(_) => answers += 1,
                Err(error) => failures.push(error.to_string()),
            }
            thread::sleep(Duration::from_secs(1));
        }
        (answers, failures)
    });
    let result = work();
    done.store(true, Ordering::Relaxed);
    let (answers, failures) = asking.join().map_err(|_| failed("the asking thread panicked".into()))?;
    result?;
    check!(
        failures.is_empty(),
        "{} of {} answers failed: {failures:?}",
        failures.len(),
        answers + failures.len()
    );
    stand.progress.say(format!("kubectl top answered {answers} times without a gap"));
    Ok(())
}

/// Changes the spec.
#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn patch(client: &Client, spec: Value) -> Result<()> {
    let patch = json!({"spec": spec}).to_string();
    client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", &patch])?;
    Ok(())
}

/// Back to one node, the small size and the spec of the group.
fn settle(client: &Client) -> Result<()> {
    remove_nodes(client)?;
    let whole = json!([{"op": "replace", "path": "/spec", "value": spec()}]).to_string();
    client.run(&["patch", "mpl", pipeline::NAME, "--type=json", "-p", &whole])?;
    wait_for_memory(client, SMALL, DOWN * 3 + PROMPT)?;
    ready(client)?;
    only_pod(client, PATIENCE, |_| true).map(drop)
}

/// All pods of metrics-core, whatever state they are in.
fn pods(client: &Client) -> Result<Vec<Value>> {
    let selector = "app.kubernetes.io/name=metrics-core";
    let pods = client.get(&["-n", pipeline::NAMESPACE, "pods", "-l", selector])?;
    Ok(pods["items"].as_array().cloned().unwrap_or_default())
}

/// Waits until there is one pod of metrics-core alone, and it is ready and as it should be.
fn only_pod(client: &Client, timeout: Duration, is_right: impl Fn(&Value) -> bool) -> Result<Value> {
    client.wait_for("one pod of metrics-core is left, as it should be", timeout, |client| {
        let pods = pods(client)?;
        match pods.as_slice() {
            [pod]
                if condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
                    && is_right(pod) =>
            {
                Ok(pod.clone())
            }
            pods => {
                let seen = |pod: &Value| {
                    format!("{} {} {}", pod["metadata"]["name"], pod["status"]["phase"], resources(pod))
                };
                Err(pods.iter().map(seen).collect::<Vec<_>>().join("; ").into())
            }
        }
    })
}

/// What a pod's container is to have.
fn resources(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["resources"]
}

/// What events of a reason say.
fn events(client: &Client, reason: &str) -> Result<Vec<String>> {
    let selector = format!("reason={reason}");
    let events = client.get(&["events", "-A", "--field-selector", &selector])?;
    let say = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
    Ok(events["items"].as_array().into_iter().flatten().map(say).collect())
}

/// How often the Deployment's template has changed.
fn revision(client: &Client) -> Result<i64> {
    let deployment = client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])?;
    let revision = deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str();
    Ok(revision.and_then(|revision| revision.parse().ok()).unwrap_or(0))
}

/// Waits until a condition has a status and a reason; its message.
fn told(client: &Client, kind: &str, status: &str, reason: &str, timeout: Duration) -> Result<String> {
    client.wait_for(&format!("{kind} is {status} {reason}"), timeout, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let found = condition(&object, kind).cloned().unwrap_or_default();
        if found["status"] == status && found["reason"] == reason {
            return Ok(found["message"].as_str().unwrap_or_default().to_owned());
        }
        Err(found.to_string().into())
    })
}

/// How the size was last applied.
fn applied(client: &Client) -> Result<Value> {
    Ok(client.get(&["mpl", pipeline::NAME])?["status"]["nanny"]["applied"].clone())
}

/// Waits until metrics are served as of the present spec. It is not Ready meanwhile: most nodes are fakes without metrics.
fn is_served(client: &Client) -> Result<()> {
    client.wait_for("metrics are served", PATIENCE, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let holds = |kind| condition(&object, kind).is_some_and(|condition| condition["status"] == "True");
        if current && holds("DeploymentAvailable") && holds("MetricsServed") {
            return Ok(());
        }
        Err(object["status"].to_string().into())
    })
}

fn nodes_resize_it_in_place(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let (before, template_before) = (pod(client)?, template(client)?);
    while_answering(stand, || {
        add_nodes(client)?;
        let (large, up) = wait_for_memory(client, LARGE, UP + PROMPT)?;
        check_same_pod(&before, &large)?;
        let object = client.wait_for_condition(&["mpl", pipeline::NAME], "Sized", "True", MINUTE)?;
        let applied = &object["status"]["nanny"]["applied"];
        check!(applied["method"] == "InPlace" && applied["from"]["memory"] == SMALL, "status: {applied}");
        check!(applied["to"]["memory"] == LARGE && applied["reason"] != "", "status: {applied}");
        remove_nodes(client)?;
        let (small, down) = wait_for_memory(client, SMALL, DOWN + PROMPT)?;
        check_same_pod(&before, &small)?;
        stand.progress.say(format!(
            "larger {:.1} s after the last node came (of which {} s delay), smaller {:.1} s after the last one went (of {} s)",
            up.as_secs_f64(), UP.as_secs(), down.as_secs_f64(), DOWN.as_secs()
        ));
        Ok(())
    })?;
    check!(template(client)? == template_before, "the template changed for a resize alone");
    let events = client.run(&["get", "events", "-A", "--field-selector", "reason=Resized", "-o", "name"])?;
    check!(!events.is_empty(), "no event tells of it");
    is_served(client)
}

fn a_new_pod_is_resized_at_once(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    add_nodes(client)?;
    wait_for_memory(client, LARGE, UP + PROMPT)?;
    let [name, _, uid] = metrics_core(client)?;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": pipeline::NAMESPACE}});
    let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", pipeline::NAMESPACE);
    client.with_manifest(&["create", "--raw", &path], &eviction.to_string())?;
    client.wait_for("the evicted pod is replaced", MINUTE, |client| {
        let pod = pod(client)?;
        if pod["metadata"]["uid"] == uid.as_str() { Err("still the old one".into()) } else { Ok(()) }
    })?;
    let (fresh, _) = wait_for_memory(client, LARGE, MINUTE)?;
    let restarts = &fresh["status"]["containerStatuses"][0]["restartCount"];
    check!(*restarts == 0, "the new pod restarted {restarts} times");
    is_served(client)?;
    settle(client)
}

fn a_restarted_operator_resizes(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let before = pod(client)?;
    while_answering(stand, || {
        add_nodes(client)?;
        thread::sleep(Duration::from_secs(2));
        let [name, _, _] = operator(client)?;
        client.run(&["-n", pipeline::NAMESPACE, "delete", "pod", &name, "--grace-period=0", "--force"])?;
        let (after, _) = wait_for_memory(client, LARGE, MINUTE)?;
        check_same_pod(&before, &after)?;
        // Again, when all is settled: it must know what it decided, and change nothing.
        is_served(client)?;
        let [name, _, _] = operator(client)?;
        client.run(&["-n", pipeline::NAMESPACE, "delete", "pod", &name, "--grace-period=0", "--force"])?;
        is_served(client)?;
        let (after, _) = wait_for_memory(client, LARGE, MINUTE)?;
        check_same_pod(&before, &after)
    })?;
    settle(client)
}

fn a_rollout_takes_the_size_along(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    add_nodes(client)?;
    wait_for_memory(client, LARGE, UP + PROMPT)?;
    let before = revision(client)?;
    while_answering(stand, || {
        client.run(&[
            "patch",
            "mpl",
            pipeline::NAME,
            "--type=merge",
            "-p",
            "{\"spec\":{\"metricsCore\":{\"logLevel\":\"Debug\"}}}",
        ])?;
        client.wait_for("the rollout is done with the new size", PATIENCE, |client| {
            let memory =
                template(client)?["spec"]["containers"][0]["resources"]["requests"]["memory"].clone();
            let pods = client.get(&[
                "-n",
                pipeline::NAMESPACE,
                "pods",
                "-l",
                "app.kubernetes.io/name=metrics-core",
            ])?;
            let pods = pods["items"].as_array().map_or(0, Vec::len);
            if memory == LARGE && pods == 1 && revision(client)? > before {
                Ok(())
            } else {
                Err(format!("template {memory}, {pods} pods").into())
            }
        })?;
        is_served(client)
    })?;
    let after = revision(client)?;
    check!(after == before + 1, "{} rollouts instead of one", after - before);
    wait_for_memory(client, LARGE, MINUTE)?;
    client.run(&[
        "patch",
        "mpl",
        pipeline::NAME,
        "--type=merge",
        "-p",
        "{\"spec\":{\"metricsCore\":{\"logLevel\":\"Info\"}}}",
    ])?;
    is_served(client)?;
    settle(client)
}

fn an_infeasible_size_harms_nobody(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let before = pod(client)?;
    while_answering(stand, || {
        client.run(&[
            "patch",
            "mpl",
            pipeline::NAME,
            "--type=merge",
            "-p",
            "{\"spec\":{\"nanny\":{\"min\":{\"memory\":\"1000Gi\"}}}}",
        ])?;
        let object = client.wait_for_condition(&["mpl", pipeline::NAME], "Sized", "False", MINUTE)?;
        let sized = condition(&object, "Sized").cloned().unwrap_or_default();
        check!(sized["reason"] == "ResizeInfeasible", "{sized}");
        check!(
            sized["message"].as_str().unwrap_or_default().contains("spec.nanny.max"),
            "no remedy: {sized}"
        );
        // New pods are tried, which no node can hold either; the old one serves on.
        thread::sleep(Duration::from_secs(5));
        let served = client.get(&["mpl", pipeline::NAME])?;
        check!(
            condition(&served, "Ready").is_some_and(|ready| ready["status"] == "True"),
            "{}",
            served["status"]
        );
        check_same_pod(&before, &pod(client)?)?;
        client.run(&[
            "patch",
            "mpl",
            pipeline::NAME,
            "--type=merge",
            "-p",
            "{\"spec\":{\"nanny\":{\"min\":null}}}",
        ])?;
        client.wait_for_condition(&["mpl", pipeline::NAME], "Sized", "True", MINUTE)?;
        client.wait_for("one pod is left", PATIENCE, |client| {
            let pods = client.get(&[
                "-n",
                pipeline::NAMESPACE,
                "pods",
                "-l",
                "app.kubernetes.io/name=metrics-core",
            ])?;
            match pods["items"].as_array().map_or(0, Vec::len) {
                1 => Ok(()),
                pods => Err(format!("{pods} pods").into()),
            }
        })?;
        wait_for_memory(client, SMALL, MINUTE)?;
        is_served(client)
    })
}

fn other_hands_are_told_and_not_fought(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let by_hand = |cpu: &str| -> Result<String> {
        let [name, _, _] = metrics_core(client)?;
        let patch = json!({"spec": {"containers": [{"name": "metrics-core", "resources": {"requests": {"cpu": cpu}}}]}});
        client.run(&[
            "-n",
            pipeline::NAMESPACE,
            "patch",
            "pod",
            &name,
            "--subresource",
            "resize",
            "-p",
            &patch.to_string(),
        ])
    };
    let cpu = || -> Result<Value> {
        Ok(pod(client)?["spec"]["containers"][0]["resources"]["requests"]["cpu"].clone())
    };
    // A fresh pod, so that the operator has asked for its size itself.
    add_nodes(client)?;
    wait_for_memory(client, LARGE, UP + PROMPT)?;
    let before = cpu()?;
    by_hand("90m")?;
    client.wait_for("it is set back once", MINUTE, |_| {
        let now = cpu()?;
        if now == before { Ok(()) } else { Err(now.to_string().into()) }
    })?;
    by_hand("91m")?;
    let object = client.wait_for("it is told and left alone", MINUTE, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        match condition(&object, "Sized") {
            Some(sized) if sized["reason"] == "ResourcesConflict" => Ok(object),
            _ => Err(object["status"].to_string().into()),
        }
    })?;
    // It is no fault; that most nodes are fakes without an address is one.
    let why = condition(&object, "Ready").map(|ready| ready["reason"].clone()).unwrap_or_default();
    check!(why == "KubeletAddressMissing", "{}", object["status"]);
    thread::sleep(Duration::from_secs(5));
    check!(cpu()? == "91m", "it is fought over: {}", cpu()?);
    // Another size is another matter.
    settle(client)
}

/// `limits: Same`: the QoS class changes by a rollout, and from then on both requests and limits in place.
fn limits_follow_requests(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let is_guaranteed = |pod: &Value| pod["status"]["qosClass"] == "Guaranteed";
    let is_same = |pod: &Value| {
        let resources = resources(pod);
        ["cpu", "memory"].iter().all(|of| resources["limits"][of] == resources["requests"][of])
    };
    let burstable = pod(client)?;
    check!(burstable["status"]["qosClass"] == "Burstable", "{}", burstable["status"]);
    let before = revision(client)?;
    while_answering(stand, || {
        patch(client, json!({"nanny": {"limits": "Same"}}))?;
        let fresh = only_pod(client, PATIENCE, is_guaranteed)?;
        check!(fresh["metadata"]["uid"] != burstable["metadata"]["uid"], "the class of a pod changed");
        check!(is_same(&fresh), "{}", resources(&fresh));
        is_served(client)?;
        add_nodes(client)?;
        let (large, up) = wait_for_memory(client, LARGE, UP + PROMPT)?;
        check_same_pod(&fresh, &large)?;
        let (old, new) = (resources(&fresh), resources(&large));
        check!(is_same(&large) && is_guaranteed(&large), "{new}, {}", large["status"]);
        check!(new["limits"]["cpu"] != old["limits"]["cpu"], "the CPU limit is as it was: {old}, {new}");
        let really = &large["status"]["containerStatuses"][0]["resources"];
        check!(really == new, "the kubelet says {really} instead of {new}");
        remove_nodes(client)?;
        let (small, _) = wait_for_memory(client, SMALL, DOWN + PROMPT)?;
        check_same_pod(&fresh, &small)?;
        check!(is_same(&small) && is_guaranteed(&small), "{}", resources(&small));
        is_served(client)?;
        patch(client, json!({"nanny": {"limits": null}}))?;
        let back = only_pod(client, PATIENCE, |pod| pod["status"]["qosClass"] == "Burstable")?;
        check!(resources(&back)["limits"]["cpu"].is_null(), "{}", resources(&back));
        is_served(client)?;
        stand.progress.say(format!("Guaranteed: {old} became {new} in {:.1} s, in place", up.as_secs_f64()));
        Ok(())
    })?;
    let after = revision(client)?;
    check!(after == before + 2, "{} rollouts instead of one each way", after - before);
    let told = events(client, "Resized")?;
    check!(told.iter().any(|note| note.contains("QoS class")), "no event tells of the rollout: {told:?}");
    settle(client)
}

/// `scalingMode: ContainerProportional`: pods that come and go are what is counted.
fn containers_resize_it_in_place(stand: &Stand) -> Result<()> {
    const COPIES: u64 = 4;
    const EACH: u64 = 4;
    /// They are counted once a minute, when they have metrics.
    const COUNTED: Duration = Duration::from_secs(60 + 30);
    let client = &stand.client;
    settle(client)?;
    let before = pod(client)?;
    let population = |object: &Value| object["status"]["nanny"]["recommendation"]["population"].as_u64();
    let namespace = stand.namespace()?;
    while_answering(stand, || {
        patch(client, json!({"nanny": {"scalingMode": "ContainerProportional"}}))?;
        let containers: Vec<_> = (0..EACH)
            .map(|number| {
                json!({"name": format!("c{number}"), "image": BUSYBOX, "imagePullPolicy": "Never",
                    "command": ["/bin/sleep", "3600"], "resources": {"requests": {"cpu": "1m", "memory": "2Mi"}}})
            })
            .collect();
        let many = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many", "namespace": namespace},
            "spec": {
                "replicas": COPIES,
                "selector": {"matchLabels": {"app": "many"}},
                "template": {
                    "metadata": {"labels": {"app": "many"}},
                    "spec": {"terminationGracePeriodSeconds": 0, "containers": containers},
                },
            },
        });
        client.apply(&many.to_string())?;
        // Some three beside them: up to 22, the step of the large size.
        let (large, up) = wait_for_memory(client, LARGE, COUNTED + UP + PROMPT)?;
        check_same_pod(&before, &large)?;
        let object = client.wait_for_condition(&["mpl", pipeline::NAME], "Sized", "True", MINUTE)?;
        let sized = condition(&object, "Sized").cloned().unwrap_or_default();
        let counted = population(&object).unwrap_or_default();
        check!(counted > COPIES * EACH, "{counted} are counted: {}", object["status"]["nanny"]);
        check!(sized["message"].as_str().unwrap_or_default().contains("containers"), "{sized}");
        client.delete(&["-n", namespace, "deployment", "many"])?;
        let (small, down) = wait_for_memory(client, SMALL, COUNTED + DOWN + PROMPT)?;
        check_same_pod(&before, &small)?;
        stand.progress.say(format!(
            "{counted} containers: larger after {:.1} s; smaller {:.1} s after they went",
            up.as_secs_f64(),
            down.as_secs_f64()
        ));
        Ok(())
    })?;
    settle(client)
}
