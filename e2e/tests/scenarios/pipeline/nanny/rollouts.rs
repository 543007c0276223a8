//! Where a size can't be had in place, or not yet: it waits for room, or new pods take over, and no old pod goes for
//! one that can't take its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::images::BUSYBOX;
use e2e::scenario::{Group, Needs, Stand, Suite, failed};
use e2e::{Client, Result, check, pipeline};
use serde_json::{Value, json};

use super::{
    DOWN, LARGE, MINUTE, PATIENCE, PROMPT, SMALL, UP, add_nodes, applied, check_same_pod, condition, events,
    is_served, only_pod, patch, pod, pods, remove_nodes, resources, revision, settle, template, told,
    wait_for_memory, while_answering,
};

/// So much of the node is left free, in MiB: too little for the rest of the large size, which is 68.
const LITTLE: u64 = 40;
/// How much more makes room for that rest, but not for a whole new pod of 128.
const SOME: u64 = 60;
/// So long the operator waits for room before it makes new pods, and notices that it has waited.
const WAITED: Duration = Duration::from_secs(60 + 30);
/// A kubelet tries again what it deferred when a pod goes, and every now and then.
const TRIED_AGAIN: Duration = Duration::from_secs(210);

pub fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "a_deferred_size_waits_for_room", Needs::Alone, a_deferred_size_waits_for_room);
    suite.add(group, "what_stays_deferred_gets_new_pods", Needs::Alone, what_stays_deferred_gets_new_pods);
    suite.add(group, "new_pods_in_vain_are_taken_back", Needs::Alone, new_pods_in_vain_are_taken_back);
    suite.add(
        group,
        "a_size_that_changes_in_a_rollout_is_in_place",
        Needs::Alone,
        a_size_that_changes_in_a_rollout_is_in_place,
    );
    suite.add(group, "a_port_of_the_node_is_handed_over", Needs::Alone, a_port_of_the_node_is_handed_over);
    suite.add(
        group,
        "on_the_nodes_network_no_pod_goes_in_vain",
        Needs::Alone,
        on_the_nodes_network_no_pod_goes_in_vain,
    );
}

/// An amount of memory in MiB, rounded down.
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

/// A pod that asks for all that is free of the node's memory but so many MiB; how much it asks for. It is more
/// critical than metrics-core, or the kubelet would end it to make room.
fn fill(stand: &Stand, leave: u64) -> Result<u64> {
    let (client, node) = (&stand.client, &stand.ours()?.node().name);
    let allocatable = client.get(&["node", node])?["status"]["allocatable"]["memory"].clone();
    let selector = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    let there = client.get(&["pods", "-A", "--field-selector", &selector])?;
    let mut asked = 0;
    for pod in there["items"].as_array().into_iter().flatten() {
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            asked += mebi(&container["resources"]["requests"]["memory"])?;
        }
    }
    let much = mebi(&allocatable)?.saturating_sub(asked + leave);
    let namespace = stand.namespace()?;
    let filler = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler", "namespace": namespace},
        "spec": {"priorityClassName": "system-node-critical", "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "filler", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["/bin/sleep", "3600"],
            "resources": {"requests": {"memory": format!("{much}Mi")}}}]}});
    client.apply(&filler.to_string())?;
    client.wait_for_condition(&["-n", namespace, "pod", "filler"], "Ready", "True", MINUTE)?;
    Ok(much)
}

/// Takes the filler away.
fn empty(stand: &Stand) -> Result<()> {
    stand.client.delete(&["-n", stand.namespace()?, "pod", "filler"])?;
    Ok(())
}

/// Waits until it is said that the kubelet has no room; its words.
fn deferred(client: &Client) -> Result<String> {
    let says = told(client, "Sized", "False", "ResizeDeferred", UP + MINUTE)?;
    check!(says.contains("the kubelet reports") && says.contains("memory"), "no evidence: {says}");
    check!(says.contains("spec.nanny.max"), "no remedy: {says}");
    Ok(says)
}

/// Waits until a new pod stands beside the old one, and can't be placed.
fn new_pod_waits(client: &Client, old: &Value) -> Result<Value> {
    client.wait_for("a new pod waits for a place", WAITED, |client| {
        let pods = pods(client)?;
        let new = pods.iter().find(|pod| pod["metadata"]["uid"] != old["metadata"]["uid"]);
        let placed = new.and_then(|pod| condition(pod, "PodScheduled"));
        match (new, placed) {
            (Some(new), Some(placed)) if placed["status"] == "False" => Ok(new.clone()),
            _ => Err(format!("{} pods, {placed:?}", pods.len()).into()),
        }
    })
}

/// For so long the old pod serves on, and nothing takes it down.
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

