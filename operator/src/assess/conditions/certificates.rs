//! `CertificatesReady`: the CA and the serving certificate exist and are valid.

use crds::{ConditionType, FrontProxyDeletion, FrontProxyMode, MetricsPipelineSpec, Reason};
use jiff::{SignedDuration, Timestamp};

use super::{Condition, ConditionStatus, Evidence};
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;
use crate::pki::{self, Rollover};

/// A step of the replacement of a CA takes about a minute: until every kube-apiserver knows the new CA, or until the kubelets
/// have updated the Secret in every replica. One that takes this long does not finish by itself.
const STEP: SignedDuration = SignedDuration::from_mins(10);

/// Returns the objects of the certificates that the spec requests.
pub(super) fn objects(spec: &MetricsPipelineSpec) -> Vec<ManagedObject> {
    let mut objects = vec![ManagedObject::CaSecret, ManagedObject::ServingSecret, ManagedObject::ConfigMap];
    if spec.certificates.front_proxy.mode == FrontProxyMode::Issue {
        objects.extend(ManagedObject::FRONT_PROXY);
    }
    if pki::cert_manager::requested(spec).is_some() {
        // A missing Certificate explains what follows from it.
        objects.insert(0, ManagedObject::Certificate);
    }
    objects
}

pub(super) fn evaluate(evidence: Evidence<'_>) -> Condition {
    let of = ConditionType::CertificatesReady;
    if let Some(problem) = evidence.problem(&objects(evidence.spec)) {
        return Condition::problem(of, problem);
    }
    let Some(plan) = &evidence.plan.certificates else {
        return Condition::new(
            of,
            ConditionStatus::Unknown,
            Reason::Progressing,
            "The operator has not evaluated the certificates yet.",
        );
    };
    let serving = &plan.serving_certificate;
    let ca = &plan.ca_certificate;
    let valid = format!("{}{}", validity(evidence, plan), front_proxy(evidence));
    if let Some(problem) = &evidence.plan.not_issued {
        let status = match problem.reason {
            Reason::CertificateNotIssued | Reason::Progressing | Reason::WaitingForDependency => {
                ConditionStatus::True
            }
            _ => ConditionStatus::False,
        };
        let message = format!(
            "{} metrics-core continues to serve the previous certificate, which is valid until {}; its CA is valid \
            until {}.",
            problem.message, serving.not_after, ca.not_after
        );
        return Condition::new(of, status, problem.reason, message);
    }
    match plan.rollover {
        Rollover::Settled if plan.ca.is_none() && plan.expires_soon(evidence.now) => Condition::new(
            of,
            ConditionStatus::True,
            Reason::CertificateExpiring,
            format!(
                "Less than a tenth of the validity of the serving certificate or of its chain remains: renew it at its source. \
                 {valid}"
            ),
        ),
        Rollover::Settled if evidence.plan.front_proxy.as_ref().is_some_and(|plan| plan.waits) => {
            Condition::new(
                of,
                ConditionStatus::True,
                Reason::FrontProxyFilesOutdated,
                format!(
                    "The front-proxy CA is being replaced, but kube-apiserver does not publish the new CA yet. Copy \
                     ca.crt, tls.crt and tls.key of {} to every control-plane node. `kubectl get {} --output \
                     go-template='{{{{index .data \"steps.txt\"}}}}'` prints the steps. {valid}",
                    ManagedObject::FrontProxySecret.describe(evidence.namespace),
                    ManagedObject::FrontProxyFlags.kubectl(evidence.namespace),
                ),
            )
        }
        Rollover::Settled => Condition::new(of, ConditionStatus::True, Reason::AsExpected, valid),
        Rollover::Trusting if is_overdue(ca.issued(), evidence) => stalled(
            "the APIServices still do not announce the new CA, so metrics-core serves the old certificate. See \
             APIServiceAvailable for the cause",
            "If it reports none, run `kubectl get apiservices v1beta1.metrics.k8s.io v1.metrics.k8s.io -o yaml` and compare \
             caBundle with the CA's Secret.",
            &valid,
        ),
        Rollover::Trusting => Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!(
                "The CA is being replaced: the APIServices trust the old CA and the new CA. The new CA issues the \
                 serving certificate once every APIService has it. {valid}"
            ),
        ),
        Rollover::Retiring if is_overdue(serving.issued(), evidence) => stalled(
            &format!(
                "the old CA stays trusted because not every replica serves the new certificate: {}",
                lack(evidence)
            ),
            &format!(
                "Allow the operator to connect to the pods, or run `kubectl rollout restart deployment/{} --namespace {}`.",
                ManagedObject::Deployment.name(),
                evidence.namespace
            ),
            &valid,
        ),
        Rollover::Retiring => Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!(
                "The CA is being replaced: the new CA issued the serving certificate. The old CA stays trusted until \
                 every replica serves the new certificate ({}). {valid}",
                lack(evidence)
            ),
        ),
    }
}

