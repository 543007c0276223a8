//! From the Secrets and APIServices that were found to the certificates that there shall be.

use std::time::Duration;

use crds::MetricsPipelineSpec;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::objects::ca_secret::PREVIOUS;
use super::ownership::{is_ours, last_applied};
use crate::flags::Settings;
use crate::observe::Observed;
use crate::owned::Owned;
use crate::pki::{self, Found, IssueError, Plan, Trusted, Wanted};

/// What the spec asks for.
#[must_use]
pub fn wanted(spec: &MetricsPipelineSpec, settings: &Settings) -> Wanted {
    let timing = settings.certificates;
    let validity = |duration: kube::core::Duration| timing.validity(Duration::from(duration));
    Wanted {
        algorithm: spec.certificates.key_algorithm,
        ca_validity: validity(spec.certificates.ca_validity),
        serving_validity: validity(spec.certificates.serving_validity),
        names: pki::service_names(Owned::Service.name(), &settings.namespace),
        trust_settles: timing.trust_settles,
    }
}

/// Plans from what is ours. What is somebody else's is neither used nor trusted.
pub fn plan(
    spec: &MetricsPipelineSpec,
    settings: &Settings,
    observed: &Observed,
    now: Timestamp,
) -> Result<Plan, IssueError> {
    let ours = |object: Owned| observed.object(object).is_some_and(is_ours);
    let secret = |object: Owned| {
        let secret = ours(object).then(|| observed.typed::<Secret>(object)).flatten();
        secret.and_then(|secret| secret.data).unwrap_or_default()
    };
    let mut ca = secret(Owned::CaSecret);
    let mut serving = secret(Owned::ServingSecret);
    let trusted = Owned::API_SERVICES
        .into_iter()
        .filter(|object| ours(*object))
        .filter_map(|object| {
            let bundle = observed.typed::<APIService>(object)?.spec.and_then(|spec| spec.ca_bundle);
            let since = observed.object(object).and_then(last_applied);
            Some(Trusted { bundle: bundle.map(|bundle| bundle.0).unwrap_or_default(), since })
        })
        .collect();
    let found = Found {
        previous: ca.remove(PREVIOUS).map(|bytes| bytes.0),
        ca: ca.remove("tls.crt").zip(ca.remove("tls.key")).map(|(certificate, key)| (certificate.0, key.0)),
        serving_ca: serving.remove("ca.crt").map(|bytes| bytes.0),
        serving: serving
            .remove("tls.crt")
            .zip(serving.remove("tls.key"))
            .map(|(certificate, key)| (certificate.0, key.0)),
        trusted,
        proven: observed.proof.as_ref().and_then(|proof| proof.proven(&observed.pods)).cloned(),
    };
    pki::plan(&wanted(spec, settings), &found, now)
}
