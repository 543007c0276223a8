//! Plans the serving certificate from the stored Secrets and APIServices.

use std::time::Duration;

use crds::{CertManagerSpec, MANAGED_SECRETS, MetricsPipelineSpec, Reason, SecretReference};
use jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::cert_manager;
use super::objects::ca_secret::PREVIOUS;
use crate::common::{ManagedObject, Problem};
use crate::observe::{Observed, ServingSource};
use crate::pki::external::{ExternalCertificate, ExternalError};
use crate::pki::{
    self, IssueError, RenewalReason, ServingPlan, ServingRequirements, StoredServing, TrustedBundle,
};
use crate::plan::stored_secret::StoredSecret;
use crate::settings::Settings;

/// Returns the requirements of the spec.
#[must_use]
pub(crate) fn wanted(spec: &MetricsPipelineSpec, settings: &Settings) -> ServingRequirements {
    let timing = settings.certificates;
    let validity = |duration: kube::core::Duration| timing.validity(Duration::from(duration));
    ServingRequirements {
        algorithm: spec.certificates.key_algorithm,
        ca_validity: validity(spec.certificates.ca_validity),
        serving_validity: validity(spec.certificates.serving_validity),
        names: pki::service_names(ManagedObject::Service.name(), &settings.namespace),
        trust_delay: timing.trust_delay,
    }
}

/// Why the certificates could not be planned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A certificate could not be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The Secret of another issuer can't be used.
    #[error("{0}")]
    Source(Problem),
}

/// Returns the certificate in the Secret that the spec names.
fn external<'a>(
    secret: &SecretReference,
    settings: &Settings,
    observed: &'a Observed,
) -> Result<&'a ExternalCertificate, CertificateError> {
    let name = format!("Secret {}/{} (spec.certificates.secretRef)", settings.namespace, secret.name);
    let problem = |reason, message: String| Err(CertificateError::Source(Problem::new(reason, message)));
    // The schema rejects these names, but the object may be older than the schema. The operator would copy its own Secret
    // onto itself and delete the CA that signed it.
    if MANAGED_SECRETS.contains(&secret.name.as_str()) {
        return problem(
            Reason::InvalidSpec,
            format!(
                "spec.certificates.secretRef names Secret {}, which the operator itself manages. Store the certificate in a \
                 Secret of another name and set spec.certificates.secretRef and the chart value servingSecret to it, or \
                 set spec.certificates.source to SelfSigned.",
                secret.name
            ),
        );
    }
    match &observed.serving_source {
        ServingSource::Found(external) => Ok(external),
        ServingSource::Missing => problem(
            Reason::CertificateUnreadable,
            format!(
                "{name} does not exist. Create it with tls.crt, tls.key and ca.crt, or correct the name."
            ),
        ),
        ServingSource::Unreadable(why) if why.forbidden => problem(
            Reason::PermissionMissing,
            format!(
                "{name} cannot be read: kube-apiserver returned \"{}\". Grant access with the chart value \
                 servingSecret: `helm upgrade RELEASE CHART --namespace {} --reset-then-reuse-values --set servingSecret={}`.",
                why.message, settings.namespace, secret.name
            ),
        ),
        ServingSource::Unreadable(why) => problem(
            Reason::CertificateUnreadable,
            format!(
                "{name} cannot be read: kube-apiserver returned \"{}\". The operator retries.",
                why.message
            ),
        ),
        ServingSource::Unused => {
            problem(Reason::WaitingForDependency, format!("{name} has not been read yet."))
        }
    }
}

