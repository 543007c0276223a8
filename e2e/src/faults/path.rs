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
    object: &'static str,
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
        object,
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
        "BlockedByNetworkPolicy",
        "NetworkPolicy metrics-pipeline/default-deny",
        &["4443", "kubectl edit networkpolicy default-deny"],
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
            // The CNI plugin here enforces none.
            drop_from_apiserver(bench)
        },
        |bench| {
            bench.client.delete(&["-n", pipeline::NAMESPACE, "networkpolicy", POLICY])?;
            drop_nothing(bench)
        },
    ),
    Fault {
        short: false,
        ..fault(
            "packets of the API server dropped, by no NetworkPolicy",
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
            "MetricsPipeline cluster",
            &["kubectl delete metricspipeline"],
            |bench| bench.client.apply(&pipeline::manifest(SECOND, &json!({}))).map(drop),
            |bench| bench.client.delete(&["mpl", SECOND]).map(drop),
        )
    },
];

/// Has the kernel drop what the node itself sends to the Service: that is kube-apiserver's. The kubelet's probes go to
/// the pod, and a real network lets them through. Before kube-proxy's rules.
fn drop_from_apiserver(bench: &Bench<'_>) -> Result<()> {
    let service = bench.client.get(&["-n", pipeline::NAMESPACE, "service", "metrics-core"])?;
    let address = service["spec"]["clusterIP"].as_str().ok_or_else(|| impossible("no ClusterIP"))?;
    let table = format!(
        "table ip {TABLE} {{\nchain from-node {{\ntype filter hook output priority -200;\nip daddr {address} drop;\n}}\n}}"
    );
    command::output(bench.cluster.network().command("nft").arg(table)).map(drop)
}

fn drop_nothing(bench: &Bench<'_>) -> Result<()> {
    let table = format!("delete table ip {TABLE}");
    command::output(bench.cluster.network().command("nft").arg(table)).map(drop)
}
