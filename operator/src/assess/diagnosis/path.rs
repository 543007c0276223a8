//! Whether kube-apiserver gets through to the pods of metrics-core.

use crds::Reason;
use crds::front_proxy::{CONFIG_MAP, NAMESPACE};

use super::network_policy::{self, Direction, PolicyEffect};
use super::{Cause, DiagnosisInput, Symptoms};
use crate::common::names::PORT_NAME;
use crate::common::normalize::quote;
use crate::common::{METRICS_CORE, ManagedObject};
use crate::observe::ReportError;

/// `Available`'s reasons that tell of the Service and its endpoints, before any connection is tried.
const WITHOUT_ENDPOINTS: [&str; 6] = [
    "ServiceNotFound",
    "EndpointsNotFound",
    "MissingEndpoints",
    "ServicePortError",
    "ServiceAccessError",
    "EndpointsAccessError",
];

/// What kube-apiserver's words mean (Go's net, crypto/tls and apiserver's own).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Certificate,
    Lost,
    Refused,
    Other,
}

fn kind(words: &str) -> Kind {
    let any = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if any(&["x509:", "tls: failed to verify", "tls: bad certificate", "certificate signed by unknown"]) {
        Kind::Certificate
    } else if any(&["connection refused"]) {
        Kind::Refused
    } else if any(&[
        "i/o timeout",
        "deadline exceeded",
        "Client.Timeout",
        "client connection lost",
        "no route to host",
        "timed out",
        "no answer within",
        "504",
    ]) {
        Kind::Lost
    } else {
        Kind::Other
    }
}

/// What is wrong.
pub(super) fn diagnose(facts: DiagnosisInput<'_>, symptoms: &Symptoms) -> Option<Cause> {
    if !symptoms.broken() {
        return None;
    }
    let words = symptoms.all_messages();
    if let Some(said) = &symptoms.unavailable
        && WITHOUT_ENDPOINTS.contains(&said.reason.as_str())
    {
        return Some(Cause::fault(
            Reason::MissingEndpoints,
            format!(
                "{} has no ready pod of metrics-core behind it.",
                ManagedObject::Service.describe(facts.namespace)
            ),
            format!("kube-apiserver says {} \"{}\".", said.reason, super::said(facts, &said.message)),
            "DeploymentAvailable says why no pod is ready.",
        ));
    }
    let kind_of_all = kind(&words);
    // One saying is evidence enough, and does not change with every request.
    let words = symptoms.messages().find(|saying| kind(saying) == kind_of_all).unwrap_or(&words);
    match kind_of_all {
        Kind::Certificate => Some(certificate(facts, symptoms, words)),
        Kind::Lost => Some(lost(facts, symptoms, words)),
        Kind::Refused => Some(Cause::fault(
            Reason::FailedDiscoveryCheck,
            "Nothing listens where kube-apiserver is led to.",
            format!("kube-apiserver says: \"{}\".", super::said(facts, words)),
            format!(
                "See whether pods run with `kubectl get pods --selector app.kubernetes.io/name={METRICS_CORE} --namespace {} -o \
                 wide`, and whether something rewrites the way to them (a proxy, a rule of the node's firewall).",
                facts.namespace
            ),
        )),
        Kind::Other => symptoms.unavailable.as_ref().map(|said| other(facts, symptoms, said)),
    }
}

fn certificate(facts: DiagnosisInput<'_>, symptoms: &Symptoms, words: &str) -> Cause {
    let untrusted: Vec<_> = facts
        .observed
        .replicas
        .iter()
        .filter_map(|replica| match &replica.report {
            Err(ReportError::Untrusted(why)) => Some(format!("pod {} ({})", replica.pod, quote(why))),
            _ => None,
        })
        .collect();
    let seen = if !untrusted.is_empty() {
        format!(" The operator does not accept it either: {}.", untrusted.join(", "))
    } else if symptoms.reported {
        " The operator, which asks the pods directly, accepts their certificates with the same CA: so what stands between \
         kube-apiserver and the pods, or an older caBundle, is to blame."
            .to_owned()
    } else {
        String::new()
    };
    let alerts =
        symptoms.alerts.map_or("", |_| " The replicas count clients that refused their certificate.");
    Cause::fault(
        Reason::ServingCertificateMismatch,
        "kube-apiserver does not accept the certificate that metrics-core serves.",
        format!("It says: \"{}\".{seen}{alerts}", super::said(facts, words)),
        format!(
            "Compare caBundle (`kubectl get apiservice v1beta1.metrics.k8s.io -o yaml`) with Secret {0}/{1}; if a replica serves an \
             old certificate, run `kubectl rollout restart deployment/{METRICS_CORE} --namespace {0}`.",
            facts.namespace,
            ManagedObject::ServingSecret.name()
        ),
    )
}