/// Plans from managed objects only: foreign Secrets and APIServices are neither used nor trusted.
pub(crate) fn plan(
    spec: &MetricsPipelineSpec,
    settings: &Settings,
    observed: &Observed,
    now: Timestamp,
) -> Result<ServingPlan, CertificateError> {
    let mut ca = StoredSecret::read(observed, ManagedObject::CaSecret);
    let mut serving = StoredSecret::read(observed, ManagedObject::ServingSecret);
    let trusted = ManagedObject::API_SERVICES
        .into_iter()
        // During a move, the others announce the CA of the replicas in the previous namespace.
        .filter(|object| observed.service_namespace(*object) == Some(settings.namespace.as_str()))
        .filter_map(|object| {
            let bundle = observed.typed::<APIService>(object)?.spec.and_then(|spec| spec.ca_bundle);
            let announced_for = observed.announced_for.get(&object).copied().unwrap_or_default();
            Some(TrustedBundle { bundle: bundle.map(|bundle| bundle.0).unwrap_or_default(), announced_for })
        })
        .collect();
    let found = StoredServing {
        previous: ca.take(PREVIOUS),
        ca: ca.take_pair("tls.crt", "tls.key"),
        serving_ca: serving.take("ca.crt"),
        serving: serving.take_pair("tls.crt", "tls.key"),
        trusted,
        proven: observed.proof.as_ref().and_then(|proof| proof.proven(&observed.pods)).cloned(),
    };
    let wanted = wanted(spec, settings);
    if let Some(requested) = pki::cert_manager::requested(spec) {
        return from_cert_manager(requested, &wanted, settings, observed, &found, now);
    }
    let Some(secret) = &spec.certificates.secret_ref else {
        return Ok(pki::serving::plan(&wanted, &found, now)?);
    };
    let external = external(secret, settings, observed)?;
    let name = format!("Secret {}/{} (spec.certificates.secretRef)", settings.namespace, secret.name);
    pki::external::plan(&wanted, external, &found, now).map_err(|error| unusable(&name, &error, &wanted))
}

/// Plans with the certificate of cert-manager. Until it has issued a new one, the plan keeps the one that is served.
fn from_cert_manager(
    requested: &CertManagerSpec,
    wanted: &ServingRequirements,
    settings: &Settings,
    observed: &Observed,
    found: &StoredServing,
    now: Timestamp,
) -> Result<ServingPlan, CertificateError> {
    let Some(lack) = cert_manager::lack(requested, settings, observed, now) else {
        let ServingSource::Found(external) = &observed.serving_source else {
            return Err(CertificateError::Source(Problem::new(
                Reason::WaitingForDependency,
                "cert-manager's Secret has not been read yet.",
            )));
        };
        let name =
            format!("Secret {}/{}, which cert-manager wrote,", settings.namespace, pki::cert_manager::SECRET);
        if external.ca_bundle.as_ref().is_none_or(Vec::is_empty) {
            let issuer = &requested.issuer_ref;
            return Err(CertificateError::Source(Problem::new(
                Reason::CertificateUnreadable,
                format!(
                    "{name} has no ca.crt: {} {} does not publish its CA, for example because it is an ACME issuer. \
                     kube-apiserver needs the CA to trust metrics-core. metrics-core continues to serve the previous \
                     certificate. In spec.certificates.certManager.issuerRef, name an issuer that publishes its CA, \
                     such as one of type CA or Vault.",
                    issuer.kind, issuer.name
                ),
            )));
        }
        return pki::external::plan(wanted, external, found, now)
            .map_err(|error| unusable(&name, &error, wanted));
    };
    // While the operator's own CA is stored, the served certificate is not cert-manager's.
    let before = ExternalCertificate { pair: found.serving.clone(), ca_bundle: found.serving_ca.clone() };
    let served = found.ca.is_none().then(|| pki::external::plan(wanted, &before, found, now).ok()).flatten();
    served.ok_or(CertificateError::Source(lack))
}

fn unusable(name: &str, error: &ExternalError, wanted: &ServingRequirements) -> CertificateError {
    let reason = match error {
        ExternalError::Pair(why) | ExternalError::Issuer { why, .. }
            if matches!(why, RenewalReason::Expired(_)) =>
        {
            Reason::CertificateExpired
        }
        _ => Reason::CertificateUnreadable,
    };
    let server = wanted.names.first().map_or("", String::as_str);
    CertificateError::Source(Problem::new(
        reason,
        format!(
            "{name} cannot be used: {error}. metrics-core continues to serve the previous certificate. Store a server \
             certificate for {server}."
        ),
    ))
}
