//! kube-rs as a client of the Metrics API: a type for its objects, lists, and the watcher of `kube::runtime`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use e2e::suite::failed;
use e2e::{Cluster, Result};
use futures::StreamExt as _;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, Resource};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::watch::{EventKind, EventLog, WatchEvent};

/// `PodMetrics` of `metrics.k8s.io/v1`, as a user of kube-rs declares it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PodMetrics {
    metadata: ObjectMeta,
    pub timestamp: String,
    pub window: String,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Container {
    pub name: String,
    pub usage: BTreeMap<String, String>,
}

impl Resource for PodMetrics {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "PodMetrics".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "metrics.k8s.io".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Lists the pods of a namespace in pages of one, and gets each.
pub(super) fn read(cluster: &Cluster, namespace: &str) -> Result<Vec<PodMetrics>> {
    with(cluster, async |client| {
        let api: Api<PodMetrics> = Api::namespaced(client, namespace);
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(1);
        loop {
            let list = api.list(&page).await?;
            for pod in &list.items {
                found.push(api.get(pod.metadata.name.as_deref().unwrap_or_default()).await?);
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(found),
            }
        }
    })
}

fn with<T: Send>(
    cluster: &Cluster,
    kind: impl AsyncFnOnce(Client) -> std::result::Result<T, kube::Error> + Send,
) -> Result<T> {
    let kubeconfig = cluster.client().kubeconfig().to_owned();
    cluster.network().inside(|| {
        let failed = |error: &dyn std::fmt::Display| failed(format!("kube-rs: {error}"));
        let runtime = runtime().map_err(|error| failed(&error))?;
        runtime.block_on(async {
            let client = connect(&kubeconfig).await.map_err(|error| failed(&error))?;
            kind(client).await.map_err(|error| failed(&error))
        })
    })
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn connect(kubeconfig: &std::path::Path) -> std::result::Result<Client, String> {
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| error.to_string())?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| error.to_string())?;
    Client::try_from(config).map_err(|error| error.to_string())
}

/// A watcher of `kube::runtime` that runs until it is dropped.
pub(super) struct KubeRsWatcher {
    log: EventLog,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KubeRsWatcher {
    /// Watches the pods of a namespace, by streaming lists or by list and watch.
    pub(super) fn start(cluster: &Cluster, namespace: &str, streaming: bool) -> Self {
        let log = EventLog::default();
        let ends = Arc::new(AtomicBool::new(false));
        let (network, kubeconfig) = (cluster.network().clone(), cluster.client().kubeconfig().to_owned());
        let (namespace, received, stop) = (namespace.to_owned(), log.clone(), ends.clone());
        let thread = thread::spawn(move || {
            let run = || {
                let runtime = runtime().map_err(|error| failed(error.to_string()))?;
                runtime.block_on(async {
                    let client = connect(&kubeconfig).await.map_err(failed)?;
                    let api: Api<PodMetrics> = Api::namespaced(client, &namespace);
                    let config = watcher::Config::default();
                    let config = if streaming { config.streaming_lists() } else { config };
                    let mut events = pin!(watcher(api, config));
                    while !stop.load(Ordering::Relaxed) {
                        // Checks regularly whether this was dropped.
                        let next = tokio::time::timeout(Duration::from_millis(500), events.next());
                        match next.await {
                            Ok(Some(event)) => received.push(seen(event)),
                            Ok(None) => break,
                            Err(_) => {}
                        }
                    }
                    Ok(())
                })
            };
            if let Err(error) = network.inside(run) {
                received.push(WatchEvent::failure(error.to_string()));
            }
        });
        Self { log, ends, thread: Some(thread) }
    }

    pub(super) fn log(&self) -> &EventLog {
        &self.log
    }
}

impl Drop for KubeRsWatcher {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn seen(event: std::result::Result<Event<PodMetrics>, watcher::Error>) -> WatchEvent {
    let of = |kind: EventKind, pod: PodMetrics| WatchEvent {
        kind,
        key: format!(
            "{}/{}",
            pod.metadata.namespace.unwrap_or_default(),
            pod.metadata.name.unwrap_or_default()
        ),
        timestamp: pod.timestamp,
    };
    match event {
        Ok(Event::Apply(pod) | Event::InitApply(pod)) => of(EventKind::Modified, pod),
        Ok(Event::Delete(pod)) => of(EventKind::Deleted, pod),
        Ok(Event::Init) => WatchEvent { kind: EventKind::Started, ..WatchEvent::default() },
        Ok(Event::InitDone) => WatchEvent { kind: EventKind::Synced, ..WatchEvent::default() },
        // kube-rs retries by itself; the log shows that it had to.
        Err(error) => WatchEvent::failure(error.to_string()),
    }
}
