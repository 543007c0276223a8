//! Diagnoses why metrics-core cannot scrape kubelets, from the reports of its replicas.

use crds::cause::{SampleCause, ScrapeCause};
use crds::{CsrApproval, KubeletTlsMode, Reason};

use super::network_policy::{self, Direction, PolicyEffect};
use super::{Cause, DiagnosisInput, Severity};
use crate::common::normalize::quote;
use crate::common::{METRICS_CORE, ManagedObject, OptionalPermission};
use crate::csr::SIGNER;
use crate::observe::FailingNodes;

/// The kubelet's default port, for Nodes that publish no other port.
const KUBELET_PORT: i32 = 10250;

/// Returns the fault or warning, if any: the most frequent cause, with the others as evidence.
pub(super) fn diagnose(input: DiagnosisInput<'_>) -> Option<Cause> {
    let failing = &input.observed.facts.failing;
    let insecure = input.spec.metrics_core.kubelet.tls.mode == KubeletTlsMode::Insecure;
    let Some(worst) = failing.first() else {
        return insecure.then(not_verified);
    };
    let others: Vec<_> =
        failing.iter().skip(1).map(|other| format!("{}: {}", other.cause, other.describe())).collect();
    let mut cause = explain(input, worst);
    if !others.is_empty() {
        cause.evidence = format!("{} Other causes: {}.", cause.evidence, others.join("; "));
    }
    Some(cause)
}

/// Explains one cause: the affected nodes, metrics-core's error for one of them, and the remedy.
#[must_use]
pub(crate) fn explain(input: DiagnosisInput<'_>, failing: &FailingNodes) -> Cause {
    let example = failing.examples.first();
    let message = example.map_or("", |example| example.message.as_str());
    let address = example
        .and_then(|example| example.address.as_deref())
        .map(|address| format!(" ({})", quote(address)))
        .unwrap_or_default();
    let evidence = format!(
        "metrics-core reports for node {}{address}: \"{}\".",
        example.map_or("", |example| example.node.as_str()),
        quote(message).trim_end_matches('.')
    );
    let (reason, what) = name(failing.cause);
    Cause {
        reason,
        severity: Severity::Fault,
        summary: format!("{what}: {}.", failing.describe()),
        evidence: [evidence, extra(input, failing.cause)].join(" ").trim_end().to_owned(),
        remedy: remedy(input, failing),
    }
}

fn not_verified() -> Cause {
    Cause::warning(
        Reason::KubeletCertificatesNotVerified,
        "The kubelets' certificates are not verified: an attacker who can redirect a connection can read the token of \
         metrics-core and return forged metrics.",
        "spec.metricsCore.kubelet.tls.mode is Insecure.",
        "Set it to Verify. If the kubelets' certificates are self-signed, first let the cluster's CA sign them \
         (serverTLSBootstrap: true in the KubeletConfiguration).",
    )
}

/// Returns the reason and a description of the cause.
#[must_use]
pub(crate) const fn name(cause: ScrapeCause) -> (Reason, &'static str) {
    match cause {
        ScrapeCause::NoAddress => (
            Reason::KubeletAddressMissing,
            "Nodes have no address of the types in spec.metricsCore.kubelet.addressTypes",
        ),
        ScrapeCause::Dns => (Reason::KubeletDNSLookupFailed, "DNS lookups of node names fail"),
        ScrapeCause::ConnectionRefused => {
            (Reason::KubeletConnectionRefused, "Connections to the kubelet's port are refused")
        }
        ScrapeCause::Unreachable => (Reason::KubeletUnreachable, "There is no route to the kubelet"),
        ScrapeCause::Timeout => (Reason::KubeletTimeout, "Connections to the kubelet time out"),
        ScrapeCause::SlowResponse => {
            (Reason::KubeletTimeout, "The kubelet does not respond within the timeout")
        }
        ScrapeCause::ConnectionClosed => (
            Reason::KubeletConnectionClosed,
            "Connections to the kubelet are closed before the response is complete",
        ),
        ScrapeCause::PlainHttp => (
            Reason::KubeletPlainHTTP,
            "The kubelet's port serves plain HTTP, but metrics-core connects with TLS",
        ),
        ScrapeCause::TlsNoCertificate => {
            (Reason::KubeletCertificateMissing, "The kubelet has no serving certificate yet")
        }
        ScrapeCause::TlsUnknownCa => (
            Reason::KubeletCertificateUnknownCA,
            "The kubelet's serving certificate is not signed by a trusted CA",
        ),
        ScrapeCause::TlsNameMismatch => (
            Reason::KubeletCertificateNameMismatch,
            "The kubelet's serving certificate contains none of the Node's names and addresses",
        ),
        ScrapeCause::TlsExpired => (
            Reason::KubeletCertificateExpired,
            "The kubelet's serving certificate is expired or not yet valid",
        ),
        ScrapeCause::TlsPinMismatch => {
            (Reason::KubeletCertificateChanged, "The kubelet's key differs from the pinned key")
        }
        ScrapeCause::TlsOther => (Reason::KubeletTLSFailed, "The TLS handshake with the kubelet fails"),
        ScrapeCause::Unauthorized => {
            (Reason::KubeletUnauthorized, "The kubelet rejects the token of metrics-core (401)")
        }
        ScrapeCause::Forbidden => (
            Reason::KubeletForbidden,
            "The kubelet denies metrics-core permission to get nodes/metrics (403)",
        ),
        ScrapeCause::NotFound
        | ScrapeCause::HttpStatus
        | ScrapeCause::BodyTooLarge
        | ScrapeCause::InvalidBody => {
            (Reason::KubeletResponseInvalid, "The kubelet's response contains no valid resource metrics")
        }
        ScrapeCause::ScrapeError => super::samples::name(SampleCause::ScrapeError),
        ScrapeCause::FileUnreadable | ScrapeCause::NodeDeleted | ScrapeCause::Other => {
            (Reason::KubeletScrapeFailed, "Kubelets cannot be scraped")
        }
    }
}

