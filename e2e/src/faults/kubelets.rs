//! Between metrics-core and the kubelets.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Bench, Fault, impossible, pause};
use crate::cluster::{KUBELET_HTTP_PORT, KUBELET_PORT, KubeletCertificate};
use crate::error::Result;
use crate::pipeline;

/// The Node that no kubelet stands behind.
const GHOST: &str = "ghost";
const NODE: &str = "node-1";
const BINDING: &str = "metrics-core:collector";
/// The operator's own role.
const OPERATOR: &str = "metrics-pipeline-operator";

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
        condition: "KubeletsReachable",
        status: "False",
        reason,
        object,
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
        "KubeletCertificateUnknownCA",
        NODE,
        &["serverTLSBootstrap", "Pin", "Insecure"],
        |bench| certificate(bench, KubeletCertificate::SelfSigned),
        proper,
    ),
    Fault {
        short: false,
        ..fault(
            "kubelet certificate expired",
            "KubeletCertificateExpired",
            NODE,
            &["Renew"],
            |bench| certificate(bench, KubeletCertificate::Expired),
            proper,
        )
    },
    Fault {
        short: false,
        ..fault(
            "kubelet certificate without a name",
            "KubeletCertificateNameMismatch",
            NODE,
            &["subject alternative name"],
            |bench| certificate(bench, KubeletCertificate::WithoutNames),
            proper,
        )
    },
    fault(
        "kubelet down",
        "KubeletConnectionRefused",
        NODE,
        &["systemctl status kubelet"],
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
            "KubeletPlainHTTP",
            GHOST,
            &["10255", "plain HTTP"],
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
            "KubeletDNSLookupFailed",
            GHOST,
            &["ghost.invalid", "InternalIP first"],
            |bench| bench.cluster.add_node(GHOST, &[("Hostname", "ghost.invalid")], KUBELET_PORT),
            |bench| bench.cluster.remove_node(GHOST),
        )
    },
    Fault {
        short: false,
        ..fault(
            "packets to the kubelet dropped",
            "KubeletTimeout",
            NODE,
            &["10250", "firewall"],
            |bench| bench.cluster.drop_from_pods(KUBELET_PORT),
            |bench| bench.cluster.drop_nothing(),
        )
    },
    Fault {
        condition: "AccessReady",
        ..fault(
            "kubelet 403: binding deleted, its repair blocked",
            "PermissionMissing",
            "ClusterRoleBinding metrics-core:collector",
            &["helm upgrade"],
            take_binding,
            |bench| allow_binding(bench, true),
        )
    },
    // The same, seen at the kubelet: it remembers a permission for a while, and a refusal too.
    Fault {
        short: false,
        ..fault(
            "kubelet 403: the same, once the kubelet refuses",
            "WaitingForDependency",
            NODE,
            &["403", "See AccessReady"],
            take_binding,
            |bench| allow_binding(bench, true),
        )
    },
    Fault {
        short: false,
        ..fault(
            "kubelet 401: it takes no tokens",
            "KubeletUnauthorized",
            NODE,
            &["401", "authentication.webhook.enabled: true"],
            |bench| {
                let changes = json!({"authentication": {
                    "anonymous": {"enabled": false},
                    "webhook": {"enabled": false},
                    "x509": {"clientCAFile": bench.cluster.layout().pki().join("ca.crt")},
                }});
                bench.cluster.restart_kubelet_with(&changes, &bench.progress.clone().quiet())
            },
            |bench| bench.cluster.restart_kubelet_with(&json!({}), &bench.progress.clone().quiet()),
        )
    },
    Fault {
        short: false,
        status: "True",
        flips_ready: false,
        ..fault(
            "kubelet.tls.mode: Insecure",
            "KubeletCertificatesNotVerified",
            "spec.metricsCore.kubelet.tls.mode",
            &["not verified", "Verify"],
            |bench| spec(bench, r#"{"spec":{"metricsCore":{"kubelet":{"tls":{"mode":"Insecure"}}}}}"#),
            |bench| spec(bench, r#"{"spec":{"metricsCore":null}}"#),
        )
    },
];

fn spec(bench: &Bench<'_>, patch: &str) -> Result<()> {
    bench.client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", patch])?;
    // A rollout goes before: what is measured begins when it is through.
    pause(Duration::from_secs(1));
    Ok(())
}

/// Deletes the binding that gives metrics-core its rights, and keeps the operator from making it anew.
fn take_binding(bench: &Bench<'_>) -> Result<()> {
    allow_binding(bench, false)?;
    bench.client.delete(&["clusterrolebinding", BINDING])?;
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
