//! The sources of the trust: the ConfigMap, watched by name, and files, read again when they change.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};

use super::{CONFIG_MAP, Finding, LiveTrust};
use crate::cluster::WatchBackoff;
use crate::server::authentication::Anchors;
use crate::telemetry::{self, WatchFailures};
use crate::watched_file;

const FILES_INTERVAL: Duration = Duration::from_secs(10);

/// Watches the ConfigMap and updates the trust. Never returns.
pub(crate) async fn follow_config_map(client: kube::Client, trust: Arc<LiveTrust>) -> Infallible {
    let api = kube::Api::<ConfigMap>::namespaced(client, "kube-system");
    let by_name = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    let mut events = watcher(api, by_name).backoff(WatchBackoff::default()).boxed();
    let mut log = FindingLog::default();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(config_map) | watcher::Event::InitApply(config_map))) => {
                let data = config_map.data.unwrap_or_default();
                let (mut findings, mut changed) = (Vec::new(), false);
                trust.change(|sources| {
                    let (read, found) = sources.config_map.read(&data);
                    changed = read != sources.config_map;
                    (sources.config_map, findings) = (read, found);
                });
                trust.looked_up.store(true, Ordering::Release);
                if changed {
                    tracing::info!(
                        "loaded the authentication configuration from ConfigMap kube-system/{CONFIG_MAP}"
                    );
                }
                log.findings(findings);
            }
            // kube-apiserver recreates it; until then the last values remain in effect, as in k8s.io/apiserver.
            Ok(Some(watcher::Event::Delete(_) | watcher::Event::Init)) => {}
            // Without the ConfigMap there is nothing to trust, and nothing to wait for.
            Ok(Some(watcher::Event::InitDone)) => {
                if !trust.looked_up.swap(true, Ordering::AcqRel) {
                    log.findings(vec![Finding::AggregationLayerNotConfigured]);
                }
            }
            Ok(None) => tokio::time::sleep(Duration::from_secs(5)).await,
            Err(error) if telemetry::is_expired_watch(&error) => {}
            Err(error) => log.failed(&error),
        }
    }
}

/// Logs each finding once until it changes.
#[derive(Default)]
struct FindingLog {
    findings: Vec<Finding>,
    failures: WatchFailures,
}

impl FindingLog {
    fn findings(&mut self, findings: Vec<Finding>) {
        self.failures.succeeded();
        for finding in findings.iter().filter(|finding| !self.findings.contains(finding)) {
            tracing::warn!("{finding}");
        }
        self.findings = findings;
    }

    fn failed(&mut self, error: &watcher::Error) {
        let text = error.to_string();
        if self.failures.failed(&text) {
            tracing::warn!(
                "can't read ConfigMap kube-system/{CONFIG_MAP}; its last values remain in effect: {text}; if this is \
                 forbidden, bind the service account of metrics-core to Role \
                 extension-apiserver-authentication-reader in kube-system"
            );
        }
    }
}

/// Reads a CA file once, so that an invalid one is reported at start.
pub(crate) fn read_file(path: &Path) -> Result<Anchors, String> {
    let pem = watched_file::read_one(path).map_err(|error| error.to_string())?;
    Anchors::from_pem(&pem).map_err(|why| format!("{}: {why}", path.display()))
}

/// Reads a CA file again when it changes and passes each valid content to `changed`. Never returns.
pub(crate) async fn follow_file(path: PathBuf, mut changed: impl FnMut(Anchors)) -> Infallible {
    watched_file::follow([path], FILES_INTERVAL, move |[path], contents| {
        match contents.map_err(|error| error.to_string()).and_then(|[pem]| Anchors::from_pem(&pem)) {
            Ok(anchors) => changed(anchors),
            Err(why) => {
                tracing::error!(file = %path.display(), "the CA file is invalid; its last valid content remains in effect: {why}");
            }
        }
    })
    .await
}
