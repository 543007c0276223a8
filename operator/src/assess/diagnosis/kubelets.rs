//! Why kubelets do not answer metrics-core, from what the replicas tell.

use crds::cause::ScrapeCause;
use crds::{KubeletTlsMode, Reason};

use super::network_policy::{self, Direction, PolicyEffect};
use super::{Cause, DiagnosisInput, Severity};
use crate::common::normalize::quote;
use crate::common::{METRICS_CORE, ManagedObject};
use crate::observe::FailingNodes;

/// The kubelet's port where no Node tells another.
const KUBELET_PORT: i32 = 10250;

/// What is wrong, or to be warned of: the cause of most nodes, and a word of the others.
pub(super) fn diagnose(facts: DiagnosisInput<'_>) -> Option<Cause> {
    let failing = &facts.observed.facts.failing;
    let insecure = facts.spec.metrics_core.kubelet.tls.mode == KubeletTlsMode::Insecure;
    let Some(worst) = failing.first() else {
        return insecure.then(not_verified);
    };
    let others: Vec<_> =
        failing.iter().skip(1).map(|other| format!("{}: {}", other.cause, other.describe())).collect();
    let mut cause = explain(facts, worst);
    if !others.is_empty() {
        cause.evidence = format!("{} Besides: {}.", cause.evidence, others.join("; "));
    }
    Some(cause)
}

/// One cause in words: of which nodes, what metrics-core says of one of them, and what to do.
#[must_use]
pub fn explain(facts: DiagnosisInput<'_>, failing: &FailingNodes) -> Cause {
    let example = failing.examples.first();
    let message = example.map_or("", |example| example.message.as_str());
    let address = example
        .and_then(|example| example.address.as_deref())
        .map(|address| format!(" at {}", quote(address)))
        .unwrap_or_default();
    let evidence = format!(
        "metrics-core says of node {}{address}: \"{}\".",
        example.map_or("", |example| example.node.as_str()),
        quote(message).trim_end_matches('.')
    );
    let (reason, what) = name(failing.cause);
    Cause {
        reason,
        severity: Severity::Fault,
        what: format!("{what}: {}.", failing.describe()),
        evidence: [evidence, extra(facts, failing.cause)].join(" ").trim_end().to_owned(),
        remedy: remedy(facts, failing),
    }
}

fn not_verified() -> Cause {
    Cause::warning(
        Reason::KubeletCertificatesNotVerified,
        "The kubelets' certificates are not verified: whoever can redirect a connection reads the token of metrics-core and \
         can tell it any metrics.",
        "spec.metricsCore.kubelet.tls.mode is Insecure.",
        "Set it to Verify; if the kubelets' certificates are self-signed, let the cluster sign them first (serverTLSBootstrap: \
         true in the KubeletConfiguration).",
    )
}

