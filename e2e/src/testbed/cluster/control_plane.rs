//! The command lines and certificates of the control plane.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde_json::json;

use crate::error::Result;
use crate::testbed::cluster::component::Component;
use crate::testbed::cluster::flags::{FlagChange, changed};
use crate::testbed::cluster::layout::Layout;
use crate::testbed::kubeconfig;
use crate::testbed::pki::{Authority, Subject, keep_key_pair, write_private};
use crate::testbed::process::write_whole;

/// The address of the API server, and of the first node.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The API server's port.
pub(crate) const PORT: u16 = 6443;
/// The address range of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The address of the Service `kubernetes`.
const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The common name of the API server's front-proxy certificate, as in `--requestheader-allowed-names`.
pub const FRONT_PROXY_NAME: &str = "aggregator";

/// Returns the API server's URL.
#[must_use]
pub fn server() -> String {
    format!("https://{ADDRESS}:{PORT}")
}

/// The cluster's two certificate authorities.
pub struct Authorities {
    /// Signs servers, clients and kubelets.
    pub cluster: Authority,
    /// Signs the front proxy's client certificate and nothing else.
    pub front_proxy: Authority,
}

/// Creates or reads the authorities, certificates and kubeconfigs of the control plane.
pub(crate) fn prepare(layout: &Layout) -> Result<Authorities> {
    let pki = layout.pki();
    let cluster = Authority::keep(&pki, "ca", "metrics-pipeline e2e cluster CA")?;
    let front_proxy = Authority::keep(&pki, "front-proxy-ca", "metrics-pipeline e2e front-proxy CA")?;
    keep_key_pair(&pki, "service-accounts")?;
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let addresses =
        [IpAddr::from(ADDRESS), IpAddr::from(KUBERNETES_SERVICE), IpAddr::from(Ipv4Addr::LOCALHOST)];
    cluster.keep_issued(&pki, "kube-apiserver", &Subject::server("kube-apiserver", &names, &addresses))?;
    let masters = Some("system:masters");
    cluster.keep_issued(&pki, "kubelet-client", &Subject::user("kube-apiserver-kubelet-client", masters))?;
    front_proxy.keep_issued(&pki, "front-proxy-client", &Subject::user(FRONT_PROXY_NAME, None))?;
    for (file, user, group) in [
        ("admin", "e2e-admin", masters),
        ("kube-controller-manager", "system:kube-controller-manager", None),
        ("kube-scheduler", "system:kube-scheduler", None),
    ] {
        keep_kubeconfig(layout, &cluster, file, &Subject::user(user, group))?;
    }
    write_whole(&layout.config().join("audit-policy.json"), audit_policy().as_bytes())?;
    Ok(Authorities { cluster, front_proxy })
}

/// Writes `FILE.kubeconfig` unless it exists.
pub(crate) fn keep_kubeconfig(
    layout: &Layout,
    authority: &Authority,
    file: &str,
    subject: &Subject,
) -> Result<()> {
    let path = layout.config().join(format!("{file}.kubeconfig"));
    if path.exists() {
        return Ok(());
    }
    let identity = authority.issue(subject)?;
    write_private(&path, &kubeconfig::render(&server(), authority.certificate(), &identity))
}

/// Returns a policy that records each request once, with its response and without bodies: enough to count who wrote
/// what.
fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    })
    .to_string()
}

/// Returns the component etcd. It may lose writes when the machine stops, which tests tolerate.
#[must_use]
pub(crate) fn etcd(layout: &Layout, binaries: &Path) -> Component {
    Component {
        name: "etcd",
        program: binaries.join("etcd"),
        arguments: flags(&[
            ("name", "e2e"),
            ("data-dir", &layout.data.join("etcd").to_string_lossy()),
            ("listen-client-urls", "http://127.0.0.1:2379"),
            ("advertise-client-urls", "http://127.0.0.1:2379"),
            ("listen-peer-urls", "http://127.0.0.1:2380"),
            ("initial-advertise-peer-urls", "http://127.0.0.1:2380"),
            ("initial-cluster", "e2e=http://127.0.0.1:2380"),
            ("unsafe-no-fsync", "true"),
            ("log-level", "warn"),
        ]),
        inputs: Vec::new(),
    }
}

