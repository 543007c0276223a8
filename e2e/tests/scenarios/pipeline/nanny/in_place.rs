//! Sizes that are applied in place.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use e2e::suite::{Group, Needs, Suite, TestEnv};
use e2e::testbed::images::BUSYBOX;
use e2e::testbed::pipeline;
use e2e::{Result, check};
use serde_json::{Value, json};

use super::{
    DOWN, LARGE, MINUTE, PROMPT, SMALL, TIMEOUT, UP, add_nodes, check_same_pod, condition, events, is_served,
    metrics_core, metrics_core_pods, only_pod, operator, patch_spec, pod, remove_nodes, resources, revision,
    settle, template, wait_for_memory, without_failed_requests,
};

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "resizes_in_place_with_the_number_of_nodes",
        Needs::Alone,
        resizes_in_place_with_the_number_of_nodes,
    );
    suite.add(group, "resizes_a_new_pod_immediately", Needs::Alone, resizes_a_new_pod_immediately);
    suite.add(group, "restarted_operator_resizes", Needs::Alone, restarted_operator_resizes);
    suite.add(
        group,
        "rollout_applies_the_size_to_the_template",
        Needs::Alone,
        rollout_applies_the_size_to_the_template,
    );
    suite.add(group, "limits_follow_requests", Needs::Alone, limits_follow_requests);
    suite.add(
        group,
        "resizes_in_place_with_the_number_of_containers",
        Needs::Alone,
        resizes_in_place_with_the_number_of_containers,
    );
    suite.add(group, "infeasible_size_disturbs_no_pod", Needs::Alone, infeasible_size_disturbs_no_pod);
    suite.add(
        group,
        "reverts_a_foreign_resize_once_then_reports_it",
        Needs::Alone,
        reverts_a_foreign_resize_once_then_reports_it,
    );
}

fn resizes_in_place_with_the_number_of_nodes(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    let (before, template_before) = (pod(client)?, template(client)?);
    without_failed_requests(env, || {
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
        env.progress.say(format!(
            "larger {:.1} s after the last node came (of which {} s delay), smaller {:.1} s after the last one went (of {} s)",
            up.as_secs_f64(), UP.as_secs(), down.as_secs_f64(), DOWN.as_secs()
        ));
        Ok(())
    })?;
    check!(template(client)? == template_before, "the template changed for a resize alone");
    let events = client.run(&["get", "events", "-A", "--field-selector", "reason=Resized", "-o", "name"])?;
    check!(!events.is_empty(), "no event reports it");
    is_served(client)
}

