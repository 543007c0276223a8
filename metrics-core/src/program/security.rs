//! Creates the serving certificate, authentication and authorization from the options.

use std::convert::Infallible;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::flags::{Options, ServingSource};
use crate::server::authentication::trust::{self, FrontProxy, LiveTrust};
use crate::server::authentication::{self, Anchors, Authenticator, TokenReviewer};
use crate::server::authorization::{AlwaysAllow, Authorizer};
use crate::server::reviews::cache::Hasher;
use crate::server::tls::{self, ServingCertificate};
use crate::telemetry::WatchAges;
use crds::report::WatchTarget;
use tokio::task::JoinSet;

use super::error::Error;

/// Returns the serving certificate, and starts the task that keeps it current.
pub(super) fn serving_certificate(
    options: &Options,
    cluster: &Cluster,
    ages: &mut WatchAges,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<ServingCertificate>, Error> {
    let serving = ServingCertificate::self_signed(options.serving != ServingSource::SelfSigned)?;
    match options.serving.clone() {
        ServingSource::Secret { namespace, name } => {
            let client = cluster.dated(&ages.add(WatchTarget::ServingCertificate))?;
            let serving = serving.clone();
            tasks.spawn(async move { match tls::from_secret(client, &namespace, &name, serving).await {} });
        }
        ServingSource::Files { certificate, key } => {
            tasks.spawn(endless(tls::from_files(certificate, key, serving.clone())));
        }
        ServingSource::SelfSigned => tracing::warn!(
            "serving a self-signed certificate: clients can't authenticate this server; set --tls-secret or --tls-cert-file"
        ),
    }
    Ok(serving)
}

/// Returns the trust for authentication, and starts the tasks that keep it current.
pub(super) fn trust(
    options: &Options,
    cluster: &Cluster,
    ages: &mut WatchAges,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<LiveTrust>, Error> {
    let all_from_files = options.client_ca_file.is_some() && options.request_header.client_ca_file.is_some();
    let lookup = !options.skip_lookup && !all_from_files;
    let trust = LiveTrust::new(lookup && !options.tolerate_lookup_failure);
    if let Some(path) = options.client_ca_file.clone() {
        trust.set_client_ca(anchors("client-ca-file", &path)?);
        let trust = trust.clone();
        tasks.spawn(endless(trust::follow_file(path, move |anchors| trust.set_client_ca(anchors))));
    }
    if let Some(path) = options.request_header.client_ca_file.clone() {
        let flags = options.request_header.clone();
        let front_proxy = move |anchors| FrontProxy {
            anchors,
            allowed_names: flags.allowed_names.clone(),
            username_headers: flags.username_headers.clone(),
            group_headers: flags.group_headers.clone(),
            extra_prefixes: flags.extra_prefixes.iter().map(|prefix| prefix.to_ascii_lowercase()).collect(),
            uid_headers: flags.uid_headers.clone(),
        };
        trust.set_front_proxy(front_proxy(anchors("requestheader-client-ca-file", &path)?));
        let trust = trust.clone();
        tasks.spawn(endless(trust::follow_file(path, move |anchors| {
            trust.set_front_proxy(front_proxy(anchors));
        })));
    }
    if lookup {
        let client = cluster.dated(&ages.add(WatchTarget::AuthenticationConfig))?;
        tasks.spawn(endless(trust::follow_config_map(client, trust.clone())));
    }
    Ok(trust)
}

/// Returns the authenticator.
pub(super) fn authenticator(
    options: &Options,
    cluster: &Cluster,
    trust: Arc<LiveTrust>,
    metrics: authentication::CredentialMetrics,
) -> Result<Authenticator, Error> {
    let reviewer: Arc<dyn TokenReviewer> = Arc::new(cluster.client()?);
    Ok(Authenticator::new(trust, Some((reviewer, Hasher::new()?)), options.token_ttl, metrics))
}

/// Returns the authorizer.
pub(super) fn authorizer(
    options: &Options,
    always: AlwaysAllow,
    cluster: &Cluster,
) -> Result<Authorizer, Error> {
    Ok(Authorizer::new(
        always,
        Arc::new(cluster.client()?),
        Hasher::new()?,
        options.allowed_ttl,
        options.denied_ttl,
    ))
}

async fn endless(run: impl Future<Output = Infallible>) {
    match run.await {}
}

fn anchors(flag: &'static str, path: &std::path::Path) -> Result<Anchors, Error> {
    trust::read_file(path).map_err(|problem| Error::Flag { flag, problem })
}