/// The room comes within the minute: the kubelet does what it had put off.
fn a_deferred_size_waits_for_room(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let (before, template_before) = (pod(client)?, template(client)?);
    fill(stand, LITTLE)?;
    while_answering(stand, || {
        add_nodes(client)?;
        let says = deferred(client)?;
        check!(says.contains("waits 60 s"), "{says}");
        stand.progress.say(&says);
        stays(client, &before, Duration::from_secs(10))?;
        let has = &pod(client)?["status"]["containerStatuses"][0]["resources"]["requests"]["memory"];
        check!(has == SMALL, "it has {has} already");
        empty(stand)?;
        let (after, took) = wait_for_memory(client, LARGE, MINUTE)?;
        check_same_pod(&before, &after)?;
        told(client, "Sized", "True", "AsExpected", MINUTE)?;
        stand.progress.say(format!("{:.1} s after the room came", took.as_secs_f64()));
        Ok(())
    })?;
    check!(template(client)? == template_before, "the template changed");
    let applied = applied(client)?;
    check!(applied["method"] == "InPlace" && applied["to"]["memory"] == LARGE, "{applied}");
    check!(!events(client, "ResizeDeferred")?.is_empty(), "no event tells of it");
    settle(client)
}

/// No room comes: new pods are made, which find none either; the old one serves until one of them does.
fn what_stays_deferred_gets_new_pods(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let before = pod(client)?;
    fill(stand, LITTLE)?;
    while_answering(stand, || {
        add_nodes(client)?;
        deferred(client)?;
        let began = Instant::now();
        let new = new_pod_waits(client, &before)?;
        let waited = began.elapsed();
        check!(waited > Duration::from_secs(45), "it waited only {waited:?} for room");
        check!(resources(&new)["requests"]["memory"] == LARGE, "{}", resources(&new));
        // The rollout that does not go on is named, and takes nothing down.
        let named = told(client, "DeploymentAvailable", "True", "Unschedulable", MINUTE)?;
        check!(named.contains("Insufficient memory"), "no evidence: {named}");
        let says = deferred(client)?;
        check!(says.contains("New pods are created instead"), "{says}");
        stays(client, &before, Duration::from_secs(15))?;
        check!(surge(client)? == json!({"maxSurge": 1, "maxUnavailable": 0}), "{}", surge(client)?);
        let last = applied(client)?;
        check!(last["method"] == "Rollout" && last["from"]["memory"] == SMALL, "{last}");
        let notes = events(client, "Resized")?;
        let is_told = |note: &String| note.contains("by a rollout") && note.contains("the kubelet reports");
        check!(notes.iter().any(is_told), "no event tells of it: {notes:?}");
        empty(stand)?;
        only_pod(client, PATIENCE, |pod| resources(pod)["requests"]["memory"] == LARGE)?;
        wait_for_memory(client, LARGE, MINUTE)?;
        told(client, "Sized", "True", "AsExpected", MINUTE)?;
        told(client, "DeploymentAvailable", "True", "AsExpected", MINUTE)?;
        stand.progress.say(format!("new pods {:.0} s after it was deferred", waited.as_secs_f64()));
        is_served(client)
    })?;
    settle(client)
}

/// Room comes for the rest of the old pod, but not for a new one: the rollout ends where it began. Once with a template
/// of the small size, once with one of the large size, whose pod was resized since.
fn new_pods_in_vain_are_taken_back(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let made_at = |size: &str, level: &str| -> Result<()> {
        let old = pod(client)?;
        patch(client, json!({"metricsCore": {"logLevel": level}}))?;
        only_pod(client, PATIENCE, |pod| pod["metadata"]["uid"] != old["metadata"]["uid"])?;
        let memory = &template(client)?["spec"]["containers"][0]["resources"]["requests"]["memory"];
        check!(memory == size, "the template has {memory}");
        Ok(())
    };
    made_at(SMALL, "Debug")?;
    in_vain(stand)?;
    made_at(LARGE, "Info")?;
    remove_nodes(client)?;
    wait_for_memory(client, SMALL, DOWN + PROMPT + PROMPT)?;
    in_vain(stand)?;
    settle(client)
}

fn in_vain(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    let (before, template_before) = (pod(client)?, template(client)?);
    let much = fill(stand, LITTLE)?;
    while_answering(stand, || {
        add_nodes(client)?;
        deferred(client)?;
        new_pod_waits(client, &before)?;
        let less = json!({"spec": {"containers": [
            {"name": "filler", "resources": {"requests": {"memory": format!("{}Mi", much - SOME)}}}]}});
        let namespace = stand.namespace()?;
        let resize = ["-n", namespace, "patch", "pod", "filler", "--subresource", "resize", "-p"];
        client.run(&[&resize[..], &[&less.to_string()]].concat())?;
        let began = Instant::now();
        let after = only_pod(client, TRIED_AGAIN, |pod| resources(pod)["requests"]["memory"] == LARGE)?;
        check_same_pod(&before, &after)?;
        let (after, _) = wait_for_memory(client, LARGE, MINUTE)?;
        check_same_pod(&before, &after)?;
        told(client, "Sized", "True", "AsExpected", MINUTE)?;
        told(client, "DeploymentAvailable", "True", "AsExpected", MINUTE)?;
        stand.progress.say(format!("in place {:.1} s after some room came", began.elapsed().as_secs_f64()));
        is_served(client)
    })?;
    let template_after = template(client)?;
    check!(template_after == template_before, "the template was {template_before}, and is {template_after}");
    let last = applied(client)?;
    check!(last["method"] == "InPlace" && last["to"]["memory"] == LARGE, "{last}");
    let notes = events(client, "Resized")?;
    check!(notes.iter().any(|note| note.contains("reverted")), "no event tells of it: {notes:?}");
    empty(stand)
}

