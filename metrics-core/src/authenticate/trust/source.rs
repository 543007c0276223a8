//! Where the trust comes from: the ConfigMap, watched by name, and files, read again when they change.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};

use super::{CONFIG_MAP, Finding, LiveTrust};
use crate::authenticate::Anchors;
use crate::telemetry::{self, Trouble};
use crate::watched_file;

const FILES_INTERVAL: Duration = Duration::from_secs(10);

/// Follows the ConfigMap. Never returns.
pub async fn follow_config_map(client: kube::Client, trust: Arc<LiveTrust>) -> Infallible {
    let api = kube::Api::<ConfigMap>::namespaced(client, "kube-system");
    let by_name = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    let mut events = watcher(api, by_name).default_backoff().boxed();
    let mut log = Log::default();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(config_map) | watcher::Event::InitApply(config_map))) => {
                let data = config_map.data.unwrap_or_default();
                let (mut findings, mut changed) = (Vec::new(), false);
                trust.change(|parts| {
                    let (read, found) = parts.config_map.read(&data);
                    changed = read != parts.config_map;
                    (parts.config_map, findings) = (read, found);
                });
                trust.looked_up.store(true, Ordering::Release);
                if changed {
                    tracing::info!(
                        "authentication configuration loaded from ConfigMap kube-system/{CONFIG_MAP}"
                    );
                }
                log.findings(findings);
            }
            // kube-apiserver writes it again; until then its last values count, as in k8s.io/apiserver.
            Ok(Some(watcher::Event::Delete(_) | watcher::Event::Init)) => {}
            // Without the ConfigMap there is nobody to trust, and that is an answer.
            Ok(Some(watcher::Event::InitDone)) => {
                if !trust.looked_up.swap(true, Ordering::AcqRel) {
                    log.findings(vec![Finding::AggregationLayerNotConfigured]);
                }
            }
            Ok(None) => tokio::time::sleep(Duration::from_secs(5)).await,
            Err(error) if telemetry::is_routine(&error) => {}
            Err(error) => log.failed(&error),
        }
    }
}

/// Says each thing once until it changes.
#[derive(Default)]
struct Log {
    findings: Vec<Finding>,
    trouble: Trouble,
}

impl Log {
    fn findings(&mut self, findings: Vec<Finding>) {
        self.trouble.over();
        for finding in findings.iter().filter(|finding| !self.findings.contains(finding)) {
            tracing::warn!("{finding}");
        }
        self.findings = findings;
    }

    fn failed(&mut self, error: &watcher::Error) {
        let text = error.to_string();
        if self.trouble.failed(&text) {
            tracing::warn!(
                "can't read ConfigMap kube-system/{CONFIG_MAP}, its last values count: {text}; if it is forbidden, \
                 bind this server's service account to Role extension-apiserver-authentication-reader in kube-system"
            );
        }
    }
}

/// Reads a CA file for the first time, so that a wrong one is told at the start.
pub fn read_file(path: &Path) -> Result<Anchors, String> {
    let pem = watched_file::read_one(path).map_err(|error| error.to_string())?;
    Anchors::from_pem(&pem).map_err(|why| format!("{}: {why}", path.display()))
}

/// Follows a CA file, handing each good content on. Never returns.
pub async fn follow_file(path: PathBuf, mut changed: impl FnMut(Anchors)) -> Infallible {
    watched_file::follow([path], FILES_INTERVAL, move |[path], contents| {
        match contents.map_err(|error| error.to_string()).and_then(|[pem]| Anchors::from_pem(&pem)) {
            Ok(anchors) => changed(anchors),
            Err(why) => {
                tracing::error!(file = %path.display(), "CA file can't be read, its last good content counts: {why}");
            }
        }
    })
    .await
}
