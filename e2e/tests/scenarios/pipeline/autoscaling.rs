//! The HorizontalPodAutoscaler with the metrics of metrics-core.

use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv};
use e2e::testbed::images::BUSYBOX;
use e2e::wait::Pending;
use e2e::{Result, check};
use serde_json::json;

use super::{LOAD, TIMEOUT};

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "hpa_scales_a_busy_deployment", Needs::OurCluster, hpa_scales_a_busy_deployment);
    suite.add(
        group,
        "hpa_reads_cpu_and_memory_of_new_pods",
        Needs::OurCluster,
        hpa_reads_cpu_and_memory_of_new_pods,
    );
}

fn hpa_scales_a_busy_deployment(env: &TestEnv) -> Result<()> {
    env.client.wait_for("the HPA scaled the busy Deployment to 2", TIMEOUT, |client| {
        let hpa = client.get(&["-n", LOAD, "hpa", "busy"])?;
        let deployment = client.get(&["-n", LOAD, "deployment", "busy"])?;
        match (deployment["status"]["readyReplicas"].as_u64(), &hpa["status"]["currentMetrics"]) {
            (Some(2), metrics) if metrics.is_array() => Ok(()),
            (ready, _) => Err(Pending(format!("{ready:?} ready; {}", hpa["status"]))),
        }
    })
}

/// Two containers with memory far above its target and CPU far below: memory decides from the first samples on.
fn hpa_reads_cpu_and_memory_of_new_pods(env: &TestEnv) -> Result<()> {
    let namespace = env.namespace()?;
    let container = |name: &str| {
        json!({
            "name": name,
            "image": BUSYBOX,
            "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-c", "while :; do sleep 0.5; done"],
            "resources": {"requests": {"cpu": "100m", "memory": "8Mi"}, "limits": {"cpu": "100m", "memory": "16Mi"}},
        })
    };
    let metric =
        |name: &str, target| json!({"type": "Resource", "resource": {"name": name, "target": target}});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "fresh", "namespace": namespace},
         "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "fresh"}},
            "template": {
                "metadata": {"labels": {"app": "fresh"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container("one"), container("two")]},
            },
         }},
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
         "metadata": {"name": "fresh", "namespace": namespace},
         "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fresh"},
            "minReplicas": 1, "maxReplicas": 2,
            "metrics": [
                metric("cpu", json!({"type": "Utilization", "averageUtilization": 95})),
                metric("memory", json!({"type": "AverageValue", "averageValue": "64Ki"})),
            ],
         }},
    ]});
    env.client.apply(&objects.to_string())?;
    let status = env.client.wait_for("the HPA scaled on memory and knows the CPU", TIMEOUT, |client| {
        let status = client.get(&["-n", namespace, "hpa", "fresh"])?["status"].clone();
        let of = |name: &str| {
            let metrics = status["currentMetrics"].as_array().into_iter().flatten();
            metrics.map(|metric| &metric["resource"]).find(|resource| resource["name"] == name).cloned()
        };
        match (of("cpu"), of("memory"), status["currentReplicas"].as_u64()) {
            (Some(cpu), Some(memory), Some(2))
                if cpu["current"]["averageUtilization"].is_u64()
                    && memory["current"]["averageValue"].is_string() =>
            {
                Ok(status)
            }
            _ => Err(Pending(status.to_string())),
        }
    })?;
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let active = conditions.iter().find(|condition| condition["type"] == "ScalingActive");
    check!(active.is_some_and(|active| active["status"] == "True"), "ScalingActive: {status}");
    let utilization = status["currentMetrics"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|metric| metric["resource"]["current"]["averageUtilization"].as_u64());
    check!(utilization.is_some_and(|percent| percent < 60), "two containers that sleep: {status}");
    Ok(())
}