/// Returns further evidence from the cluster.
fn extra(input: DiagnosisInput<'_>, cause: ScrapeCause) -> String {
    match cause {
        ScrapeCause::Timeout | ScrapeCause::Unreachable => {
            // NetworkPolicies do not apply to pods with hostNetwork.
            let on_node = input.spec.metrics_core.scheduling.host_network;
            let Some(policies) = input.observed.network_policies.as_ref().filter(|_| !on_node) else {
                return String::new();
            };
            let port = input.spec.metrics_core.kubelet.port.unwrap_or(KUBELET_PORT);
            match network_policy::evaluate(
                policies,
                &super::pod_labels(input),
                Direction::Egress,
                (port, None),
            ) {
                PolicyEffect::Open => {
                    format!("No NetworkPolicy in namespace {} blocks this traffic.", input.namespace)
                }
                PolicyEffect::Blocked(names) => {
                    format!(
                        "NetworkPolicy {} blocks all traffic from metrics-core to kubelets.",
                        names.join(", ")
                    )
                }
                PolicyEffect::Depends(names) => {
                    format!(
                        "NetworkPolicy {} allows traffic from metrics-core to some addresses only.",
                        names.join(", ")
                    )
                }
            }
        }
        // By default kubelets sign their certificates themselves and request none.
        ScrapeCause::TlsUnknownCa if input.observed.pending_kubelet_csrs == Some(0) => String::new(),
        ScrapeCause::TlsUnknownCa | ScrapeCause::TlsNoCertificate => pending_csrs(input),
        _ => String::new(),
    }
}

/// Returns how many CertificateSigningRequests wait, and why the operator did not approve the nodes' ones.
fn pending_csrs(input: DiagnosisInput<'_>) -> String {
    let observed = input.observed;
    let pending = match observed.pending_kubelet_csrs {
        None => return String::new(),
        Some(0) => return "No CertificateSigningRequest of a kubelet is pending.".to_owned(),
        Some(1) => "1 CertificateSigningRequest of a kubelet is".to_owned(),
        Some(pending) => format!("{pending} CertificateSigningRequests of kubelets are"),
    };
    let pending = format!("{pending} pending (signer {SIGNER}).");
    let failing = &observed.facts.failing;
    let mut examples = failing.iter().flat_map(|failing| &failing.examples);
    let refused = examples.find_map(|example| observed.csrs_not_approved.get(&example.node));
    match refused {
        Some((csr, why)) => format!("{pending} The operator did not approve {csr}: {}.", quote(why)),
        None => pending,
    }
}

