//! `CertificatesReady`: the CA and the serving certificate exist and are valid.

use crds::{ConditionType, FrontProxyDeletion, FrontProxyMode, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;
use crate::pki::{self, Rollover};

pub(super) fn evaluate(evidence: Evidence<'_>) -> Condition {
    let of = ConditionType::CertificatesReady;
    let mut objects = vec![ManagedObject::CaSecret, ManagedObject::ServingSecret, ManagedObject::ConfigMap];
    if evidence.spec.certificates.front_proxy.mode == FrontProxyMode::Issue {
        objects.extend(ManagedObject::FRONT_PROXY);
    }
    if pki::cert_manager::requested(evidence.spec).is_some() {
        // A missing Certificate explains what follows from it.
        objects.insert(0, ManagedObject::Certificate);
    }
    if let Some(problem) = evidence.problem(&objects) {
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
        Rollover::Trusting => Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!(
                "The CA is being replaced: the APIServices trust the old CA and the new CA. The new CA issues the \
                 serving certificate once every APIService has it. {valid}"
            ),
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