/// Whether a step of the replacement of a CA that began with the issue of a certificate takes too long.
fn is_overdue(issued: Timestamp, evidence: Evidence<'_>) -> bool {
    evidence.now.duration_since(issued) > STEP
}

/// Returns the warning about the replacement of a CA that does not finish. Metrics are served meanwhile.
fn stalled(why: &str, remedy: &str, valid: &str) -> Condition {
    let minutes = STEP.as_mins();
    Condition::new(
        ConditionType::CertificatesReady,
        ConditionStatus::True,
        Reason::CARotationStalled,
        format!(
            "The CA is being replaced, and the current step has taken longer than {minutes} min: {why}. {remedy} {valid}"
        ),
    )
}

/// Describes the source of the serving certificate and how long it and its CA are valid.
fn validity(evidence: Evidence<'_>, plan: &pki::ServingPlan) -> String {
    let (serving, ca) = (&plan.serving_certificate, &plan.ca_certificate);
    let requested = pki::cert_manager::requested(evidence.spec);
    match (requested, &evidence.spec.certificates.secret_ref) {
        (Some(requested), _) => {
            let certificate = evidence.observed.object(ManagedObject::Certificate);
            let renewal = certificate.and_then(pki::cert_manager::renewal_time);
            format!(
                "cert-manager issued the serving certificate for {} with {} {}. It is valid until {}{}; its CA is \
                valid until {}.",
                ManagedObject::Certificate.describe(evidence.namespace),
                requested.issuer_ref.kind,
                requested.issuer_ref.name,
                serving.not_after,
                renewal.map_or_else(String::new, |time| format!(" and renewed at {time}")),
                ca.not_after,
            )
        }
        (None, None) => format!(
            "The serving certificate is valid until {} and is renewed at {}. The CA is valid until {} and is renewed \
            at {}.",
            serving.not_after,
            serving.renewal_time(),
            ca.not_after,
            ca.renewal_time(),
        ),
        (None, Some(secret)) => format!(
            "The serving certificate comes from Secret {}/{}, whose owner renews it. It is valid until {}; its CA is \
            valid until {}.",
            evidence.namespace, secret.name, serving.not_after, ca.not_after,
        ),
    }
}

/// Describes the front proxy's certificates, with a leading space; empty if there are none.
fn front_proxy(evidence: Evidence<'_>) -> String {
    let spec = &evidence.spec.certificates.front_proxy;
    let secret = ManagedObject::FrontProxySecret.describe(evidence.namespace);
    let stays = match spec.on_deletion {
        FrontProxyDeletion::Keep => {
            " The certificate and its CA are kept when the MetricsPipeline is deleted."
        }
        FrontProxyDeletion::Delete => "",
    };
    match &evidence.plan.front_proxy {
        Some(plan) => format!(
            " The front-proxy certificate ({secret}) is valid until {} and is renewed at {}; its CA is valid until {}. {} \
             contains the flags of kube-apiserver for it.{stays}",
            plan.client_certificate.not_after,
            plan.client_certificate.renewal_time(),
            plan.ca_certificate.not_after,
            ManagedObject::FrontProxyFlags.describe(evidence.namespace),
        ),
        None if evidence.observed.object(ManagedObject::FrontProxySecret).is_some_and(is_ours) => format!(
            " {secret} is kept because a kube-apiserver may depend on it, but it is no longer renewed \
             (spec.certificates.frontProxy.mode is Off)."
        ),
        None => String::new(),
    }
}

/// Describes which replica is not yet known to serve the new certificate.
fn lack(evidence: Evidence<'_>) -> String {
    let lack = evidence.observed.proof.as_ref().and_then(|proof| proof.lack(&evidence.observed.pods));
    lack.unwrap_or_else(|| "the replicas have not been checked yet".to_owned())
}

#[cfg(test)]
mod tests;
