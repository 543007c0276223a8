//! Sizes that cannot be applied in place, or not yet: the resize waits for free memory, or new pods take over. An old
//! pod is never deleted for one that cannot replace it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::images::BUSYBOX;
use e2e::testbed::pipeline;
use e2e::{Client, Result, check};
use serde_json::{Value, json};

use super::{
    DOWN, LARGE, MINUTE, PROMPT, SMALL, TIMEOUT, UP, add_nodes, applied, await_condition, check_same_pod,
    condition, events, is_served, metrics_core_pods, only_pod, patch_spec, pod, remove_nodes, resources,
    revision, settle, template, wait_for_memory, without_failed_requests,
};

/// Memory of the node that stays free, in MiB: too little for the rest of the large size, which is 68.
const LITTLE: u64 = 40;
/// Further memory that is enough for that rest, but not for a new pod of 128.
const SOME: u64 = 60;
/// The time for which the operator waits for free memory before it creates new pods, and for it to notice.
const WAITED: Duration = Duration::from_secs(60 + 30);
/// A kubelet retries a deferred resize when a pod is deleted, and periodically.
const TRIED_AGAIN: Duration = Duration::from_secs(210);

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "deferred_resize_waits_for_free_memory",
        Needs::Alone,
        deferred_resize_waits_for_free_memory,
    );
    suite.add(group, "lasting_deferral_causes_new_pods", Needs::Alone, lasting_deferral_causes_new_pods);
    suite.add(
        group,
        "reverts_a_rollout_when_a_resize_becomes_possible",
        Needs::Alone,
        reverts_a_rollout_when_a_resize_becomes_possible,
    );
    suite.add(group, "resizes_in_place_during_a_rollout", Needs::Alone, resizes_in_place_during_a_rollout);
    suite.add(
        group,
        "rollout_with_a_host_port_deletes_the_old_pod_first",
        Needs::Alone,
        rollout_with_a_host_port_deletes_the_old_pod_first,
    );
    suite.add(
        group,
        "keeps_the_old_pod_if_a_free_port_would_not_help",
        Needs::Alone,
        keeps_the_old_pod_if_a_free_port_would_not_help,
    );
}

/// Parses an amount of memory in MiB, rounded down.
fn mebi(amount: &Value) -> Result<u64> {
    let text = amount.as_str().unwrap_or("0");
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|error| failed(format!("{text}: {error}")))?;
    Ok(match &text[digits.len()..] {
        "" => number >> 20,
        "Ki" => number >> 10,
        "Mi" => number,
        "Gi" => number << 10,
        other => return Err(failed(format!("{text}: the unit {other} is not expected"))),
    })
}

/// Creates a pod that requests all free memory of the node except `spare` MiB; returns its request. Its priority is
/// higher than that of metrics-core, so the kubelet does not evict it.
fn fill(env: &TestEnv, spare: u64) -> Result<u64> {
    let (client, node) = (&env.client, &env.own_cluster()?.node().name);
    let allocatable = client.get(&["node", node])?["status"]["allocatable"]["memory"].clone();
    let selector = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    let there = client.get(&["pods", "-A", "--field-selector", &selector])?;
    let mut requested = 0;
    for pod in there["items"].as_array().into_iter().flatten() {
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            requested += mebi(&container["resources"]["requests"]["memory"])?;
        }
    }
    let much = mebi(&allocatable)?.saturating_sub(requested + spare);
    let namespace = env.namespace()?;
    let filler = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler", "namespace": namespace},
        "spec": {"priorityClassName": "system-node-critical", "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "filler", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["/bin/sleep", "3600"],
            "resources": {"requests": {"memory": format!("{much}Mi")}}}]}});
    client.apply(&filler.to_string())?;
    client.wait_for_condition(&["-n", namespace, "pod", "filler"], "Ready", "True", MINUTE)?;
    Ok(much)
}

/// Deletes the filler.
fn empty(env: &TestEnv) -> Result<()> {
    env.client.delete(&["-n", env.namespace()?, "pod", "filler"])?;
    Ok(())
}

/// Waits until the condition reports that the node has no free memory; returns the message.
fn deferred(client: &Client) -> Result<String> {
    let says = await_condition(client, "Sized", "False", "ResizeDeferred", UP + MINUTE)?;
    check!(says.contains("the kubelet reports") && says.contains("memory"), "no evidence: {says}");
    check!(says.contains("spec.nanny.max"), "no remedy: {says}");
    Ok(says)
}