/// The reason and the cause in words.
#[must_use]
pub const fn name(cause: ScrapeCause) -> (Reason, &'static str) {
    match cause {
        ScrapeCause::NoAddress => {
            (Reason::KubeletAddressMissing, "Nodes have no address of a type that is asked for")
        }
        ScrapeCause::Dns => (Reason::KubeletDNSLookupFailed, "Names of nodes do not resolve"),
        ScrapeCause::ConnectionRefused => {
            (Reason::KubeletConnectionRefused, "Nothing listens on the kubelet's port")
        }
        ScrapeCause::Unreachable => (Reason::KubeletUnreachable, "There is no route to the kubelet"),
        ScrapeCause::Timeout => (Reason::KubeletTimeout, "No connection to the kubelet comes about in time"),
        ScrapeCause::SlowResponse => (Reason::KubeletTimeout, "The kubelet does not answer in time"),
        ScrapeCause::ConnectionClosed => {
            (Reason::KubeletConnectionClosed, "Connections to the kubelet break")
        }
        ScrapeCause::PlainHttp => {
            (Reason::KubeletPlainHTTP, "The kubelet's port speaks plain HTTP, and is asked over TLS")
        }
        ScrapeCause::TlsUnknownCa => {
            (Reason::KubeletCertificateUnknownCA, "Nobody who is trusted signed the kubelet's certificate")
        }
        ScrapeCause::TlsNameMismatch => (
            Reason::KubeletCertificateNameMismatch,
            "The kubelet's certificate bears none of the Node's names and addresses",
        ),
        ScrapeCause::TlsExpired => {
            (Reason::KubeletCertificateExpired, "The kubelet's certificate is expired or not valid yet")
        }
        ScrapeCause::TlsPinMismatch => {
            (Reason::KubeletCertificateChanged, "The kubelet shows another key than the one that was pinned")
        }
        ScrapeCause::TlsOther => (Reason::KubeletTLSFailed, "TLS with the kubelet fails"),
        ScrapeCause::Unauthorized => {
            (Reason::KubeletUnauthorized, "The kubelet does not accept the token of metrics-core (401)")
        }
        ScrapeCause::Forbidden => (
            Reason::KubeletForbidden,
            "The kubelet refuses metrics-core for lack of a right (403: get on nodes/metrics)",
        ),
        ScrapeCause::NotFound
        | ScrapeCause::HttpStatus
        | ScrapeCause::BodyTooLarge
        | ScrapeCause::InvalidBody => {
            (Reason::KubeletResponseInvalid, "The kubelet does not answer with resource metrics")
        }
        ScrapeCause::FileUnreadable | ScrapeCause::NodeDeleted | ScrapeCause::Other => {
            (Reason::KubeletScrapeFailed, "Kubelets can't be scraped")
        }
    }
}

/// What the cluster shows besides.
fn extra(facts: DiagnosisInput<'_>, cause: ScrapeCause) -> String {
    match cause {
        ScrapeCause::Timeout | ScrapeCause::Unreachable => {
            // They do not hold for pods on the node's network.
            let on_node = facts.spec.metrics_core.scheduling.host_network;
            let Some(policies) = facts.observed.network_policies.as_ref().filter(|_| !on_node) else {
                return String::new();
            };
            let port = facts.spec.metrics_core.kubelet.port.unwrap_or(KUBELET_PORT);
            match network_policy::evaluate(
                policies,
                &super::pod_labels(facts),
                Direction::Egress,
                (port, None),
            ) {
                PolicyEffect::Open => {
                    format!("No NetworkPolicy in namespace {} holds it back.", facts.namespace)
                }
                PolicyEffect::Blocked(names) => {
                    format!("NetworkPolicy {} lets metrics-core reach no kubelet.", names.join(", "))
                }
                PolicyEffect::Depends(names) => {
                    format!("NetworkPolicy {} lets metrics-core reach some addresses only.", names.join(", "))
                }
            }
        }
        ScrapeCause::TlsUnknownCa => match facts.observed.pending_kubelet_csrs {
            Some(0) | None => String::new(),
            Some(pending) => format!(
                "{pending} CertificateSigningRequests of kubelets (kubernetes.io/kubelet-serving) wait for an approval."
            ),
        },
        _ => String::new(),
    }
}

