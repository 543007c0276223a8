//! Whether cert-manager issued the requested certificate, and why not.

use std::time::Duration;

use crds::{CertManagerSpec, Reason};
use jiff::Timestamp;

use crate::common::ManagedObject;
use crate::common::OptionalPermission;
use crate::common::Problem;
use crate::common::ownership::{is_ours, last_applied};
use crate::observe::{Found, Observed, ServingSource};
use crate::pki::cert_manager::{self, Issuance, SECRET};
use crate::settings::Settings;

/// For this time after a change, a certificate that is not issued is not a fault.
const ISSUING: Duration = Duration::from_secs(10);

/// Returns why no Certificate can be requested.
#[must_use]
pub(crate) fn obstacle(settings: &Settings, observed: &Observed) -> Option<Problem> {
    if !settings.permissions.has(OptionalPermission::CertManager) {
        return Some(
            OptionalPermission::CertManager
                .missing("spec.certificates.source: CertManager", &settings.namespace),
        );
    }
    matches!(observed.objects.get(&ManagedObject::Certificate), Some(Found::Unserved)).then(|| {
        Problem::new(
            Reason::CertManagerNotInstalled,
            "spec.certificates.source is CertManager, but kube-apiserver does not serve Certificates of \
             cert-manager.io/v1. Install cert-manager (https://cert-manager.io/docs/installation): `helm install \
             cert-manager oci://quay.io/jetstack/charts/cert-manager --namespace cert-manager --create-namespace \
             --set crds.enabled=true`. Or set spec.certificates.source to SelfSigned.",
        )
    })
}

/// Returns why cert-manager's certificate is not what the spec requests; `None` when it is.
#[must_use]
pub(crate) fn lack(
    cert_manager: &CertManagerSpec,
    settings: &Settings,
    observed: &Observed,
    now: Timestamp,
) -> Option<Problem> {
    if let Some(problem) = obstacle(settings, observed) {
        return Some(problem);
    }
    let namespace = &settings.namespace;
    let name = ManagedObject::Certificate.describe(namespace);
    let Some(certificate) = observed.object(ManagedObject::Certificate) else {
        return Some(match observed.unreadable(ManagedObject::Certificate) {
            Some(_) => Problem::new(Reason::WaitingForDependency, format!("Waiting for {name}.")),
            None => Problem::new(Reason::Progressing, format!("The operator is creating {name}.")),
        });
    };
    if !is_ours(certificate) {
        return Some(Problem::new(Reason::WaitingForDependency, format!("Waiting for {name}.")));
    }
    match cert_manager::issuance(certificate, last_applied(certificate)) {
        Issuance::Issued => unreadable_secret(settings, observed),
        // cert-manager retries a failed renewal.
        Issuance::NotRenewed { message } => {
            Some(unreadable_secret(settings, observed).unwrap_or_else(|| {
                not_issued(
                    &format!("cert-manager did not renew {name}"),
                    &message,
                    cert_manager,
                    settings,
                    observed,
                )
            }))
        }
        Issuance::Pending { since, message } => {
            if since.is_some_and(|since| now.duration_since(since).unsigned_abs() < ISSUING) {
                return Some(Problem::new(
                    Reason::Progressing,
                    format!("cert-manager is processing {name}: {message}."),
                ));
            }
            let cause = format!("cert-manager has not issued {name}");
            Some(not_issued(&cause, &message, cert_manager, settings, observed))
        }
    }
}

fn not_issued(
    cause: &str,
    message: &str,
    cert_manager: &CertManagerSpec,
    settings: &Settings,
    observed: &Observed,
) -> Problem {
    let namespace = &settings.namespace;
    let request = observed.certificate_request.as_deref();
    let request = request.map(|request| format!("; {request}")).unwrap_or_default();
    let issuer = &cert_manager.issuer_ref;
    let place = if issuer.kind == "Issuer" { format!(" --namespace {namespace}") } else { String::new() };
    let plural = format!("{}.{}", issuer.kind.to_ascii_lowercase(), issuer.group);
    Problem::new(
        Reason::CertificateNotIssued,
        format!(
            "{cause}: {message}{request}. Run `kubectl describe {}` and `kubectl describe {plural} {}{place}`. Check that \
             cert-manager's controller runs, or correct spec.certificates.certManager.issuerRef.",
            ManagedObject::Certificate.kubectl(namespace),
            issuer.name,
        ),
    )
}

/// Returns why the Secret of an issued Certificate can't be used.
fn unreadable_secret(settings: &Settings, observed: &Observed) -> Option<Problem> {
    let name = format!("Secret {}/{SECRET}", settings.namespace);
    match &observed.serving_source {
        ServingSource::Found(_) => None,
        ServingSource::Missing => Some(Problem::new(
            Reason::CertificateNotIssued,
            format!(
                "{name} does not exist, although {} reports that it is issued. Check that cert-manager's controller \
                 runs: it recreates the Secret.",
                ManagedObject::Certificate.describe(&settings.namespace)
            ),
        )),
        ServingSource::Unreadable(why) if why.forbidden => Some(Problem::new(
            Reason::PermissionMissing,
            format!(
                "{name}, which cert-manager writes, cannot be read: kube-apiserver returned \"{}\". Restore the \
                 operator's permissions: run `helm upgrade` with the chart of this version and --set {}=true.",
                why.message,
                OptionalPermission::CertManager.chart_value()
            ),
        )),
        ServingSource::Unreadable(why) => Some(Problem::new(
            Reason::CertificateUnreadable,
            format!(
                "{name} cannot be read: kube-apiserver returned \"{}\". The operator retries.",
                why.message
            ),
        )),
        ServingSource::Unused => {
            Some(Problem::new(Reason::WaitingForDependency, format!("{name} has not been read yet.")))
        }
    }
}

#[cfg(test)]
mod tests;