/// Waits until a new pod exists beside the old one and cannot be scheduled.
fn new_pod_waits(client: &Client, old: &Value) -> Result<Value> {
    client.wait_for("a new pod waits for a place", WAITED, |client| {
        let pods = metrics_core_pods(client)?;
        let new = pods.iter().find(|pod| pod["metadata"]["uid"] != old["metadata"]["uid"]);
        let placed = new.and_then(|pod| condition(pod, "PodScheduled"));
        match (new, placed) {
            (Some(new), Some(placed)) if placed["status"] == "False" => Ok(new.clone()),
            _ => Err(format!("{} pods, {placed:?}", pods.len()).into()),
        }
    })
}

/// Checks for a while that the old pod keeps serving and is not deleted.
fn stays(client: &Client, old: &Value, how_long: Duration) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < how_long {
        let now = client.get(&[
            "-n",
            pipeline::NAMESPACE,
            "pod",
            old["metadata"]["name"].as_str().unwrap_or("?"),
        ])?;
        check_same_pod(old, &now)?;
        check!(now["metadata"]["deletionTimestamp"].is_null(), "the old pod is taken down");
        check!(condition(&now, "Ready").is_some_and(|ready| ready["status"] == "True"), "{}", now["status"]);
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn surge(client: &Client) -> Result<Value> {
    let deployment = client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])?;
    Ok(deployment["spec"]["strategy"]["rollingUpdate"].clone())
}

/// Memory becomes free within the minute: the kubelet applies the deferred resize.
fn deferred_resize_waits_for_free_memory(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    let (before, template_before) = (pod(client)?, template(client)?);
    fill(env, LITTLE)?;
    without_failed_requests(env, || {
        add_nodes(client)?;
        let says = deferred(client)?;
        check!(says.contains("waits 60 s"), "{says}");
        env.progress.say(&says);
        stays(client, &before, Duration::from_secs(10))?;
        let has = &pod(client)?["status"]["containerStatuses"][0]["resources"]["requests"]["memory"];
        check!(has == SMALL, "it has {has} already");
        empty(env)?;
        let (after, took) = wait_for_memory(client, LARGE, MINUTE)?;
        check_same_pod(&before, &after)?;
        await_condition(client, "Sized", "True", "AsExpected", MINUTE)?;
        env.progress.say(format!("{:.1} s after the room came", took.as_secs_f64()));
        Ok(())
    })?;
    check!(template(client)? == template_before, "the template changed");
    let applied = applied(client)?;
    check!(applied["method"] == "InPlace" && applied["to"]["memory"] == LARGE, "{applied}");
    check!(!events(client, "ResizeDeferred")?.is_empty(), "no event reports it");
    settle(client)
}

/// No memory becomes free: new pods are created, which cannot be scheduled either; the old one serves until one of
/// them does.
fn lasting_deferral_causes_new_pods(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    let before = pod(client)?;
    fill(env, LITTLE)?;
    without_failed_requests(env, || {
        add_nodes(client)?;
        deferred(client)?;
        let began = Instant::now();
        let new = new_pod_waits(client, &before)?;
        let waited = began.elapsed();
        check!(waited > Duration::from_secs(45), "it waited only {waited:?} for room");
        check!(resources(&new)["requests"]["memory"] == LARGE, "{}", resources(&new));
        // The stalled rollout is reported, and no pod is deleted.
        let named = await_condition(client, "DeploymentAvailable", "True", "Unschedulable", MINUTE)?;
        check!(named.contains("Insufficient memory"), "no evidence: {named}");
        let says = deferred(client)?;
        check!(says.contains("New pods are created instead"), "{says}");
        stays(client, &before, Duration::from_secs(15))?;
        check!(surge(client)? == json!({"maxSurge": 1, "maxUnavailable": 0}), "{}", surge(client)?);
        let last = applied(client)?;
        check!(last["method"] == "Rollout" && last["from"]["memory"] == SMALL, "{last}");
        let notes = events(client, "Resized")?;
        let is_told = |note: &String| note.contains("by a rollout") && note.contains("the kubelet reports");
        check!(notes.iter().any(is_told), "no event reports it: {notes:?}");
        empty(env)?;
        only_pod(client, TIMEOUT, |pod| resources(pod)["requests"]["memory"] == LARGE)?;
        wait_for_memory(client, LARGE, MINUTE)?;
        await_condition(client, "Sized", "True", "AsExpected", MINUTE)?;
        await_condition(client, "DeploymentAvailable", "True", "AsExpected", MINUTE)?;
        env.progress.say(format!("new pods {:.0} s after it was deferred", waited.as_secs_f64()));
        is_served(client)
    })?;
    settle(client)
}

