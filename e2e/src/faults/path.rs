//! Faults between kube-apiserver and the pods of metrics-core, and conflicts over the APIServices.

use serde_json::{Value, json};

use super::{Action, Fault, FaultEnv, cannot_inject};
use crate::command;
use crate::error::Result;
use crate::testbed::pipeline;

const POLICY: &str = "default-deny";
const TABLE: &str = "e2e-policy";
const API_SERVICE: &str = "v1beta1.metrics.k8s.io";
const SECOND: &str = "second";

const fn fault(
    name: &'static str,
    reason: &'static str,
    object: &'static str,
    contains: &'static [&'static str],
    inject: Action,
    repair: Action,
) -> Fault {
    Fault::new("APIServiceAvailable", name, reason, object, contains, (inject, repair))
}

/// Faults on the path to the pods.
pub const PATH: &[Fault] = &[
    fault(
        "NetworkPolicy that blocks the API server",
        "BlockedByNetworkPolicy",
        "NetworkPolicy metrics-pipeline/default-deny",
        &["4443", "kubectl edit networkpolicy default-deny"],
        |env| {
            let policy = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": POLICY, "namespace": pipeline::NAMESPACE},
                "spec": {
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "metrics-core"}},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": [{"podSelector": {}}]}],
                },
            });
            env.client.apply(&policy.to_string())?;
            // The CNI plugin here enforces no NetworkPolicy.
            drop_from_apiserver(env)
        },
        |env| {
            env.client.delete(&["-n", pipeline::NAMESPACE, "networkpolicy", POLICY])?;
            drop_nothing(env)
        },
    ),
    Fault {
        short: false,
        ..fault(
            "packets from the API server dropped without a NetworkPolicy",
            "Unreachable",
            "port 4443",
            &["NetworkPolicy is not the cause", "firewall", "hostNetwork"],
            drop_from_apiserver,
            drop_nothing,
        )
    },
    fault(
        "a foreign metrics-server owns the APIService",
        "ForeignAPIService",
        "APIService v1beta1.metrics.k8s.io",
        &["kube-system/metrics-server", "adoption"],
        |env| {
            let mut object = env.client.get(&["apiservice", API_SERVICE])?;
            object["metadata"] = json!({
                "name": API_SERVICE,
                "resourceVersion": object["metadata"]["resourceVersion"],
                "labels": {"k8s-app": "metrics-server"},
                // An empty entry clears the list (server-side apply, "Clearing managedFields").
                "managedFields": [{}],
            });
            object["spec"]["service"] =
                json!({"name": "metrics-server", "namespace": "kube-system", "port": 443});
            object["status"] = Value::Null;
            env.client.with_manifest(&["replace"], &object.to_string()).map(drop)
        },
        |env| env.client.delete(&["apiservice", API_SERVICE]).map(drop),
    ),
    Fault {
        short: false,
        pipeline: SECOND,
        condition: "Ready",
        ..fault(
            "two MetricsPipelines",
            "Conflict",
            "MetricsPipeline cluster",
            &["kubectl delete metricspipeline"],
            |env| env.client.apply(&pipeline::manifest(SECOND, &json!({}))).map(drop),
            |env| env.client.delete(&["mpl", SECOND]).map(drop),
        )
    },
];

/// Drops packets from the node itself, and so from kube-apiserver, to the Service, before the rules of kube-proxy.
/// The kubelet's probes go to the pod, as in a real network.
fn drop_from_apiserver(env: &FaultEnv<'_>) -> Result<()> {
    let service = env.client.get(&["-n", pipeline::NAMESPACE, "service", "metrics-core"])?;
    let address = service["spec"]["clusterIP"].as_str().ok_or_else(|| cannot_inject("no ClusterIP"))?;
    let table = format!(
        "table ip {TABLE} {{\nchain from-node {{\ntype filter hook output priority -200;\nip daddr {address} drop;\n}}\n}}"
    );
    command::output(env.cluster.network().command("nft").arg(table)).map(drop)
}

fn drop_nothing(env: &FaultEnv<'_>) -> Result<()> {
    let table = format!("delete table ip {TABLE}");
    command::output(env.cluster.network().command("nft").arg(table)).map(drop)
}
