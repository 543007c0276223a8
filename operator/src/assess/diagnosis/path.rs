//! Diagnoses whether kube-apiserver reaches the pods of metrics-core.

use crds::Reason;
use crds::extension_apiserver_authentication::{CONFIG_MAP, NAMESPACE};

use super::network_policy::{self, Direction, PolicyEffect};
use super::{Cause, Symptoms};
use crate::assess::DiagnosisInput;
use crate::common::names::PORT_NAME;
use crate::common::normalize::quote;
use crate::common::{METRICS_CORE, ManagedObject};
use crate::observe::ReportError;

/// Reasons of the condition `Available` that concern the Service and its endpoints; no connection was tried.
const WITHOUT_ENDPOINTS: [&str; 6] = [
    "ServiceNotFound",
    "EndpointsNotFound",
    "MissingEndpoints",
    "ServicePortError",
    "ServiceAccessError",
    "EndpointsAccessError",
];

/// Classifies an error message of kube-apiserver (from Go's net and crypto/tls, and from apiserver itself).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorClass {
    Certificate,
    Unreachable,
    Refused,
    Other,
}

fn classify(error: &str) -> ErrorClass {
    let any = |parts: &[&str]| parts.iter().any(|part| error.contains(part));
    if any(&["x509:", "tls: failed to verify", "tls: bad certificate", "certificate signed by unknown"]) {
        ErrorClass::Certificate
    } else if any(&["connection refused"]) {
        ErrorClass::Refused
    } else if any(&[
        "i/o timeout",
        "deadline exceeded",
        "Client.Timeout",
        "client connection lost",
        "no route to host",
        "timed out",
        "no response within",
    ]) {
        ErrorClass::Unreachable
    } else {
        ErrorClass::Other
    }
}

/// Returns the fault, if any.
pub(super) fn diagnose(input: DiagnosisInput<'_>, symptoms: &Symptoms) -> Option<Cause> {
    if !symptoms.broken() {
        return None;
    }
    let error = symptoms.all_messages();
    if let Some(unavailable) = &symptoms.unavailable
        && WITHOUT_ENDPOINTS.contains(&unavailable.reason.as_str())
    {
        return Some(Cause::fault(
            Reason::MissingEndpoints,
            format!("{} has no ready endpoints.", ManagedObject::Service.describe(input.namespace)),
            format!(
                "kube-apiserver reports {}: \"{}\".",
                unavailable.reason,
                super::quote_apiserver(input, &unavailable.message)
            ),
            "See DeploymentAvailable for the cause.",
        ));
    }
    let class = match classify(&error) {
        // The gateway timeout of kube-apiserver, whose text says nothing.
        ErrorClass::Other if symptoms.has_code(504) => ErrorClass::Unreachable,
        class => class,
    };
    // One message of that kind is enough evidence, and the first does not change with every request.
    let error = symptoms.messages().find(|message| classify(message) == class).unwrap_or(&error);
    match class {
        ErrorClass::Certificate => Some(certificate(input, symptoms, error)),
        ErrorClass::Unreachable => Some(unreachable(input, symptoms, error)),
        ErrorClass::Refused => Some(Cause::fault(
            Reason::FailedDiscoveryCheck,
            "Connections from kube-apiserver to metrics-core are refused.",
            format!("kube-apiserver reports: \"{}\".", super::quote_apiserver(input, error)),
            format!(
                "Run `kubectl get pods --selector app.kubernetes.io/name={METRICS_CORE} --namespace {} -o wide` to \
                 check that pods run. Check whether a proxy or a firewall rule of the node redirects the connections.",
                input.namespace
            ),
        )),
        ErrorClass::Other => {
            symptoms.unavailable.as_ref().map(|unavailable| other(input, symptoms, unavailable))
        }
    }
}

fn certificate(input: DiagnosisInput<'_>, symptoms: &Symptoms, error: &str) -> Cause {
    let untrusted: Vec<_> = input
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
        " The operator connects to the pods directly and accepts their certificates with the same CA. The cause is \
         therefore a proxy between kube-apiserver and the pods, or an outdated caBundle."
            .to_owned()
    } else {
        String::new()
    };
    let alerts =
        symptoms.alerts.map_or("", |_| " The replicas report clients that rejected their certificate.");
    Cause::fault(
        Reason::ServingCertificateMismatch,
        "kube-apiserver does not accept the serving certificate of metrics-core.",
        format!("kube-apiserver reports: \"{}\".{seen}{alerts}", super::quote_apiserver(input, error)),
        format!(
            "Compare caBundle (`kubectl get apiservice v1beta1.metrics.k8s.io -o yaml`) with Secret {0}/{1}. If a \
             replica serves an old certificate, run `kubectl rollout restart deployment/{METRICS_CORE} --namespace \
             {0}`.",
            input.namespace,
            ManagedObject::ServingSecret.name()
        ),
    )
}