fn remedy(input: DiagnosisInput<'_>, worst: &FailingNodes) -> String {
    let namespace = input.namespace;
    let node = worst.examples.first().map_or("NODE", |example| example.node.as_str());
    match worst.cause {
        ScrapeCause::NoAddress => format!(
            "Add an address type of the Node to spec.metricsCore.kubelet.addressTypes. `kubectl get node {node} -o \
             jsonpath={{.status.addresses}}` lists them."
        ),
        ScrapeCause::Dns => "Put InternalIP first in spec.metricsCore.kubelet.addressTypes, or make the node names \
                             resolvable in the cluster's DNS."
            .to_owned(),
        ScrapeCause::ConnectionRefused => format!(
            "Run `systemctl status kubelet` on the node. If the kubelet runs, check that \
             spec.metricsCore.kubelet.port is its port (`kubectl get node {node} -o \
             jsonpath={{.status.daemonEndpoints}}`)."
        ),
        ScrapeCause::Unreachable | ScrapeCause::Timeout => format!(
            "Check that the node is Ready (`kubectl get node {node}`). Allow pods to reach port {} of the node \
             (firewall, security group, NetworkPolicy), or set spec.metricsCore.scheduling.hostNetwork to true.",
            input.spec.metrics_core.kubelet.port.unwrap_or(KUBELET_PORT)
        ),
        ScrapeCause::SlowResponse | ScrapeCause::ConnectionClosed => format!(
            "Check the node's load and the kubelet's log (`journalctl -u kubelet`). `kubectl get --raw \
             /api/v1/nodes/{node}/proxy/metrics/resource` sends the same request. If the kubelet needs more time, \
             increase spec.metricsCore.kubelet.requestTimeout."
        ),
        ScrapeCause::PlainHttp => "Remove spec.metricsCore.kubelet.port, or set it to the kubelet's HTTPS port \
                                   (10250). Port 10255 is the kubelet's read-only port, which serves plain HTTP."
            .to_owned(),
        ScrapeCause::TlsNoCertificate => no_certificate(input, node),
        ScrapeCause::TlsUnknownCa => unknown_ca(),
        ScrapeCause::TlsNameMismatch => "Issue a serving certificate that contains the Node's name or address as a \
                                         subject alternative name: set serverTLSBootstrap: true in the \
                                         KubeletConfiguration to request one, or set tlsCertFile."
            .to_owned(),
        ScrapeCause::TlsExpired => "Renew the kubelet's serving certificate: restart the kubelet, approve its \
                                    CertificateSigningRequest (`kubectl get csr`), or replace tlsCertFile. Check that the \
                                    clocks are correct."
            .to_owned(),
        ScrapeCause::TlsPinMismatch => format!(
            "If the kubelet's certificate was replaced on purpose, run `kubectl rollout restart \
             deployment/{METRICS_CORE} --namespace {namespace}` to clear the pins. If not, another host may \
             impersonate node {node}: inspect the node."
        ),
        ScrapeCause::TlsOther => format!("Check the kubelet's log on node {node} (`journalctl -u kubelet`)."),
        ScrapeCause::Unauthorized => "Set authentication.webhook.enabled: true in the KubeletConfiguration and \
                                      restart the kubelet. On a managed cluster, ask the provider to do this."
            .to_owned(),
        ScrapeCause::Forbidden => format!(
            "The operator maintains ClusterRole and {}, and a kubelet caches denials for 30 s and permissions for 5 \
             min. If the error persists, run `kubectl auth can-i get nodes --subresource=metrics \
             --as=system:serviceaccount:{namespace}:{METRICS_CORE}`. If that prints yes, check authorization.mode in \
             the KubeletConfiguration.",
            ManagedObject::CollectorBinding.describe(namespace)
        ),
        ScrapeCause::NotFound | ScrapeCause::HttpStatus | ScrapeCause::BodyTooLarge | ScrapeCause::InvalidBody => format!(
            "Run `kubectl get --raw /api/v1/nodes/{node}/proxy/metrics/resource` to see the response. metrics-core \
             requires kubelet 1.27 or newer."
        ),
        ScrapeCause::ScrapeError => format!(
            "Check the kubelet's log on the node (`journalctl -u kubelet`) for errors of the stats provider, and that \
             the container runtime responds (`crictl stats`). `kubectl get --raw \
             /api/v1/nodes/{node}/proxy/metrics/resource` shows the response."
        ),
        ScrapeCause::FileUnreadable | ScrapeCause::NodeDeleted | ScrapeCause::Other => {
            format!("Run `kubectl logs deployment/{METRICS_CORE} --namespace {namespace}` for details.")
        }
    }
}

/// The kubelet waits for a certificate, so something must approve its request.
fn no_certificate(input: DiagnosisInput<'_>, node: &str) -> String {
    let by_hand = format!(
        "List the requests with `kubectl get csr --field-selector spec.signerName={SIGNER}`, compare their names and \
         addresses with the Node, and run `kubectl certificate approve NAME`."
    );
    if input.spec.metrics_core.kubelet.tls.csr_approval == CsrApproval::Exact {
        return format!(
            "The operator approves requests that match their Node (spec.metricsCore.kubelet.tls.csrApproval is Exact). \
             `kubectl get events --namespace default --field-selector reason=CertificateSigningRequestNotApproved` \
             shows why it did not approve one. {by_hand} If node {node} has no request, check the kubelet's log \
             (`journalctl -u kubelet`)."
        );
    }
    format!(
        "The kubelet has serverTLSBootstrap: true and waits for its CertificateSigningRequest. {by_hand} The operator \
         approves requests that match their Node with the chart value {}=true and \
         spec.metricsCore.kubelet.tls.csrApproval: Exact. If node {node} has no request, check the kubelet's log \
         (`journalctl -u kubelet`).",
        OptionalPermission::CsrApproval.chart_value()
    )
}

/// Lists the remedies, the best one first.
fn unknown_ca() -> String {
    "By default kubelets use self-signed serving certificates (for example with kubeadm). Recommended: set \
     serverTLSBootstrap: true in the KubeletConfiguration, restart the kubelet and approve its \
     CertificateSigningRequest (`kubectl get csr`, `kubectl certificate approve NAME`). The operator approves it with \
     the chart value csrApproval.enabled=true and spec.metricsCore.kubelet.tls.csrApproval: Exact. If another CA \
     signed the certificate, name that CA in spec.metricsCore.kubelet.tls.certificateAuthority. Otherwise set \
     spec.metricsCore.kubelet.tls.mode to Pin (trust on first use), or as a last resort to Insecure (no \
     verification)."
        .to_owned()
}
