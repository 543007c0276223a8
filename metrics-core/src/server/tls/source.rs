//! The serving certificate and its sources: a Secret, files, or self-signed.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::Zeroize;

use super::certificate::{self, Error};
use crate::cluster::WatchBackoff;
use crate::digest::sha256_hex;
use crate::telemetry::{self, WatchFailures};
use crate::watched_file;

/// The poll interval of files.
const FILES_INTERVAL: Duration = Duration::from_secs(10);

/// The certificate for new handshakes. A replacement does not affect open connections.
#[derive(Debug)]
pub struct ServingCertificate {
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// Whether it is a self-signed placeholder until the configured one is loaded.
    temporary: bool,
}

impl ServingCertificate {
    /// Returns a self-signed certificate. With `awaited` it is a placeholder, with which probes can be served:
    /// [`Self::ready`] is false until it is replaced.
    pub fn self_signed(awaited: bool) -> Result<Arc<Self>, Error> {
        let key = Arc::new(certificate::self_signed()?);
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(Current { key, temporary: awaited }) }))
    }

    /// Returns whether the configured certificate is served.
    #[must_use]
    pub(crate) fn ready(&self) -> bool {
        !self.current.load().temporary
    }

    /// Returns the expiry of the certificate since the Unix epoch.
    #[must_use]
    pub(crate) fn expires(&self) -> Option<Duration> {
        certificate::expires(&self.current.load().key)
    }

    /// Returns the SHA-256 of the leaf (DER) in lower-case hexadecimal digits.
    #[must_use]
    pub(crate) fn fingerprint(&self) -> Option<String> {
        self.current.load().key.cert.first().map(|leaf| sha256_hex(leaf))
    }

    /// Serves this pair from the next handshake on. An invalid pair changes nothing.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), Error> {
        let key = Arc::new(certificate::read(chain, key)?);
        self.current.store(Arc::new(Current { key, temporary: false }));
        Ok(())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

/// Watches a Secret and loads its `tls.crt` and `tls.key`. Never returns.
pub async fn from_secret(
    client: kube::Client,
    namespace: &str,
    name: &str,
    serving: Arc<ServingCertificate>,
) -> Infallible {
    let api = kube::Api::<Secret>::namespaced(client, namespace);
    let by_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api, by_name).backoff(WatchBackoff::default()).boxed();
    let mut failures = WatchFailures::default();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret))) => {
                match load_secret(secret, &serving) {
                    Ok(()) => {
                        failures.succeeded();
                        tracing::info!(secret = %format_args!("{namespace}/{name}"), expires = expiry(&serving), "loaded the serving certificate");
                    }
                    Err(error) => tracing::error!(
                        secret = %format_args!("{namespace}/{name}"),
                        "the Secret's certificate is invalid; the last valid certificate remains in use: {error}; keys tls.crt and tls.key must contain a PEM chain and its private key"
                    ),
                }
            }
            Ok(Some(watcher::Event::Delete(_))) => {
                tracing::warn!(secret = %format_args!("{namespace}/{name}"), "the serving Secret was deleted; its last certificate remains in use");
            }
            Ok(Some(watcher::Event::Init)) => {}
            Ok(Some(watcher::Event::InitDone)) if !serving.ready() => {
                tracing::warn!(secret = %format_args!("{namespace}/{name}"), "the serving Secret does not exist; metrics-core is not ready until it does");
            }
            Ok(Some(watcher::Event::InitDone)) => failures.succeeded(),
            Ok(None) => tokio::time::sleep(Duration::from_secs(5)).await,
            Err(error) if telemetry::is_expired_watch(&error) => {}
            Err(error) => {
                let text = telemetry::without_values(&error);
                if failures.failed(&text) {
                    tracing::warn!(secret = %format_args!("{namespace}/{name}"), "can't watch the serving Secret: {text}");
                }
            }
        }
    }
}

fn load_secret(secret: Secret, serving: &ServingCertificate) -> Result<(), Error> {
    let mut data = secret.data.unwrap_or_default();
    let chain = data.remove("tls.crt").unwrap_or_default();
    let mut key = data.remove("tls.key").unwrap_or_default();
    let result = serving.replace(&chain.0, &key.0);
    key.0.zeroize();
    result
}

/// Reads two files again when they change and loads them. Never returns.
pub async fn from_files(certificate: PathBuf, key: PathBuf, serving: Arc<ServingCertificate>) -> Infallible {
    watched_file::follow([certificate, key], FILES_INTERVAL, |paths, contents| {
        load_files(paths, contents, &serving);
    })
    .await
}

fn load_files(
    paths: &[PathBuf; 2],
    contents: Result<[Vec<u8>; 2], watched_file::Error>,
    serving: &ServingCertificate,
) {
    let [certificate, key] = paths.each_ref().map(|path| Path::display(path).to_string());
    match contents {
        Ok([chain, mut private]) => {
            let result = serving.replace(&chain, &private);
            private.zeroize();
            match result {
                Ok(()) => tracing::info!(
                    file = certificate,
                    expires = expiry(serving),
                    "loaded the serving certificate"
                ),
                Err(error) => tracing::error!(
                    file = certificate,
                    key,
                    "the certificate in the files is invalid; the last valid certificate remains in use: {error}"
                ),
            }
        }
        Err(error) => {
            tracing::error!("can't read the serving certificate; the last valid one remains in use: {error}");
        }
    }
}

fn expiry(serving: &ServingCertificate) -> String {
    serving
        .expires()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map(|time| time.to_string())
        .unwrap_or_default()
}
