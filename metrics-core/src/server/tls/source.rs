//! Where the serving certificate comes from, and how a new one gets in without losing a connection.

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
use crate::digest::sha256_hex;
use crate::telemetry::{self, Trouble};
use crate::watched_file;

/// How often files are looked at. Their content is compared, as the times of a mounted Secret's links tell nothing.
const FILES_INTERVAL: Duration = Duration::from_secs(10);

/// The certificate for new handshakes. Connections that stand keep theirs.
#[derive(Debug)]
pub struct ServingCertificate {
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// A self-signed stand-in until the real one is there.
    temporary: bool,
}

impl ServingCertificate {
    /// Starts with a self-signed certificate. If it only stands in for one that is `awaited`, [`Self::ready`] is
    /// false until that one comes; meanwhile the probes are answered.
    pub fn self_signed(awaited: bool) -> Result<Arc<Self>, Error> {
        let key = Arc::new(certificate::self_signed()?);
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(Current { key, temporary: awaited }) }))
    }

    /// Whether the certificate that was configured is served.
    #[must_use]
    pub fn ready(&self) -> bool {
        !self.current.load().temporary
    }

    /// When the served certificate expires, since the Unix epoch.
    #[must_use]
    pub fn expires(&self) -> Option<Duration> {
        certificate::expires(&self.current.load().key)
    }

    /// The SHA-256 of the served certificate (its leaf, DER), in lower-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        self.current.load().key.cert.first().map(|leaf| sha256_hex(leaf))
    }

    /// Serves this pair from the next handshake on; a broken one changes nothing.
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

/// Follows one Secret by name: `tls.crt` and `tls.key`. Never returns.
pub async fn from_secret(
    client: kube::Client,
    namespace: &str,
    name: &str,
    serving: Arc<ServingCertificate>,
) -> Infallible {
    let api = kube::Api::<Secret>::namespaced(client, namespace);
    let by_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api, by_name).default_backoff().boxed();
    let mut trouble = Trouble::default();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret))) => {
                match take(secret, &serving) {
                    Ok(()) => {
                        trouble.over();
                        tracing::info!(secret = %format_args!("{namespace}/{name}"), expires = expiry(&serving), "serving certificate loaded");
                    }
                    Err(error) => tracing::error!(
                        secret = %format_args!("{namespace}/{name}"),
                        "the Secret's certificate can't be served, the last good one stays: {error}; keys tls.crt and tls.key must hold a PEM chain and its key"
                    ),
                }
            }
            Ok(Some(watcher::Event::Delete(_))) => {
                tracing::warn!(secret = %format_args!("{namespace}/{name}"), "the serving Secret was deleted, its last certificate stays");
            }
            Ok(Some(watcher::Event::Init)) => {}
            Ok(Some(watcher::Event::InitDone)) if !serving.ready() => {
                tracing::warn!(secret = %format_args!("{namespace}/{name}"), "the serving Secret is not there yet; not ready until it is");
            }
            Ok(Some(watcher::Event::InitDone)) => trouble.over(),
            Ok(None) => tokio::time::sleep(Duration::from_secs(5)).await,
            Err(error) if telemetry::is_routine(&error) => {}
            Err(error) => {
                let text = error.to_string();
                if trouble.failed(&text) {
                    tracing::warn!(secret = %format_args!("{namespace}/{name}"), "can't watch the serving Secret: {text}");
                }
            }
        }
    }
}

fn take(secret: Secret, serving: &ServingCertificate) -> Result<(), Error> {
    let mut data = secret.data.unwrap_or_default();
    let chain = data.remove("tls.crt").unwrap_or_default();
    let mut key = data.remove("tls.key").unwrap_or_default();
    let result = serving.replace(&chain.0, &key.0);
    key.0.zeroize();
    result
}

/// Follows two files. Never returns.
pub async fn from_files(certificate: PathBuf, key: PathBuf, serving: Arc<ServingCertificate>) -> Infallible {
    watched_file::follow([certificate, key], FILES_INTERVAL, |paths, contents| {
        load(paths, contents, &serving);
    })
    .await
}

fn load(
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
                    "serving certificate loaded"
                ),
                Err(error) => tracing::error!(
                    file = certificate,
                    key,
                    "the files' certificate can't be served, the last good one stays: {error}"
                ),
            }
        }
        Err(error) => {
            tracing::error!("the serving certificate can't be read, the last good one stays: {error}");
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
