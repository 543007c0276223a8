//! CA and serving certificate exist, are valid and are not due for renewal.

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
    if pki::cert_manager::asked(evidence.spec).is_some() {
        // What keeps it from being asked comes before what follows from that.
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
            "The certificates are being looked at.",
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
            "{} What was issued before is served meanwhile: it is valid until {}, and its CA until {}.",
            problem.message, serving.not_after, ca.not_after
        );
        return Condition::new(of, status, problem.reason, message);
    }
    match plan.rollover {
        Rollover::Settled if plan.ca.is_none() && serving.expires_soon(evidence.now) => Condition::new(
            of,
            ConditionStatus::True,
            Reason::CertificateExpiring,
            format!(
                "Less than a tenth of the serving certificate's validity is left: see that it is renewed. {valid}"
            ),
        ),
        Rollover::Settled if evidence.plan.front_proxy.as_ref().is_some_and(|plan| plan.waits) => {
            Condition::new(
                of,
                ConditionStatus::True,
                Reason::FrontProxyFilesOutdated,
                format!(
                    "The front-proxy CA is being replaced, and kube-apiserver does not publish the new one yet. Write ca.crt, tls.crt \
                 and tls.key of {} to every control-plane node: `kubectl get {} --output go-template='{{{{index .data \
                 \"steps.txt\"}}}}'` says how. {valid}",
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
                "The CA is being replaced: old and new are both trusted, and once every APIService holds the new one, the \
                 serving certificate is issued by it. {valid}"
            ),
        ),
        Rollover::Retiring => Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!(
                "The CA is being replaced: the serving certificate is of the new one, and the old one stays trusted until \
                 every replica is proven to serve it ({}). {valid}",
                lack(evidence)
            ),
        ),
    }
}

/// Whose the certificate is, and until when it and its CA are valid.
fn validity(evidence: Evidence<'_>, plan: &pki::Plan) -> String {
    let (serving, ca) = (&plan.serving_certificate, &plan.ca_certificate);
    let asked = pki::cert_manager::asked(evidence.spec);
    match (asked, &evidence.spec.certificates.secret_ref) {
        (Some(asked), _) => {
            let certificate = evidence.observed.object(ManagedObject::Certificate);
            let renewal = certificate.and_then(pki::cert_manager::renewal_time);
            format!(
                "The serving certificate is cert-manager's, by {} of {} {}: it is valid until {}{}, and its CA until {}.",
                ManagedObject::Certificate.describe(evidence.namespace),
                asked.issuer_ref.kind,
                asked.issuer_ref.name,
                serving.not_after,
                renewal.map_or_else(String::new, |time| format!(" and renewed at {time}")),
                ca.not_after,
            )
        }
        (None, None) => format!(
            "The serving certificate is valid until {} and is renewed at {}; the CA until {} and {}.",
            serving.not_after,
            serving.renewal_time(),
            ca.not_after,
            ca.renewal_time(),
        ),
        (None, Some(secret)) => format!(
            "The serving certificate is that of Secret {}/{}, whose owner renews it: it is valid until {}, and its CA until {}.",
            evidence.namespace, secret.name, serving.not_after, ca.not_after,
        ),
    }
}

/// What is to be said of the front proxy's certificates, with a blank before it.
fn front_proxy(evidence: Evidence<'_>) -> String {
    let spec = &evidence.spec.certificates.front_proxy;
    let secret = ManagedObject::FrontProxySecret.describe(evidence.namespace);
    let stays = match spec.on_deletion {
        FrontProxyDeletion::Keep => " It and its CA stay when the MetricsPipeline is deleted.",
        FrontProxyDeletion::Delete => "",
    };
    match &evidence.plan.front_proxy {
        Some(plan) => format!(
            " The front-proxy certificate ({secret}) is valid until {} and is renewed at {}; its CA until {}. kube-apiserver's \
             flags for it are in {}.{stays}",
            plan.client_certificate.not_after,
            plan.client_certificate.renewal_time(),
            plan.ca_certificate.not_after,
            ManagedObject::FrontProxyFlags.describe(evidence.namespace),
        ),
        None if evidence.observed.object(ManagedObject::FrontProxySecret).is_some_and(is_ours) => format!(
            " {secret} is kept, as a kube-apiserver may depend on it, but is not renewed any more \
             (certificates.frontProxy.mode is Off)."
        ),
        None => String::new(),
    }
}

/// What the proof waits for.
fn lack(evidence: Evidence<'_>) -> String {
    let lack = evidence.observed.proof.as_ref().and_then(|proof| proof.lack(&evidence.observed.pods));
    lack.unwrap_or_else(|| "they are being looked at".to_owned())
}
