//! Between kube-apiserver and the pods of metrics-core, and who owns the APIServices.

use serde_json::{Value, json};

use super::{Bench, Fault, impossible};
use crate::command;
use crate::error::Result;
use crate::pipeline;

const POLICY: &str = "default-deny";
const TABLE: &str = "e2e-policy";
const API_SERVICE: &str = "v1beta1.metrics.k8s.io";
const SECOND: &str = "second";

const fn fault(
    name: &'static str,
    reason: &'static str,
    says: &'static [&'static str],
    inject: fn(&Bench<'_>) -> Result<()>,
    heal: fn(&Bench<'_>) -> Result<()>,
) -> Fault {
    Fault {
        name,
        short: true,
        pipeline: pipeline::NAME,
        condition: "APIServiceAvailable",
        status: "False",
        reason,
        says,
        flips_ready: true,
        inject,
        heal,
    }
}

/// The faults on the way to the pods.
pub const PATH: &[Fault] = &[
    fault(
        "NetworkPolicy that blocks the API server",
        "NetworkPolicyBlocks",
        &["NetworkPolicy metrics-pipeline/default-deny", "4443", "kubectl edit networkpolicy default-deny"],
        |bench| {
            let policy = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": POLICY, "namespace": pipeline::NAMESPACE},
                "spec": {
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "metrics-core"}},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": [{"podSelector": {}}]}],
                },
            });
            bench.client.apply(&policy.to_string())?;
            let service = bench.client.get(&["-n", pipeline::NAMESPACE, "service", "metrics-core"])?;
            let address = service["spec"]["clusterIP"].as_str().ok_or_else(|| impossible("no ClusterIP"))?;
            // The CNI plugin here enforces none. What the node itself sends to the Service is kube-apiserver's; the
            // kubelet's probes go to the pod, and a real plugin lets them through. Before kube-proxy's rules.
            let table = format!(
                "table ip {TABLE} {{\nchain from-node {{\ntype filter hook output priority -200;\n\
                 ip daddr {address} drop;\n}}\n}}"
            );
            command::output(bench.cluster.network().command("nft").arg(table)).map(drop)
        },
        |bench| {
            bench.client.delete(&["-n", pipeline::NAMESPACE, "networkpolicy", POLICY])?;
            let table = format!("delete table ip {TABLE}");
            command::output(bench.cluster.network().command("nft").arg(table)).map(drop)
        },
    ),
    fault(
        "a foreign metrics-server owns the APIService",
        "ForeignAPIService",
        &["kube-system/metrics-server", "adoption"],
        |bench| {
            let mut object = bench.client.get(&["apiservice", API_SERVICE])?;
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
            bench.client.with_manifest(&["replace"], &object.to_string()).map(drop)
        },
        |bench| bench.client.delete(&["apiservice", API_SERVICE]).map(drop),
    ),
    Fault {
        short: false,
        pipeline: SECOND,
        condition: "Ready",
        ..fault(
            "two MetricsPipelines",
            "Conflict",
            &["MetricsPipeline cluster", "kubectl delete metricspipeline"],
            |bench| bench.client.apply(&pipeline::manifest(SECOND, &json!({}))).map(drop),
            |bench| bench.client.delete(&["mp", SECOND]).map(drop),
        )
    },
];
