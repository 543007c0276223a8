//! Faults of kube-apiserver's flags for the front proxy, by which metrics-core authenticates it.

use std::time::Duration;

use super::{Action, Fault, renew};
use crate::error::Result;
use crate::testbed::cluster::FlagChange;
use crate::testbed::kubectl::Client;
use crate::testbed::pki::Subject;
use crate::wait;

/// Everything after the first flag becomes part of its value.
const SWALLOWED: &str = "X-Remote-Extra- --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User";

/// The ConfigMap in which kube-apiserver publishes its authentication configuration.
const PUBLISHED: &str = "ConfigMap kube-system/extension-apiserver-authentication";

const fn fault(
    name: &'static str,
    reason: &'static str,
    object: &'static str,
    contains: &'static [&'static str],
    inject: Action,
) -> Fault {
    Fault::new("AggregationLayerReady", name, reason, object, contains, (inject, |env| env.front_proxy(&[])))
}

/// Faults of kube-apiserver's flags.
pub const FRONT_PROXY: &[Fault] = &[
    fault(
        "requestheader flags merged into one argument",
        "RequestHeaderFlagsMalformed",
        PUBLISHED,
        &[
            "requestheader-extra-headers-prefix",
            "X-Remote-Extra- --requestheader-group",
            "a separate argument",
            "ask the provider",
        ],
        |env| {
            env.front_proxy(&[
                FlagChange::set("requestheader-extra-headers-prefix", SWALLOWED),
                FlagChange::remove("requestheader-group-headers"),
                FlagChange::remove("requestheader-username-headers"),
                FlagChange::remove("requestheader-allowed-names"),
            ])
        },
    ),
    Fault {
        status: "True",
        flips_ready: false,
        repair: |env| renew(&env.client),
        ..fault(
            "stale values in the merged ConfigMap",
            "StaleConfiguration",
            PUBLISHED,
            &[
                "requestheader-extra-headers-prefix",
                "kubectl delete configmap extension-apiserver-authentication",
            ],
            |env| {
                let value = format!("[\"X-Remote-Extra-\",\"{SWALLOWED}\"]");
                let patch = serde_json::json!({"data": {"requestheader-extra-headers-prefix": value}});
                let config_map =
                    ["-n", "kube-system", "patch", "configmap", "extension-apiserver-authentication"];
                let patch = patch.to_string();
                env.client.run(&[&config_map[..], &["--type=merge", "-p", &patch]].concat()).map(drop)
            },
        )
    },
    fault(
        "common name not allowed",
        "ProxyNameNotAllowed",
        PUBLISHED,
        &["CN=aggregator", "front-proxy-client", "--requestheader-allowed-names=aggregator"],
        |env| env.front_proxy(&[FlagChange::set("requestheader-allowed-names", "front-proxy-client")]),
    ),
    fault(
        "requestheader CA that did not sign the proxy certificate",
        "ProxyCertificateUnknownCA",
        PUBLISHED,
        &["CN=aggregator", "e2e front-proxy CA", "--requestheader-client-ca-file"],
        |env| {
            let other = env.cluster.layout().pki().join("ca.crt");
            env.front_proxy(&[FlagChange::set("requestheader-client-ca-file", &other.to_string_lossy())])
        },
    ),
    fault(
        "aggregation layer not configured",
        "AggregationLayerNotConfigured",
        PUBLISHED,
        &["has no requestheader-client-ca-file", "--proxy-client-cert-file"],
        |env| {
            env.front_proxy(&[
                FlagChange::remove("requestheader-client-ca-file"),
                FlagChange::remove("requestheader-allowed-names"),
                FlagChange::remove("requestheader-extra-headers-prefix"),
                FlagChange::remove("requestheader-group-headers"),
                FlagChange::remove("requestheader-username-headers"),
                FlagChange::remove("proxy-client-cert-file"),
                FlagChange::remove("proxy-client-key-file"),
            ])
        },
    ),
    Fault {
        short: false,
        ..fault(
            "no header for users",
            "UsernameHeadersMissing",
            PUBLISHED,
            &["--requestheader-username-headers=X-Remote-User"],
            |env| env.front_proxy(&[FlagChange::remove("requestheader-username-headers")]),
        )
    },
    // The operator and kube-apiserver's own check need only the group of all authenticated users.
    Fault {
        short: false,
        status: "True",
        flips_ready: false,
        ..fault(
            "no header for groups",
            "GroupHeadersMissing",
            PUBLISHED,
            &["--requestheader-group-headers=X-Remote-Group"],
            |env| env.front_proxy(&[FlagChange::remove("requestheader-group-headers")]),
        )
    },
    Fault {
        short: false,
        ..fault(
            "no proxy certificate (anonymous)",
            "ProxyCertificateMissing",
            "--proxy-client-cert-file",
            &["anonymous"],
            |env| {
                env.front_proxy(&[
                    FlagChange::remove("proxy-client-cert-file"),
                    FlagChange::remove("proxy-client-key-file"),
                ])
            },
        )
    },
    Fault {
        short: false,
        ..fault(
            "expired proxy certificate",
            "ProxyCertificateExpired",
            "--proxy-client-cert-file",
            &["CN=aggregator", "expired", "Renew it"],
            |env| {
                let subject = Subject { expired: true, ..Subject::user("aggregator", None) };
                let pki = env.cluster.layout().pki();
                env.cluster.front_proxy_authority()?.issue(&subject)?.save(&pki, "front-proxy-expired")?;
                let file = |kind: &str| {
                    pki.join(format!("front-proxy-expired.{kind}")).to_string_lossy().into_owned()
                };
                env.front_proxy(&[
                    FlagChange::set("proxy-client-cert-file", &file("crt")),
                    FlagChange::set("proxy-client-key-file", &file("key")),
                ])
            },
        )
    },
    Fault {
        short: false,
        status: "True",
        flips_ready: false,
        ..fault(
            "empty allowed-names, and the client CA among the requestheader CAs",
            "AnyClientMayImpersonate",
            PUBLISHED,
            &["requestheader-allowed-names", "client-ca-file", "(aggregator)"],
            |env| {
                // With these flags alone, kube-apiserver 1.36 does not start. But every kube-apiserver adds its own
                // CAs to the existing ones: another one of the control plane may be older, or was until its update.
                env.front_proxy(&[FlagChange::remove("requestheader-allowed-names")])?;
                share_authority(&env.client)
            },
        )
    },
];

/// Adds the client CA to the requestheader CAs of the ConfigMap, as another kube-apiserver would. This one may be
/// about to overwrite it with what it read before.
fn share_authority(client: &Client) -> Result<()> {
    let name = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
    let read = || client.get(&name).map(|map| map["data"].clone());
    wait::until(Duration::from_secs(60), "the ConfigMap contains both CAs", || {
        let data = read()?;
        let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        let (proxies, clients) = (text("requestheader-client-ca-file"), text("client-ca-file"));
        let shared = proxies.contains(clients.trim());
        if !shared {
            let both = format!("{proxies}{clients}");
            let patch = serde_json::json!({"data": {"requestheader-client-ca-file": both}}).to_string();
            client.run(&[&["patch"], &name[..], &["--type=merge", "-p", &patch]].concat())?;
        }
        if shared && !text("requestheader-allowed-names").contains("aggregator") {
            return Ok(());
        }
        Err(data.to_string().into())
    })
}