fn unreachable(input: DiagnosisInput<'_>, symptoms: &Symptoms, error: &str) -> Cause {
    let port = input.spec.metrics_core.secure_port_or_default();
    let reported = format!("kube-apiserver reports: \"{}\".", super::quote_apiserver(input, error));
    let runs = if symptoms.reported {
        " The pods respond to the operator on that port, so they run and serve."
    } else {
        ""
    };
    let on_node = input.spec.metrics_core.scheduling.host_network;
    let policies = input.observed.network_policies.as_ref().filter(|_| !on_node).map(|policies| {
        let labels = super::pod_labels(input);
        network_policy::evaluate(policies, &labels, Direction::Ingress, (port, Some(PORT_NAME)))
    });
    let admit = |names: &[String]| {
        format!(
            "Allow TCP port {port} of the pods with the label app.kubernetes.io/name={METRICS_CORE} from every source \
             (a rule with `ports` and without `from`), because kube-apiserver is not a pod. Add such a policy or \
             change {}: `kubectl edit networkpolicy {} --namespace {}`.",
            names.join(", "),
            names.first().and_then(|name| name.split_once('/')).map_or("", |(_, name)| name),
            input.namespace
        )
    };
    match policies {
        Some(PolicyEffect::Blocked(names)) => Cause::fault(
            Reason::BlockedByNetworkPolicy,
            format!(
                "NetworkPolicy {} blocks traffic from kube-apiserver to the pods of metrics-core.",
                names.join(", ")
            ),
            format!("No rule allows sources that are not pods on port {port}. {reported}{runs}"),
            admit(&names),
        ),
        Some(PolicyEffect::Depends(names)) => Cause::fault(
            Reason::Unreachable,
            format!("kube-apiserver cannot reach the pods of metrics-core on port {port}."),
            format!(
                "{reported}{runs} NetworkPolicy {} allows some addresses only, and the operator cannot determine \
                 whether the address of kube-apiserver is one of them.",
                names.join(", ")
            ),
            admit(&names),
        ),
        verdict => {
            let ruled_out = match verdict {
                Some(_) => format!(
                    " No NetworkPolicy in namespace {} blocks this traffic, so NetworkPolicy is not the cause.",
                    input.namespace
                ),
                None if on_node => " NetworkPolicies do not apply to pods with hostNetwork.".to_owned(),
                None => " NetworkPolicies could not be read.".to_owned(),
            };
            Cause::fault(
                Reason::Unreachable,
                format!("kube-apiserver cannot reach the pods of metrics-core on port {port}."),
                format!("{reported}{runs}{ruled_out}"),
                format!(
                    "Allow the control plane to reach nodes and pods on TCP port {port} (on private GKE, AKS and EKS \
                     clusters with a firewall rule or security group). If it has no route to pods, set \
                     spec.metricsCore.scheduling.hostNetwork to true. If its machine runs no kube-proxy, start \
                     kube-apiserver with --enable-aggregator-routing=true."
                ),
            )
        }
    }
}

/// Reports an error whose pattern is unknown, or whose usual causes were ruled out.
fn other(input: DiagnosisInput<'_>, symptoms: &Symptoms, unavailable: &crate::observe::Unavailable) -> Cause {
    let ruled_out = if symptoms.accepted.is_some() {
        format!(
            " metrics-core recently accepted kube-apiserver as the front proxy, so neither the proxy certificate nor \
             ConfigMap {NAMESPACE}/{CONFIG_MAP} is the cause."
        )
    } else if symptoms.reported {
        " The replicas report no rejected certificate and no request without a certificate, so the proxy certificate is \
             probably not the cause."
            .to_owned()
    } else {
        format!(" {}", input.observed.why_no_report().unwrap_or_default())
    };
    Cause::fault(
        Reason::FailedDiscoveryCheck,
        format!(
            "{} is not available, and the cause is unknown.",
            unavailable.object.describe(input.namespace)
        ),
        format!(
            "kube-apiserver reports {}: \"{}\".{ruled_out}",
            unavailable.reason,
            super::quote_apiserver(input, &unavailable.message)
        ),
        format!(
            "Run `kubectl logs deployment/{METRICS_CORE} --namespace {}` and check the log of kube-apiserver.",
            input.namespace
        ),
    )
}