/// The size changes while a rollout is under way, which waits for a node: old and new pods get it in place, by no
/// further rollout.
fn a_size_that_changes_in_a_rollout_is_in_place(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    let old = pod(client)?;
    let before = revision(client)?;
    let node = &stand.ours()?.node().name;
    client.run(&["cordon", node])?;
    let changed = while_answering(stand, || {
        patch(client, json!({"metricsCore": {"logLevel": "Debug"}}))?;
        let waiting = new_pod_waits(client, &old)?;
        check!(resources(&waiting)["requests"]["memory"] == SMALL, "{}", resources(&waiting));
        add_nodes(client)?;
        let both = client.wait_for("both pods are to have the new size", UP + PROMPT, |client| {
            let pods = pods(client)?;
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
        let new = only_pod(client, PATIENCE, is_new)?;
        let (after, _) = wait_for_memory(client, LARGE, PROMPT)?;
        check_same_pod(&new, &after)?;
        is_served(client)
    });
    // Whatever came of it: the scenarios behind this one need the node.
    client.run(&["uncordon", node])?;
    changed?;
    let after = revision(client)?;
    check!(after == before + 1, "{} rollouts instead of one", after - before);
    let memory = &template(client)?["spec"]["containers"][0]["resources"]["requests"]["memory"];
    check!(memory == SMALL, "the template changed after the rollout had begun: {memory}");
    told(client, "Sized", "True", "AsExpected", MINUTE)?;
    settle(client)
}

/// The longest time without an answer, and what DeploymentAvailable said, while `work` is done.
fn longest_gap(stand: &Stand, work: impl FnOnce() -> Result<()>) -> Result<(Duration, Vec<String>)> {
    let (done, client) = (Arc::new(AtomicBool::new(false)), stand.client.clone());
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
    let seen = asking.join().map_err(|_| failed("the asking thread panicked".into()))?;
    result?;
    Ok(seen)
}

/// The port is the node's and there is one node: the old pod goes first, when that is sure, and it is said.
fn a_port_of_the_node_is_handed_over(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    while_answering(stand, || {
        patch(client, json!({"metricsCore": {"scheduling": {"hostNetwork": true}}}))?;
        only_pod(client, PATIENCE, |pod| pod["spec"]["hostNetwork"] == true)?;
        is_served(client)
    })?;
    let old = pod(client)?;
    let (gap, said) = longest_gap(stand, || {
        patch(client, json!({"metricsCore": {"logLevel": "Debug"}}))?;
        new_pod_waits(client, &old)?;
        // Not at once: another node may have the port free, or get it.
        stays(client, &old, Duration::from_secs(3))?;
        only_pod(client, PATIENCE, |pod| pod["metadata"]["uid"] != old["metadata"]["uid"])?;
        is_served(client)
    })?;
    let is_told = |said: &String| {
        said.contains("hostNetwork") && said.contains("no metrics until the new one is ready")
    };
    check!(said.iter().any(is_told), "the pause is not told of: {said:#?}");
    check!(gap < MINUTE, "no answer for {gap:?}");
    client.wait_for("the next rollout surges again", MINUTE, |client| {
        let now = surge(client)?;
        if now == json!({"maxSurge": 1, "maxUnavailable": 0}) { Ok(()) } else { Err(now.to_string().into()) }
    })?;
    stand
        .progress
        .say(format!("a rollout on one node's network: {:.1} s without an answer", gap.as_secs_f64()));
    while_answering(stand, || settle(client))
}

/// The node has no room for the new size: giving up the port would not help, so the old pod stays.
fn on_the_nodes_network_no_pod_goes_in_vain(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    settle(client)?;
    patch(client, json!({"metricsCore": {"scheduling": {"hostNetwork": true}}}))?;
    let before = only_pod(client, PATIENCE, |pod| pod["spec"]["hostNetwork"] == true)?;
    is_served(client)?;
    fill(stand, LITTLE)?;
    while_answering(stand, || {
        add_nodes(client)?;
        deferred(client)?;
        new_pod_waits(client, &before)?;
        stays(client, &before, Duration::from_secs(30))?;
        let named = told(client, "DeploymentAvailable", "True", "Unschedulable", MINUTE)?;
        check!(named.contains("hostNetwork") && named.contains("free ports"), "{named}");
        check!(named.contains("No previous replica is terminated"), "{named}");
        stand.progress.say(&named);
        empty(stand)?;
        let after = only_pod(client, TRIED_AGAIN, |pod| resources(pod)["requests"]["memory"] == LARGE)?;
        check_same_pod(&before, &after)?;
        told(client, "Sized", "True", "AsExpected", MINUTE)?;
        is_served(client)
    })?;
    settle(client)
}
