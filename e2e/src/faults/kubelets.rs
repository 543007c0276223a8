//! Between metrics-core and the kubelets.

use std::time::Duration;

use serde_json::Value;

use super::{Bench, Fault, impossible, pause};
use crate::cluster::{KUBELET_HTTP_PORT, KUBELET_PORT, KubeletCertificate};
use crate::error::Result;
use crate::pipeline;

/// The Node that no kubelet stands behind.
const GHOST: &str = "ghost";
const BINDING: &str = "metrics-core:collector";
/// The operator's own role.
const OPERATOR: &str = "metrics-pipeline-operator";

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
        condition: "KubeletsReachable",
        status: "False",
        reason,
        says,
        flips_ready: true,
        inject,
        heal,
    }
}

fn proper(bench: &Bench<'_>) -> Result<()> {
    certificate(bench, KubeletCertificate::Proper)
}

fn certificate(bench: &Bench<'_>, certificate: KubeletCertificate) -> Result<()> {
    bench.cluster.kubelet_certificate(certificate, &bench.progress.clone().quiet())
}

/// The faults of kubelets.
pub const KUBELETS: &[Fault] = &[
    fault(
        "kubelet certificate self-signed",
        "KubeletCertificateUnknownCa",
        &["node-1", "serverTLSBootstrap", "Pin", "Insecure"],
        |bench| certificate(bench, KubeletCertificate::SelfSigned),
        proper,
    ),
    Fault {
        short: false,
        ..fault(
            "kubelet certificate expired",
            "KubeletCertificateExpired",
            &["node-1", "Renew"],
            |bench| certificate(bench, KubeletCertificate::Expired),
            proper,
        )
    },
    Fault {
        short: false,
        ..fault(
            "kubelet certificate without a name",
            "KubeletCertificateName",
            &["node-1", "subject alternative name"],
            |bench| certificate(bench, KubeletCertificate::WithoutNames),
            proper,
        )
    },
    fault(
        "kubelet down",
        "KubeletRefused",
        &["node-1", "systemctl status kubelet"],
        |bench| {
            bench.cluster.stop_kubelet();
            Ok(())
        },
        |bench| bench.cluster.start_kubelet(&bench.progress.clone().quiet()),
    ),
    Fault {
        flips_ready: false,
        ..fault(
            "kubelet spoken to over http",
            "KubeletPlainHttp",
            &[GHOST, "10255", "plain HTTP"],
            |bench| {
                let address = bench.cluster.node().address.to_string();
                bench.cluster.add_node(GHOST, &[("InternalIP", &address)], KUBELET_HTTP_PORT)
            },
            |bench| bench.cluster.remove_node(GHOST),
        )
    },
    Fault {
        flips_ready: false,
        ..fault(
            "node name that does not resolve",
            "KubeletNameUnresolved",
            &[GHOST, "ghost.invalid", "InternalIP first"],
            |bench| bench.cluster.add_node(GHOST, &[("Hostname", "ghost.invalid")], KUBELET_PORT),
            |bench| bench.cluster.remove_node(GHOST),
        )
    },
    Fault {
        short: false,
        ..fault(
            "packets to the kubelet dropped",
            "KubeletTimeout",
            &["node-1", "10250"],
            |bench| bench.cluster.drop_from_pods(KUBELET_PORT),
            |bench| bench.cluster.drop_nothing(),
        )
    },
    Fault {
        condition: "AccessReady",
        ..fault(
            "kubelet 403: binding deleted, its repair blocked",
            "PermissionMissing",
            &[BINDING, "helm upgrade"],
            |bench| {
                allow_binding(bench, false)?;
                bench.client.delete(&["clusterrolebinding", BINDING])?;
                Ok(())
            },
            |bench| allow_binding(bench, true),
        )
    },
    Fault {
        short: false,
        status: "True",
        flips_ready: false,
        ..fault(
            "kubelet.tls.mode: Insecure",
            "KubeletCertificatesNotVerified",
            &["not verified", "Verify"],
            |bench| spec(bench, r#"{"spec":{"metricsCore":{"kubelet":{"tls":{"mode":"Insecure"}}}}}"#),
            |bench| spec(bench, r#"{"spec":{"metricsCore":null}}"#),
        )
    },
];

fn spec(bench: &Bench<'_>, patch: &str) -> Result<()> {
    bench.client.run(&["patch", "mp", pipeline::NAME, "--type=merge", "-p", patch])?;
    // A rollout goes before: what is measured begins when it is through.
    pause(Duration::from_secs(1));
    Ok(())
}

/// Whether the operator may write ClusterRoleBindings.
fn allow_binding(bench: &Bench<'_>, allowed: bool) -> Result<()> {
    let mut role = bench.client.get(&["clusterrole", OPERATOR])?;
    let rules = role["rules"].as_array_mut().ok_or_else(|| impossible("the operator's role has no rules"))?;
    let about_bindings = |rule: &&mut Value| {
        rule["resources"].as_array().is_some_and(|list| list.iter().any(|one| one == "clusterrolebindings"))
    };
    let found = rules.iter_mut().find(about_bindings).ok_or_else(|| impossible("no rule for bindings"))?;
    let verbs: &[&str] = if allowed {
        &["get", "list", "watch", "create", "patch", "delete"]
    } else {
        &["get", "list", "watch"]
    };
    found["verbs"] = verbs.into();
    bench.client.with_manifest(&["replace"], &role.to_string()).map(drop)
}
