//! Plans the front-proxy certificates from the stored Secrets.

use std::time::Duration;

use crds::{FrontProxySpec, MetricsPipelineSpec};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::objects::ca_secret::PREVIOUS;
use super::objects::front_proxy_ca_secret::NEXT;
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;
use crate::observe::Observed;
use crate::pki::IssueError;
use crate::pki::front_proxy::{self, FrontProxyPlan, FrontProxyRequirements, StoredFrontProxy};
use crate::pki::front_proxy_flags::FrontProxyFlags;
use crate::settings::Settings;

/// Plans from managed Secrets only: foreign ones are not used.
pub(crate) fn plan(
    spec: &MetricsPipelineSpec,
    settings: &Settings,
    observed: &Observed,
    now: Timestamp,
) -> Result<FrontProxyPlan, IssueError> {
    let spec = &spec.certificates.front_proxy;
    let validity = |duration: kube::core::Duration| settings.certificates.validity(Duration::from(duration));
    let wanted = FrontProxyRequirements {
        common_name: spec.common_name.clone(),
        ca_validity: validity(spec.ca_validity),
        client_validity: validity(spec.client_validity),
    };
    let secret = |object: ManagedObject| {
        let ours = observed.object(object).is_some_and(is_ours);
        let secret = ours.then(|| observed.typed::<Secret>(object)).flatten();
        secret.and_then(|secret| secret.data).unwrap_or_default()
    };
    let mut ca = secret(ManagedObject::FrontProxyCaSecret);
    let mut client = secret(ManagedObject::FrontProxySecret);
    let [next_certificate, next_key] = NEXT;
    let found = StoredFrontProxy {
        next: ca
            .remove(next_certificate)
            .zip(ca.remove(next_key))
            .map(|(certificate, key)| (certificate.0, key.0)),
        previous: ca.remove(PREVIOUS).map(|bytes| bytes.0),
        ca: ca.remove("tls.crt").zip(ca.remove("tls.key")).map(|(certificate, key)| (certificate.0, key.0)),
        bundle: client.remove("ca.crt").map(|bytes| bytes.0),
        client: client
            .remove("tls.crt")
            .zip(client.remove("tls.key"))
            .map(|(certificate, key)| (certificate.0, key.0)),
        published: observed.published_front_proxy_ca().map(|pem| pem.as_bytes().to_vec()),
    };
    front_proxy::plan(&wanted, &found, now)
}

/// Returns the values of kube-apiserver's flags.
#[must_use]
pub fn flags<'a>(spec: &'a FrontProxySpec, namespace: &'a str) -> FrontProxyFlags<'a> {
    FrontProxyFlags {
        common_name: &spec.common_name,
        directory: &spec.directory,
        namespace,
        secret: ManagedObject::FrontProxySecret.name(),
    }
}