fn remedy(facts: DiagnosisInput<'_>, worst: &FailingNodes) -> String {
    let namespace = facts.namespace;
    let node = worst.examples.first().map_or("NODE", |example| example.node.as_str());
    match worst.cause {
        ScrapeCause::NoAddress => format!(
            "Add a type that the Node has to spec.metricsCore.kubelet.addressTypes: `kubectl get node {node} -o \
             jsonpath={{.status.addresses}}`."
        ),
        ScrapeCause::Dns => "Put InternalIP first in spec.metricsCore.kubelet.addressTypes, or have the cluster's DNS know the \
                             names of nodes."
            .to_owned(),
        ScrapeCause::ConnectionRefused => format!(
            "On the node see `systemctl status kubelet`; if it runs, see that spec.metricsCore.kubelet.port is its port \
             (`kubectl get node {node} -o jsonpath={{.status.daemonEndpoints}}`)."
        ),
        ScrapeCause::Unreachable | ScrapeCause::Timeout => format!(
            "See whether the node runs (`kubectl get node {node}`), and let pods reach its port {} (firewall, security group, \
             NetworkPolicy), or set spec.metricsCore.scheduling.hostNetwork.",
            facts.spec.metrics_core.kubelet.port.unwrap_or(KUBELET_PORT)
        ),
        ScrapeCause::SlowResponse | ScrapeCause::ConnectionClosed => format!(
            "On the node see how busy it is and the kubelet's log (`journalctl -u kubelet`); `kubectl get --raw \
             /api/v1/nodes/{node}/proxy/metrics/resource` asks it too. spec.metricsCore.kubelet.requestTimeout gives it longer."
        ),
        ScrapeCause::PlainHttp => "Remove spec.metricsCore.kubelet.port, or set it to the kubelet's HTTPS port (10250): 10255 is \
                                   its read-only port and speaks HTTP."
            .to_owned(),
        ScrapeCause::TlsUnknownCa => unknown_ca(),
        ScrapeCause::TlsNameMismatch => "Give the kubelet a certificate with the Node's name or address as a subject alternative \
                                         name: serverTLSBootstrap: true in its configuration asks for one, or set \
                                         tlsCertFile."
            .to_owned(),
        ScrapeCause::TlsExpired => "Renew the kubelet's serving certificate: restart the kubelet, approve its \
                                    CertificateSigningRequest (`kubectl get csr`), or replace tlsCertFile. See that the clocks are \
                                    right."
            .to_owned(),
        ScrapeCause::TlsPinMismatch => format!(
            "If the kubelet's certificate was replaced on purpose, delete the Node's pin (docs/diagnosis.md); if not, somebody may \
             stand between: look at node {node}."
        ),
        ScrapeCause::TlsOther => format!("See the kubelet's log on node {node} (`journalctl -u kubelet`)."),
        ScrapeCause::Unauthorized => "In the KubeletConfiguration set authentication.webhook.enabled: true and restart the kubelet. \
                                      On a managed cluster ask the provider to do so."
            .to_owned(),
        ScrapeCause::Forbidden => format!(
            "The operator keeps ClusterRole and {}; a kubelet remembers a refusal for 30 s and a permission for 5 min. If it lasts, \
             run `kubectl auth can-i get nodes --subresource=metrics --as=system:serviceaccount:{namespace}:{METRICS_CORE}`; \
             if that says yes, see authorization.mode in the KubeletConfiguration.",
            ManagedObject::CollectorBinding.describe(namespace)
        ),
        ScrapeCause::NotFound | ScrapeCause::HttpStatus | ScrapeCause::BodyTooLarge | ScrapeCause::InvalidBody => format!(
            "See what it answers: `kubectl get --raw /api/v1/nodes/{node}/proxy/metrics/resource`; metrics-core needs a kubelet of \
             1.27 or newer."
        ),
        ScrapeCause::FileUnreadable | ScrapeCause::NodeDeleted | ScrapeCause::Other => {
            format!("See `kubectl logs deployment/{METRICS_CORE} --namespace {namespace}`.")
        }
    }
}

/// In the order of what is best.
fn unknown_ca() -> String {
    "Kubelets sign their own certificates unless they are told otherwise (so with kubeadm). Best: set serverTLSBootstrap: true in \
     the KubeletConfiguration, restart the kubelet and approve its request (`kubectl get csr`, `kubectl certificate approve NAME`, \
     or the chart's value csrApproval.enabled and spec.metricsCore.kubelet.tls.csrApproval: Exact for the operator to do so). Else: if another CA signed them, name it in \
     spec.metricsCore.kubelet.tls.certificateAuthority; or set spec.metricsCore.kubelet.tls.mode to Pin, which trusts each kubelet's \
     key as it is first seen; last, Insecure, which verifies nothing."
        .to_owned()
}
