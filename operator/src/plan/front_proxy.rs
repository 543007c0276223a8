//! Plans the front-proxy certificates from the stored Secrets.

use std::time::Duration;

use crds::{FrontProxySpec, MetricsPipelineSpec};
use jiff::Timestamp;

use super::objects::ca_secret::PREVIOUS;
use super::objects::front_proxy_ca_secret::NEXT;
use crate::common::ManagedObject;
use crate::observe::Observed;
use crate::pki::IssueError;
use crate::pki::front_proxy::{self, FrontProxyPlan, FrontProxyRequirements, StoredFrontProxy};
use crate::pki::front_proxy_flags::FrontProxyFlags;
use crate::plan::stored_secret::StoredSecret;
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
    let mut ca = StoredSecret::read(observed, ManagedObject::FrontProxyCaSecret);
    let mut client = StoredSecret::read(observed, ManagedObject::FrontProxySecret);
    let [next_certificate, next_key] = NEXT;
    let found = StoredFrontProxy {
        next: ca.take_pair(next_certificate, next_key),
        previous: ca.take(PREVIOUS),
        ca: ca.take_pair("tls.crt", "tls.key"),
        bundle: client.take("ca.crt"),
        client: client.take_pair("tls.crt", "tls.key"),
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