/// Memory becomes free for the rest of the old pod, but not for a new one: the rollout ends where it began. Once with
/// a template of the small size, once with one of the large size, whose pod was resized since.
fn reverts_a_rollout_when_a_resize_becomes_possible(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    let made_at = |size: &str, level: &str| -> Result<()> {
        let old = pod(client)?;
        patch_spec(client, json!({"metricsCore": {"logLevel": level}}))?;
        only_pod(client, TIMEOUT, |pod| pod["metadata"]["uid"] != old["metadata"]["uid"])?;
        let memory = &template(client)?["spec"]["containers"][0]["resources"]["requests"]["memory"];
        check!(memory == size, "the template has {memory}");
        Ok(())
    };
    made_at(SMALL, "Debug")?;
    in_vain(env)?;
    made_at(LARGE, "Info")?;
    remove_nodes(client)?;
    wait_for_memory(client, SMALL, DOWN + PROMPT + PROMPT)?;
    in_vain(env)?;
    settle(client)
}

fn in_vain(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let (before, template_before) = (pod(client)?, template(client)?);
    let much = fill(env, LITTLE)?;
    without_failed_requests(env, || {
        add_nodes(client)?;
        deferred(client)?;
        new_pod_waits(client, &before)?;
        let less = json!({"spec": {"containers": [
            {"name": "filler", "resources": {"requests": {"memory": format!("{}Mi", much - SOME)}}}]}});
        let namespace = env.namespace()?;
        let resize = ["-n", namespace, "patch", "pod", "filler", "--subresource", "resize", "-p"];
        client.run(&[&resize[..], &[&less.to_string()]].concat())?;
        let began = Instant::now();
        let after = only_pod(client, TRIED_AGAIN, |pod| resources(pod)["requests"]["memory"] == LARGE)?;
        check_same_pod(&before, &after)?;
        let (after, _) = wait_for_memory(client, LARGE, MINUTE)?;
        check_same_pod(&before, &after)?;
        await_condition(client, "Sized", "True", "AsExpected", MINUTE)?;
        await_condition(client, "DeploymentAvailable", "True", "AsExpected", MINUTE)?;
        env.progress.say(format!("in place {:.1} s after some room came", began.elapsed().as_secs_f64()));
        is_served(client)
    })?;
    let template_after = template(client)?;
    check!(template_after == template_before, "the template was {template_before}, and is {template_after}");
    let last = applied(client)?;
    check!(last["method"] == "InPlace" && last["to"]["memory"] == LARGE, "{last}");
    let notes = events(client, "Resized")?;
    check!(notes.iter().any(|note| note.contains("reverted")), "no event reports it: {notes:?}");
    empty(env)
}

/// The size changes during a rollout that waits for a node: old and new pods are resized in place, without a further
/// rollout.
fn resizes_in_place_during_a_rollout(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    let old = pod(client)?;
    let before = revision(client)?;
    let node = &env.own_cluster()?.node().name;
    client.run(&["cordon", node])?;
    let changed = without_failed_requests(env, || {
        patch_spec(client, json!({"metricsCore": {"logLevel": "Debug"}}))?;
        let waiting = new_pod_waits(client, &old)?;
        check!(resources(&waiting)["requests"]["memory"] == SMALL, "{}", resources(&waiting));
        add_nodes(client)?;
        let both = client.wait_for("both pods are to have the new size", UP + PROMPT, |client| {
            let pods = metrics_core_pods(client)?;
            let sizes: Vec<_> = pods.iter().map(|pod| resources(pod)["requests"]["memory"].clone()).collect();
            if sizes.len() == 2 && sizes.iter().all(|size| size == LARGE) {
                Ok(pods)
            } else {
                Err(format!("{sizes:?}").into())
            }
        })?;
        check!(both.iter().any(|pod| pod["metadata"]["uid"] == waiting["metadata"]["uid"]), "a third pod");
        let (large, _) = wait_for_memory(client, LARGE, PROMPT)?;
        check_same_pod(&old, &large)?;
        client.run(&["uncordon", node])?;
        let is_new = |pod: &Value| pod["metadata"]["uid"] == waiting["metadata"]["uid"];
        let new = only_pod(client, TIMEOUT, is_new)?;
        let (after, _) = wait_for_memory(client, LARGE, PROMPT)?;
        check_same_pod(&new, &after)?;
        is_served(client)
    });
    // Whatever happened: the following scenarios need the node.
    client.run(&["uncordon", node])?;
    changed?;
    let after = revision(client)?;
    check!(after == before + 1, "{} rollouts instead of one", after - before);
    let memory = &template(client)?["spec"]["containers"][0]["resources"]["requests"]["memory"];
    check!(memory == SMALL, "the template changed after the rollout had begun: {memory}");
    await_condition(client, "Sized", "True", "AsExpected", MINUTE)?;
    settle(client)
}