fn lost(facts: DiagnosisInput<'_>, symptoms: &Symptoms, words: &str) -> Cause {
    let port = facts.spec.metrics_core.secure_port;
    let says = format!("kube-apiserver says: \"{}\".", super::said(facts, words));
    let runs = if symptoms.reported {
        " The pods answer the operator on that port, so they run and serve."
    } else {
        ""
    };
    let on_node = facts.spec.metrics_core.scheduling.host_network;
    let policies = facts.observed.network_policies.as_ref().filter(|_| !on_node).map(|policies| {
        let labels = super::pod_labels(facts);
        network_policy::evaluate(policies, &labels, Direction::Ingress, (port, Some(PORT_NAME)))
    });
    let admit = |names: &[String]| {
        format!(
            "Let everyone reach TCP port {port} of the pods with the label app.kubernetes.io/name={METRICS_CORE}, as \
             kube-apiserver is no pod (a rule with `ports` and without `from`), or change {}: `kubectl edit networkpolicy {} \
             --namespace {}`.",
            names.join(", "),
            names.first().and_then(|name| name.split_once('/')).map_or("", |(_, name)| name),
            facts.namespace
        )
    };
    match policies {
        Some(PolicyEffect::Blocked(names)) => Cause::fault(
            Reason::BlockedByNetworkPolicy,
            format!("NetworkPolicy {} keeps kube-apiserver from the pods of metrics-core.", names.join(", ")),
            format!("No rule admits on port {port} who is no pod. {says}{runs}"),
            admit(&names),
        ),
        Some(PolicyEffect::Depends(names)) => Cause::fault(
            Reason::Unreachable,
            format!("Packets between kube-apiserver and the pods of metrics-core are lost on port {port}."),
            format!(
                "{says}{runs} NetworkPolicy {} admits some addresses only; whether kube-apiserver's is among them can't be seen \
                 from here.",
                names.join(", ")
            ),
            admit(&names),
        ),
        verdict => {
            let ruled_out = match verdict {
                Some(_) => format!(
                    " No NetworkPolicy in namespace {} keeps it out, so it is not that.",
                    facts.namespace
                ),
                None if on_node => " NetworkPolicies do not hold for pods on the node's network.".to_owned(),
                None => " NetworkPolicies could not be read.".to_owned(),
            };
            Cause::fault(
                Reason::Unreachable,
                format!(
                    "Packets between kube-apiserver and the pods of metrics-core are lost on port {port}."
                ),
                format!("{says}{runs}{ruled_out}"),
                format!(
                    "Let the control plane reach the nodes and pods on TCP port {port} (on private GKE, AKS and EKS clusters by a \
                     firewall rule or security group), or set spec.metricsCore.scheduling.hostNetwork where it has no route to \
                     pods. If kube-apiserver's machine has no kube-proxy, it needs --enable-aggregator-routing=true."
                ),
            )
        }
    }
}

/// What kube-apiserver says is no known pattern, or what it is known to mean was ruled out.
fn other(facts: DiagnosisInput<'_>, symptoms: &Symptoms, said: &crate::observe::Unavailable) -> Cause {
    let answers = if symptoms.accepted.is_some() {
        format!(
            " metrics-core accepted kube-apiserver as the front proxy lately, so it is neither the proxy certificate nor \
             ConfigMap {NAMESPACE}/{CONFIG_MAP}."
        )
    } else if symptoms.reported {
        " The replicas saw neither a certificate that they refused nor a request without one, so it is hardly the proxy \
         certificate."
            .to_owned()
    } else {
        format!(" {}", facts.observed.why_no_report().unwrap_or_default())
    };
    Cause::fault(
        Reason::FailedDiscoveryCheck,
        format!("{} is not available, and why is not known.", said.object.describe(facts.namespace)),
        format!("kube-apiserver says {} \"{}\".{answers}", said.reason, super::said(facts, &said.message)),
        format!(
            "See `kubectl logs deployment/{METRICS_CORE} --namespace {}` and the log of kube-apiserver.",
            facts.namespace
        ),
    )
}
