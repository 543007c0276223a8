//! Faults between metrics-core and the kubelets.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Action, Fault, FaultEnv, cannot_inject, pause};
use crate::error::Result;
use crate::testbed::cluster::{KUBELET_HTTP_PORT, KUBELET_PORT, KubeletCertificate};
use crate::testbed::pipeline;

/// A Node without a kubelet.
const GHOST: &str = "ghost";
const NODE: &str = "node-1";
const BINDING: &str = "metrics-core:collector";
/// The operator's own role.
const OPERATOR: &str = "metrics-pipeline-operator";

const fn fault(
    name: &'static str,
    reason: &'static str,
    object: &'static str,
    contains: &'static [&'static str],
    inject: Action,
    repair: Action,
) -> Fault {
    Fault::new("KubeletsReachable", name, reason, object, contains, (inject, repair))
}

fn proper(env: &FaultEnv<'_>) -> Result<()> {
    certificate(env, KubeletCertificate::Proper)
}

fn certificate(env: &FaultEnv<'_>, certificate: KubeletCertificate) -> Result<()> {
    env.cluster.kubelet_certificate(certificate, &env.progress.clone().quiet())
}

/// The faults of kubelets.
pub const KUBELETS: &[Fault] = &[
    fault(
        "kubelet certificate self-signed",
        "KubeletCertificateUnknownCA",
        NODE,
        &["serverTLSBootstrap", "Pin", "Insecure"],
        |env| certificate(env, KubeletCertificate::SelfSigned),
        proper,
    ),
    Fault {
        short: false,
        ..fault(
            "kubelet certificate expired",
            "KubeletCertificateExpired",
            NODE,
            &["Renew"],
            |env| certificate(env, KubeletCertificate::Expired),
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
            |env| certificate(env, KubeletCertificate::WithoutNames),
            proper,
        )
    },
    fault(
        "kubelet down",
        "KubeletConnectionRefused",
        NODE,
        &["systemctl status kubelet"],
        |env| {
            env.cluster.stop_kubelet();
            Ok(())
        },
        |env| env.cluster.start_kubelet(&env.progress.clone().quiet()),
    ),
    Fault {
        flips_ready: false,
        ..fault(
            "kubelet port that serves plain HTTP",
            "KubeletPlainHTTP",
            GHOST,
            &["10255", "plain HTTP"],
            |env| {
                let address = env.cluster.node().address.to_string();
                env.cluster.add_node(GHOST, &[("InternalIP", &address)], KUBELET_HTTP_PORT)
            },
            |env| env.cluster.remove_node(GHOST),
        )
    },
    Fault {
        flips_ready: false,
        ..fault(
            "node name that does not resolve",
            "KubeletDNSLookupFailed",
            GHOST,
            &["ghost.invalid", "InternalIP first"],
            |env| env.cluster.add_node(GHOST, &[("Hostname", "ghost.invalid")], KUBELET_PORT),
            |env| env.cluster.remove_node(GHOST),
        )
    },
    Fault {
        short: false,
        ..fault(
            "packets to the kubelet dropped",
            "KubeletTimeout",
            NODE,
            &["10250", "firewall"],
            |env| env.cluster.drop_from_pods(KUBELET_PORT),
            |env| env.cluster.drop_nothing(),
        )
    },
    Fault {
        condition: "AccessReady",
        ..fault(
            "kubelet 403: binding deleted, repair blocked",
            "PermissionMissing",
            "ClusterRoleBinding metrics-core:collector",
            &["helm upgrade"],
            take_binding,
            |env| allow_binding(env, true),
        )
    },
    // The kubelet caches a permission for a while, and a denial too.
    Fault {
        short: false,
        ..fault(
            "kubelet 403: the same, once the kubelet denies access",
            "WaitingForDependency",
            NODE,
            &["403", "See AccessReady"],
            take_binding,
            |env| allow_binding(env, true),
        )
    },
    Fault {
        short: false,
        ..fault(
            "kubelet 401: tokens rejected",
            "KubeletUnauthorized",
            NODE,
            &["401", "authentication.webhook.enabled: true"],
            |env| {
                let changes = json!({"authentication": {
                    "anonymous": {"enabled": false},
                    "webhook": {"enabled": false},
                    "x509": {"clientCAFile": env.cluster.layout().pki().join("ca.crt")},
                }});
                env.cluster.restart_kubelet_with(&changes, &env.progress.clone().quiet())
            },
            |env| env.cluster.restart_kubelet_with(&json!({}), &env.progress.clone().quiet()),
        )
    },
    Fault {
        short: false,
        ..fault(
            "kubelet certificate not issued: its request waits",
            "KubeletCertificateMissing",
            NODE,
            &["CertificateSigningRequest", "kubectl certificate approve"],
            |env| {
                let bootstrap =
                    json!({"serverTLSBootstrap": true, "tlsCertFile": null, "tlsPrivateKeyFile": null});
                env.cluster.restart_kubelet_with(&bootstrap, &env.progress.clone().quiet())
            },
            |env| env.cluster.restart_kubelet_with(&json!({}), &env.progress.clone().quiet()),
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
            |env| spec(env, r#"{"spec":{"metricsCore":{"kubelet":{"tls":{"mode":"Insecure"}}}}}"#),
            |env| spec(env, r#"{"spec":{"metricsCore":null}}"#),
        )
    },
];

fn spec(env: &FaultEnv<'_>, patch: &str) -> Result<()> {
    env.client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", patch])?;
    // The change causes a rollout, and the time starts after it.
    pause(Duration::from_secs(1));
    Ok(())
}

/// Deletes the binding of metrics-core's permissions, and keeps the operator from recreating it.
fn take_binding(env: &FaultEnv<'_>) -> Result<()> {
    allow_binding(env, false)?;
    env.client.delete(&["clusterrolebinding", BINDING])?;
    Ok(())
}

/// Whether the operator may write ClusterRoleBindings.
fn allow_binding(env: &FaultEnv<'_>, allowed: bool) -> Result<()> {
    let mut role = env.client.get(&["clusterrole", OPERATOR])?;
    let rules =
        role["rules"].as_array_mut().ok_or_else(|| cannot_inject("the operator's role has no rules"))?;
    let about_bindings = |rule: &&mut Value| {
        rule["resources"].as_array().is_some_and(|list| list.iter().any(|one| one == "clusterrolebindings"))
    };
    let found = rules.iter_mut().find(about_bindings).ok_or_else(|| cannot_inject("no rule for bindings"))?;
    let verbs: &[&str] = if allowed {
        &["get", "list", "watch", "create", "patch", "delete"]
    } else {
        &["get", "list", "watch"]
    };
    found["verbs"] = verbs.into();
    env.client.with_manifest(&["replace"], &role.to_string()).map(drop)
}