fn resizes_a_new_pod_immediately(env: &TestEnv) -> Result<()> {
    let client = &env.client;
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

fn restarted_operator_resizes(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    let before = pod(client)?;
    without_failed_requests(env, || {
        add_nodes(client)?;
        thread::sleep(Duration::from_secs(2));
        let [name, _, _] = operator(client)?;
        client.run(&["-n", pipeline::NAMESPACE, "delete", "pod", &name, "--grace-period=0", "--force"])?;
        let (after, _) = wait_for_memory(client, LARGE, MINUTE)?;
        check_same_pod(&before, &after)?;
        // Again after everything settled: the operator must remember its decision and change nothing.
        is_served(client)?;
        let [name, _, _] = operator(client)?;
        client.run(&["-n", pipeline::NAMESPACE, "delete", "pod", &name, "--grace-period=0", "--force"])?;
        is_served(client)?;
        let (after, _) = wait_for_memory(client, LARGE, MINUTE)?;
        check_same_pod(&before, &after)
    })?;
    settle(client)
}

fn rollout_applies_the_size_to_the_template(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    add_nodes(client)?;
    wait_for_memory(client, LARGE, UP + PROMPT)?;
    let before = revision(client)?;
    without_failed_requests(env, || {
        patch_spec(client, json!({"metricsCore":{"logLevel":"Debug"}}))?;
        client.wait_for("the rollout is done with the new size", TIMEOUT, |client| {
            let memory =
                template(client)?["spec"]["containers"][0]["resources"]["requests"]["memory"].clone();
            let pods = metrics_core_pods(client)?.len();
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
    patch_spec(client, json!({"metricsCore":{"logLevel":"Info"}}))?;
    is_served(client)?;
    settle(client)
}

fn infeasible_size_disturbs_no_pod(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    let before = pod(client)?;
    without_failed_requests(env, || {
        patch_spec(client, json!({"nanny":{"min":{"memory":"1000Gi"}}}))?;
        let object = client.wait_for_condition(&["mpl", pipeline::NAME], "Sized", "False", MINUTE)?;
        let sized = condition(&object, "Sized").cloned().unwrap_or_default();
        check!(sized["reason"] == "ResizeInfeasible", "{sized}");
        check!(
            sized["message"].as_str().unwrap_or_default().contains("spec.nanny.max"),
            "no remedy: {sized}"
        );
        // New pods are created, which no node can hold either; the old one keeps serving.
        thread::sleep(Duration::from_secs(5));
        let served = client.get(&["mpl", pipeline::NAME])?;
        check!(
            condition(&served, "Ready").is_some_and(|ready| ready["status"] == "True"),
            "{}",
            served["status"]
        );
        check_same_pod(&before, &pod(client)?)?;
        patch_spec(client, json!({"nanny":{"min":null}}))?;
        client.wait_for_condition(&["mpl", pipeline::NAME], "Sized", "True", MINUTE)?;
        client.wait_for("one pod is left", TIMEOUT, |client| match metrics_core_pods(client)?.len() {
            1 => Ok(()),
            pods => Err(format!("{pods} pods").into()),
        })?;
        wait_for_memory(client, SMALL, MINUTE)?;
        is_served(client)
    })
}

fn reverts_a_foreign_resize_once_then_reports_it(env: &TestEnv) -> Result<()> {
    let client = &env.client;
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
    // A new pod, so that the operator has set its size itself.
    add_nodes(client)?;
    wait_for_memory(client, LARGE, UP + PROMPT)?;
    let before = cpu()?;
    by_hand("90m")?;
    client.wait_for("it is reverted once", MINUTE, |_| {
        let now = cpu()?;
        if now == before { Ok(()) } else { Err(now.to_string().into()) }
    })?;
    by_hand("91m")?;
    let object = client.wait_for("it is reported and not reverted", MINUTE, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        match condition(&object, "Sized") {
            Some(sized) if sized["reason"] == "ResourcesConflict" => Ok(object),
            _ => Err(object["status"].to_string().into()),
        }
    })?;
    // This is no fault; that most nodes have no address is one.
    let why = condition(&object, "Ready").map(|ready| ready["reason"].clone()).unwrap_or_default();
    check!(why == "KubeletAddressMissing", "{}", object["status"]);
    thread::sleep(Duration::from_secs(5));
    check!(cpu()? == "91m", "it was reverted again: {}", cpu()?);
    // Another size resets it.
    settle(client)
}

/// `limits: Same`: the QoS class changes by a rollout; afterwards requests and limits are resized in place.
fn limits_follow_requests(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    settle(client)?;
    let is_guaranteed = |pod: &Value| pod["status"]["qosClass"] == "Guaranteed";
    let is_same = |pod: &Value| {
        let resources = resources(pod);
        ["cpu", "memory"].iter().all(|of| resources["limits"][of] == resources["requests"][of])
    };
    let burstable = pod(client)?;
    check!(burstable["status"]["qosClass"] == "Burstable", "{}", burstable["status"]);
    let before = revision(client)?;
    without_failed_requests(env, || {
        patch_spec(client, json!({"nanny": {"limits": "Same"}}))?;
        let fresh = only_pod(client, TIMEOUT, is_guaranteed)?;
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
        check!(really == new, "the kubelet reports {really} instead of {new}");
        remove_nodes(client)?;
        let (small, _) = wait_for_memory(client, SMALL, DOWN + PROMPT)?;
        check_same_pod(&fresh, &small)?;
        check!(is_same(&small) && is_guaranteed(&small), "{}", resources(&small));
        is_served(client)?;
        patch_spec(client, json!({"nanny": {"limits": null}}))?;
        let back = only_pod(client, TIMEOUT, |pod| pod["status"]["qosClass"] == "Burstable")?;
        check!(resources(&back)["limits"]["cpu"].is_null(), "{}", resources(&back));
        is_served(client)?;
        env.progress.say(format!("Guaranteed: {old} became {new} in {:.1} s, in place", up.as_secs_f64()));
        Ok(())
    })?;
    let after = revision(client)?;
    check!(after == before + 2, "{} rollouts instead of one each way", after - before);
    let notes = events(client, "Resized")?;
    check!(notes.iter().any(|note| note.contains("QoS class")), "no event reports the rollout: {notes:?}");
    settle(client)
}

/// `scalingMode: ContainerProportional`: the size depends on the number of pods.
fn resizes_in_place_with_the_number_of_containers(env: &TestEnv) -> Result<()> {
    const COPIES: u64 = 4;
    const EACH: u64 = 4;
    /// Pods are counted once a minute, when they have metrics.
    const COUNTED: Duration = Duration::from_secs(60 + 30);
    let client = &env.client;
    settle(client)?;
    let before = pod(client)?;
    let population = |object: &Value| object["status"]["nanny"]["recommendation"]["population"].as_u64();
    let namespace = env.namespace()?;
    without_failed_requests(env, || {
        patch_spec(client, json!({"nanny": {"scalingMode": "ContainerProportional"}}))?;
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
        // About three further pods: up to 22, the step of the large size.
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
        env.progress.say(format!(
            "{counted} containers: larger after {:.1} s; smaller {:.1} s after they went",
            up.as_secs_f64(),
            down.as_secs_f64()
        ));
        Ok(())
    })?;
    settle(client)
}
