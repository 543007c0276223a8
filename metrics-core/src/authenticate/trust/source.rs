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
                let mut findings = Vec::new();
                trust.change(|parts| (parts.config_map, findings) = parts.config_map.read(&data));
                trust.looked_up.store(true, Ordering::Release);
                log.findings(findings);
            }
            // kube-apiserver writes it again; until then its last values count, as in k8s.io/apiserver.
            Ok(Some(watcher::Event::Delete(_) | watcher::Event::Init)) => {}
            // Without the ConfigMap there is nobody to trust, and that is an answer.
            Ok(Some(watcher::Event::InitDone)) => {
                if !trust.looked_up.swap(true, Ordering::AcqRel) {
                    log.findings(vec![Finding::NoFrontProxy]);
                }
            }
            Ok(None) => tokio::time::sleep(Duration::from_secs(5)).await,
            Err(error) => log.failed(&error),
        }
    }
}

/// Says each thing once until it changes.
#[derive(Default)]
struct Log {
    findings: Option<Vec<Finding>>,
    failure: String,
}

impl Log {
    fn findings(&mut self, findings: Vec<Finding>) {
        self.failure.clear();
        if self.findings.as_ref() == Some(&findings) {
            return;
        }
        for finding in &findings {
            tracing::warn!("{finding}");
        }
        if findings.is_empty() {
            tracing::info!("authentication configuration loaded from ConfigMap kube-system/{CONFIG_MAP}");
        }
        self.findings = Some(findings);
    }

    fn failed(&mut self, error: &watcher::Error) {
        let text = error.to_string();
        if text != self.failure {
            tracing::warn!(
                "can't read ConfigMap kube-system/{CONFIG_MAP}, requests through kube-apiserver are refused or keep their last rules: {text}; \
                 if it is forbidden, bind this server's service account to Role extension-apiserver-authentication-reader in kube-system"
            );
            self.failure = text;
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
