//! The fake nodes and pods as objects of the API server.

use serde_json::{Value, json};

use super::super::edge_cases;
use super::{FakeNode, FakePod, PORT, pods};
use crate::error::Result;
use crate::testbed::kubectl::Client;

/// Objects to create in the API server: first the objects, then the status of each, which is a subresource.
pub(crate) struct Objects {
    items: Vec<Value>,
    statuses: Vec<Value>,
}

/// Returns the Nodes and Pods that `wanted` selects by kind and object.
#[must_use]
pub(crate) fn objects(nodes: &[FakeNode], wanted: impl Fn(&str, &Value) -> bool) -> Objects {
    let mut objects = Objects { items: Vec::new(), statuses: Vec::new() };
    let mut add = |kind: &str, metadata: Value, spec: Value, status: Value| {
        let version = |rest: Value| {
            let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
            if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
                object.extend(rest);
            }
            object
        };
        if wanted(kind, &version(json!({}))) {
            objects.items.push(version(json!({"spec": spec})));
            objects.statuses.push(version(json!({"status": status})));
        }
    };
    for node in nodes {
        let mut metadata =
            json!({"name": node.name, "labels": {"fleet": "fake", "kubernetes.io/hostname": node.name}});
        if let Some(path) = node.path {
            metadata["annotations"] = json!({"metrics.k8s.io/resource-metrics-path": path});
        }
        let status = json!({
            "addresses": [{"type": "InternalIP", "address": node.address.to_string()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Fake", "message": "",
                            "lastHeartbeatTime": "2030-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        });
        add("Node", metadata, json!({"unschedulable": true}), status);
    }
    let all = std::iter::once(("fake-a", pods())).chain(edge_cases::pods());
    for (node, FakePod(namespace, name, phase, labels, containers)) in
        all.flat_map(|(node, pods)| pods.into_iter().map(move |pod| (node, pod)))
    {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        let mut metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        if name.starts_with("mirror-") {
            // As a kubelet creates the mirror pod of a static pod.
            metadata["annotations"] =
                json!({"kubernetes.io/config.mirror": "0", "kubernetes.io/config.source": "file"});
        }
        let mut specs: Vec<_> =
            containers.iter().map(|(name, _)| json!({"name": name, "image": "none"})).collect();
        if specs.is_empty() {
            specs.push(json!({"name": "main", "image": "none"}));
        }
        let spec = json!({
            "nodeName": node, "containers": specs, "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        });
        add("Pod", metadata, spec, json!({"phase": phase}));
    }
    objects
}

impl Objects {
    /// Creates the objects, then their status.
    pub(crate) fn make(&self, client: &Client) -> Result<()> {
        let apply = ["apply", "--server-side", "--force-conflicts"];
        client.with_manifest(&apply, &list(&self.items))?;
        client.with_manifest(&[&apply[..], &["--subresource=status"]].concat(), &list(&self.statuses))?;
        Ok(())
    }

    /// Returns the objects with their status, as Nodes can be created.
    #[must_use]
    pub(crate) fn whole(&self) -> String {
        let whole = self.items.iter().zip(&self.statuses).map(|(object, status)| {
            let mut object = object.clone();
            object["status"] = status["status"].clone();
            object
        });
        list(&whole.collect::<Vec<_>>())
    }
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
