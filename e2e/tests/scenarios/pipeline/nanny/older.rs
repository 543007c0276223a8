//! A cluster whose kube-apiserver cannot resize pods, as before Kubernetes 1.33.
//!
//! The same kube-apiserver emulates 1.34 (`--emulated-version`), in which in-place resize is still a feature that can
//! be disabled. Without it there is no subresource `pods/resize` and none of its fields, as by default until 1.32.
//! The kubelet is the current one.

use std::time::{Duration, Instant};

use e2e::suite::{Needs, Suite, TestEnv};
use e2e::testbed::cluster::FlagChange;
use e2e::{Result, check};

use super::{
    DOWN, LARGE, SMALL, TIMEOUT, add_nodes, applied, await_condition, check_same_pod, events, is_served,
    only_pod, pod, remove_nodes, resources, revision, without_failed_requests,
};

pub(super) fn add(suite: &mut Suite, prepare: fn(&TestEnv) -> Result<()>) {
    let flags = vec![
        FlagChange::set("emulated-version", "1.34"),
        FlagChange::set("feature-gates", "InPlacePodVerticalScaling=false"),
    ];
    let group = suite.group_with("nanny-older", flags, Some(prepare));
    suite.add(
        &group,
        "creates_new_pods_without_in_place_resize",
        Needs::Alone,
        creates_new_pods_without_in_place_resize,
    );
}

fn creates_new_pods_without_in_place_resize(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let version = client.raw_json("/version")?;
    let api = client.raw_json("/api/v1")?;
    let known = api["resources"].as_array().into_iter().flatten();
    check!(known.clone().any(|resource| resource["name"] == "pods/eviction"), "no discovery: {api}");
    check!(!known.clone().any(|resource| resource["name"] == "pods/resize"), "it can resize pods: {version}");
    let small = |pod: &serde_json::Value| resources(pod)["requests"]["memory"] == SMALL;
    let before = only_pod(client, TIMEOUT, small)?;
    let first = revision(client)?;
    without_failed_requests(env, || {
        add_nodes(client)?;
        let began = Instant::now();
        let says = await_condition(client, "Sized", "False", "ResizeRejected", TIMEOUT)?;
        check!(says.contains("pods/resize") && says.contains("New pods are created instead"), "{says}");
        env.progress.say(&says);
        let is_new_and_large = |pod: &serde_json::Value| {
            pod["metadata"]["uid"] != before["metadata"]["uid"]
                && resources(pod)["requests"]["memory"] == LARGE
        };
        only_pod(client, TIMEOUT, is_new_and_large)?;
        let took = began.elapsed();
        await_condition(client, "Sized", "True", "AsExpected", TIMEOUT)?;
        env.progress.say(format!("the new pod alone {:.1} s after the nodes came", took.as_secs_f64()));
        is_served(client)
    })?;
    check!(revision(client)? == first + 1, "{} rollouts instead of one", revision(client)? - first);
    let last = applied(client)?;
    check!(last["method"] == "Rollout" && last["from"]["memory"] == SMALL, "{last}");
    check!(last["to"]["memory"] == LARGE, "{last}");
    let refused = events(client, "ResizeRejected")?;
    check!(refused.iter().any(|note| note.contains("pods/resize")), "no event has the reason: {refused:?}");
    let resized = events(client, "Resized")?;
    let is_told = |note: &String| note.contains("by a rollout") && note.contains("pods/resize");
    check!(resized.iter().any(is_told), "no event has the method: {resized:?}");

    // A smaller size is no reason for new pods: it is applied with the next rollout, and reported.
    let large = pod(client)?;
    remove_nodes(client)?;
    let says = await_condition(client, "Sized", "True", "ResizeRejected", DOWN + TIMEOUT)?;
    check!(says.contains("The next rollout applies the smaller size"), "{says}");
    std::thread::sleep(Duration::from_secs(10));
    check_same_pod(&large, &pod(client)?)?;
    check!(revision(client)? == first + 1, "a rollout to shrink");
    super::patch_spec(client, serde_json::json!({"metricsCore": {"logLevel": "Debug"}}))?;
    only_pod(client, TIMEOUT, small)?;
    await_condition(client, "Sized", "True", "AsExpected", TIMEOUT)?;
    is_served(client)
}
