//! The objects of the measurement: Deployments, their autoscalers, and the APIService.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::NAMESPACE;
use crate::testbed::images::BUSYBOX;

/// The name of the Service and EndpointSlice of the measured server.
const SERVER: &str = "measured";

/// Returns the name of a Deployment and of its autoscaler.
pub(super) fn name(number: u32) -> String {
    format!("step-{number}")
}

/// Returns the namespace, and Deployments of one pod that idles until a file exists, each with an autoscaler.
pub(super) fn workloads(count: u32) -> String {
    let mut items = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})];
    items.extend((0..count).map(name).flat_map(|name| [deployment(&name), autoscaler(&name)]));
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// The load is twice the request, so a quarter of it is seen by the autoscaler; all pods together must fit on two cores.
fn deployment(name: &str) -> Value {
    let container = json!({
        "name": "step",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "until [ -e /tmp/load ]; do sleep 0.5; done; while :; do :; done"],
        "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    });
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container],
                     "volumes": [{"name": "tmp", "emptyDir": {}}]}}},
    })
}

fn autoscaler(name: &str) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1, "maxReplicas": 2,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
    })
}

/// Returns an APIService of the Metrics API whose backend is the server at `address`.
pub(super) fn registration(address: SocketAddr) -> String {
    let metadata = json!({"name": SERVER, "namespace": NAMESPACE});
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata,
             "spec": {"ports": [{"port": 443, "targetPort": address.port()}]}},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
             "metadata": {"name": SERVER, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": SERVER}},
             "addressType": "IPv4",
             "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
             "ports": [{"port": address.port(), "protocol": "TCP"}]},
            {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
             "metadata": {"name": "v1beta1.metrics.k8s.io"},
             "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": metadata, "insecureSkipTLSVerify": true}},
        ],
    })
    .to_string()
}
