//! A cluster whose kube-apiserver can't resize pods: one of before Kubernetes 1.33.
//!
//! It is the same kube-apiserver, told to be one of 1.34 (`--emulated-version`), where in-place resize is still a
//! feature that can be turned off. Then it has no subresource `pods/resize` and knows none of its fields, as it was
//! by default until 1.32. The kubelet is that of today.

use std::time::{Duration, Instant};

use e2e::cluster::FlagChange;
use e2e::scenario::{Needs, Stand, Suite};
use e2e::{Result, check};

use super::{
    DOWN, LARGE, PATIENCE, SMALL, add_nodes, applied, check_same_pod, events, is_served, only_pod, pod,
    remove_nodes, resources, revision, told, while_answering,
};

pub fn add(suite: &mut Suite, prepare: fn(&Stand) -> Result<()>) {
    let flags = vec![
        FlagChange::set("emulated-version", "1.34"),
        FlagChange::set("feature-gates", "InPlacePodVerticalScaling=false"),
    ];
    let group = suite.group_with("nanny-older", flags, Some(prepare));
    suite.add(&group, "an_older_cluster_gets_new_pods", Needs::Alone, an_older_cluster_gets_new_pods);
}

fn an_older_cluster_gets_new_pods(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    let version = client.raw_json("/version")?;
    let api = client.raw_json("/api/v1")?;
    let known = api["resources"].as_array().into_iter().flatten();
    check!(known.clone().any(|resource| resource["name"] == "pods/eviction"), "no discovery: {api}");
    check!(!known.clone().any(|resource| resource["name"] == "pods/resize"), "it can resize pods: {version}");
    let small = |pod: &serde_json::Value| resources(pod)["requests"]["memory"] == SMALL;
    let before = only_pod(client, PATIENCE, small)?;
    let first = revision(client)?;
    while_answering(stand, || {
        add_nodes(client)?;
        let began = Instant::now();
        let says = told(client, "Sized", "False", "ResizeRejected", PATIENCE)?;
        check!(says.contains("pods/resize") && says.contains("New pods are created instead"), "{says}");
        stand.progress.say(&says);
        let is_new_and_large = |pod: &serde_json::Value| {
            pod["metadata"]["uid"] != before["metadata"]["uid"]
                && resources(pod)["requests"]["memory"] == LARGE
        };
        only_pod(client, PATIENCE, is_new_and_large)?;
        let took = began.elapsed();
        told(client, "Sized", "True", "AsExpected", PATIENCE)?;
        stand.progress.say(format!("the new pod alone {:.1} s after the nodes came", took.as_secs_f64()));
        is_served(client)
    })?;
    check!(revision(client)? == first + 1, "{} rollouts instead of one", revision(client)? - first);
    let last = applied(client)?;
    check!(last["method"] == "Rollout" && last["from"]["memory"] == SMALL, "{last}");
    check!(last["to"]["memory"] == LARGE, "{last}");
    let refused = events(client, "ResizeRejected")?;
    check!(refused.iter().any(|note| note.contains("pods/resize")), "no event tells why: {refused:?}");
    let resized = events(client, "Resized")?;
    let is_told = |note: &String| note.contains("by a rollout") && note.contains("pods/resize");
    check!(resized.iter().any(is_told), "no event tells how: {resized:?}");

    // Less is no reason for new pods: it waits for a rollout that is made anyway, and is told.
    let large = pod(client)?;
    remove_nodes(client)?;
    let says = told(client, "Sized", "True", "ResizeRejected", DOWN + PATIENCE)?;
    check!(says.contains("The next rollout applies the smaller size"), "{says}");
    std::thread::sleep(Duration::from_secs(10));
    check_same_pod(&large, &pod(client)?)?;
    check!(revision(client)? == first + 1, "a rollout to shrink");
    super::patch(client, serde_json::json!({"metricsCore": {"logLevel": "Debug"}}))?;
    only_pod(client, PATIENCE, small)?;
    told(client, "Sized", "True", "AsExpected", PATIENCE)?;
    is_served(client)
}