/// Returns the component kube-apiserver, with the aggregation layer enabled and these changes.
#[must_use]
pub(crate) fn apiserver(layout: &Layout, binaries: &Path, changes: &[FlagChange]) -> Component {
    let pki = |file: &str| layout.pki().join(file).to_string_lossy().into_owned();
    let policy = layout.config().join("audit-policy.json");
    let arguments = flags(&[
        ("advertise-address", &ADDRESS.to_string()),
        ("secure-port", &PORT.to_string()),
        ("etcd-servers", "http://127.0.0.1:2379"),
        ("allow-privileged", "true"),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("client-ca-file", &pki("ca.crt")),
        ("tls-cert-file", &pki("kube-apiserver.crt")),
        ("tls-private-key-file", &pki("kube-apiserver.key")),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-account-key-file", &pki("service-accounts.pub")),
        ("service-account-signing-key-file", &pki("service-accounts.key")),
        ("service-cluster-ip-range", SERVICES),
        ("kubelet-certificate-authority", &pki("ca.crt")),
        ("kubelet-client-certificate", &pki("kubelet-client.crt")),
        ("kubelet-client-key", &pki("kubelet-client.key")),
        ("kubelet-preferred-address-types", "InternalIP"),
        ("requestheader-client-ca-file", &pki("front-proxy-ca.crt")),
        ("requestheader-allowed-names", FRONT_PROXY_NAME),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ("requestheader-group-headers", "X-Remote-Group"),
        ("requestheader-username-headers", "X-Remote-User"),
        ("proxy-client-cert-file", &pki("front-proxy-client.crt")),
        ("proxy-client-key-file", &pki("front-proxy-client.key")),
        ("enable-aggregator-routing", "true"),
        ("audit-policy-file", &policy.to_string_lossy()),
        ("audit-log-path", &layout.audit_log().to_string_lossy()),
        // A single file, so that counting events reads only one.
        ("audit-log-maxsize", "4096"),
        ("profiling", "false"),
    ]);
    Component {
        name: "kube-apiserver",
        program: binaries.join("kube-apiserver"),
        arguments: changed(arguments, changes),
        inputs: vec![policy, layout.pki().join("kube-apiserver.crt")],
    }
}

/// Returns the component kube-controller-manager. The horizontal pod autoscaler syncs every 5 s and accepts the CPU
/// of fresh pods early, so that a scenario takes half a minute instead of five.
#[must_use]
pub(crate) fn controller_manager(layout: &Layout, binaries: &Path) -> Component {
    let pki = |file: &str| layout.pki().join(file).to_string_lossy().into_owned();
    let kubeconfig = layout.config().join("kube-controller-manager.kubeconfig");
    let path = kubeconfig.to_string_lossy();
    let arguments = flags(&[
        ("kubeconfig", &path),
        ("authentication-kubeconfig", &path),
        ("authorization-kubeconfig", &path),
        ("bind-address", "127.0.0.1"),
        ("leader-elect", "false"),
        ("use-service-account-credentials", "true"),
        ("service-account-private-key-file", &pki("service-accounts.key")),
        ("root-ca-file", &pki("ca.crt")),
        ("cluster-signing-cert-file", &pki("ca.crt")),
        ("cluster-signing-key-file", &pki("ca.key")),
        ("flex-volume-plugin-dir", &layout.data.join("volume-plugins").to_string_lossy()),
        // With the defaults, the initial requests of all controllers take 4 s.
        ("kube-api-qps", "1000"),
        ("kube-api-burst", "1000"),
        ("horizontal-pod-autoscaler-sync-period", "5s"),
        ("horizontal-pod-autoscaler-initial-readiness-delay", "5s"),
        ("horizontal-pod-autoscaler-cpu-initialization-period", "10s"),
        ("horizontal-pod-autoscaler-downscale-stabilization", "30s"),
    ]);
    Component {
        name: "kube-controller-manager",
        program: binaries.join("kube-controller-manager"),
        arguments,
        inputs: vec![kubeconfig],
    }
}

/// Returns the component kube-scheduler.
#[must_use]
pub(crate) fn scheduler(layout: &Layout, binaries: &Path) -> Component {
    let kubeconfig = layout.config().join("kube-scheduler.kubeconfig");
    let path = kubeconfig.to_string_lossy();
    let arguments = flags(&[
        ("kubeconfig", &path),
        ("authentication-kubeconfig", &path),
        ("authorization-kubeconfig", &path),
        ("bind-address", "127.0.0.1"),
        ("leader-elect", "false"),
    ]);
    Component {
        name: "kube-scheduler",
        program: binaries.join("kube-scheduler"),
        arguments,
        inputs: vec![kubeconfig],
    }
}

/// Returns `--key=value` for each pair.
pub(super) fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().map(|(key, value)| format!("--{key}={value}")).collect()
}

/// Returns the changes stored with the cluster, with which a later `up` starts the API server.
pub(crate) fn saved_changes(layout: &Layout) -> Option<Vec<FlagChange>> {
    serde_json::from_slice(&fs::read(layout.config().join("apiserver-flags.json")).ok()?).ok()
}

/// Stores the changes.
pub(crate) fn save_changes(layout: &Layout, changes: &[FlagChange]) -> Result<()> {
    write_whole(&layout.config().join("apiserver-flags.json"), json!(changes).to_string().as_bytes())
}