/// Returns the longest time without a response, and the messages of DeploymentAvailable, while `work` runs.
fn longest_gap(env: &TestEnv, work: impl FnOnce() -> Result<()>) -> Result<(Duration, Vec<String>)> {
    let (done, client) = (Arc::new(AtomicBool::new(false)), env.client.clone());
    let over = Arc::clone(&done);
    let asking = thread::spawn(move || {
        let (mut longest, mut said) = (Duration::ZERO, Vec::new());
        let mut last = Instant::now();
        while !over.load(Ordering::Relaxed) {
            if client.run(&["top", "pods", "-A"]).is_ok() {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            let object = client.get(&["mpl", pipeline::NAME]).unwrap_or_default();
            let now = condition(&object, "DeploymentAvailable").cloned().unwrap_or_default();
            let now = format!("{} {}: {}", now["status"], now["reason"], now["message"]);
            if said.last() != Some(&now) {
                said.push(now);
            }
            thread::sleep(Duration::from_millis(500));
        }
        (longest.max(last.elapsed()), said)
    });
    let result = work();
    done.store(true, Ordering::Relaxed);
    let seen = asking.join().map_err(|_| failed("the requesting thread panicked".into()))?;
    result?;
    Ok(seen)
}

/// The port is the node's and there is one node: the old pod is deleted first, once this is known to be necessary,
/// and the condition reports it.
fn rollout_with_a_host_port_deletes_the_old_pod_first(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    without_failed_requests(env, || {
        patch_spec(client, json!({"metricsCore": {"scheduling": {"hostNetwork": true}}}))?;
        only_pod(client, TIMEOUT, |pod| pod["spec"]["hostNetwork"] == true)?;
        is_served(client)
    })?;
    let old = pod(client)?;
    let (gap, said) = longest_gap(env, || {
        patch_spec(client, json!({"metricsCore": {"logLevel": "Debug"}}))?;
        new_pod_waits(client, &old)?;
        // Not at once: another node may have the port free, or may soon.
        stays(client, &old, Duration::from_secs(3))?;
        only_pod(client, TIMEOUT, |pod| pod["metadata"]["uid"] != old["metadata"]["uid"])?;
        is_served(client)
    })?;
    let is_told = |said: &String| {
        said.contains("hostNetwork") && said.contains("no metrics until the new one is ready")
    };
    check!(said.iter().any(is_told), "the interruption is not reported: {said:#?}");
    check!(gap < MINUTE, "no response for {gap:?}");
    client.wait_for("the next rollout surges again", MINUTE, |client| {
        let now = surge(client)?;
        if now == json!({"maxSurge": 1, "maxUnavailable": 0}) { Ok(()) } else { Err(now.to_string().into()) }
    })?;
    env.progress.say(format!(
        "a rollout with a host port on one node: {:.1} s without a response",
        gap.as_secs_f64()
    ));
    without_failed_requests(env, || settle(client))
}

/// The node has no memory for the new size: giving up the port would not help, so the old pod stays.
fn keeps_the_old_pod_if_a_free_port_would_not_help(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    patch_spec(client, json!({"metricsCore": {"scheduling": {"hostNetwork": true}}}))?;
    let before = only_pod(client, TIMEOUT, |pod| pod["spec"]["hostNetwork"] == true)?;
    is_served(client)?;
    fill(env, LITTLE)?;
    without_failed_requests(env, || {
        add_nodes(client)?;
        deferred(client)?;
        new_pod_waits(client, &before)?;
        stays(client, &before, Duration::from_secs(30))?;
        let named = await_condition(client, "DeploymentAvailable", "True", "Unschedulable", MINUTE)?;
        check!(named.contains("hostNetwork") && named.contains("free ports"), "{named}");
        check!(named.contains("No previous replica is terminated"), "{named}");
        env.progress.say(&named);
        empty(env)?;
        let after = only_pod(client, TRIED_AGAIN, |pod| resources(pod)["requests"]["memory"] == LARGE)?;
        check_same_pod(&before, &after)?;
        await_condition(client, "Sized", "True", "AsExpected", MINUTE)?;
        is_served(client)
    })?;
    settle(client)
}
