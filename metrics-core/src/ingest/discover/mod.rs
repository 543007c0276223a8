//! Watches Nodes and Running Pods.
//!
//! Of a Node the few fields in use are decoded; of Pods only the metadata is requested. Lists are streamed
//! (KEP-3157) one object at a time from kube-apiserver's watch cache, or paged where it does not support that.
//! Watches resume from bookmarks, so a restart costs kube-apiserver little. Objects that were deleted while a watch
//! was interrupted are removed when the next list is complete; until then no existing object is missing.

mod address;
mod directory;
mod interner;
mod meta;
mod node;
mod observer;
mod pod;
mod uid;

use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, future};
use http::StatusCode;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::Error};

use crate::cluster::WatchBackoff;
use crate::telemetry::{self, Heartbeat, WatchFailures};

pub(crate) use self::address::{Address, AddressType};
pub use self::directory::{Directory, Nodes, Pod, Pods};
pub use self::node::Node;
use self::node::NodeObject;
pub use self::observer::Observer;
use self::pod::PodObject;

/// The page sizes of lists that are not streamed. They are small so that the first lists do not raise the process's
/// memory: a Node can have 20 kB of JSON, a Pod's metadata 3 kB.
const NODES_PAGE: u32 = 250;
const PODS_PAGE: u32 = 500;

/// Which nodes to watch, and how to reach their kubelets.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiscoveryConfig {
    /// The label selector of the nodes to scrape; `None` selects all.
    pub(crate) node_selector: Option<String>,
    /// The kubelet's port where the Node's own is not used.
    pub(crate) kubelet_port: u16,
    /// Whether to use the port in `status.daemonEndpoints.kubeletEndpoint.Port`.
    pub(crate) use_node_status_port: bool,
    /// The address types to use, in order of preference.
    pub(crate) address_types: Vec<AddressType>,
}

/// The progress of the watches. Each beats when data arrive from kube-apiserver, when a request ends and when a retry is
/// due. Clones share their content.
///
/// A watch without changes beats, too: kube-apiserver sends bookmarks, and the client starts a new watch after 35 s of
/// silence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heartbeats {
    /// The watch of Nodes.
    pub(crate) nodes: Heartbeat,
    /// The watch of Pods.
    pub(crate) pods: Heartbeat,
}

/// Keeps the nodes of `directory` up to date until dropped. Retries a failed watch with backoff and jitter, and logs
/// failures.
pub(crate) async fn watch_nodes<O: Observer>(
    client: kube::Client,
    config: DiscoveryConfig,
    directory: Arc<Directory<O>>,
    heartbeat: Heartbeat,
) {
    let mut nodes = watcher::Config::default().page_size(NODES_PAGE);
    nodes.label_selector.clone_from(&config.node_selector);
    let nodes = watch_all(Api::<NodeObject>::all(client), "nodes", nodes);
    Box::pin(with_heartbeat(apply_nodes(nodes, &config, &directory), heartbeat)).await;
}

/// Like [`watch_nodes`], for the Running pods.
pub(crate) async fn watch_pods<O: Observer>(
    client: kube::Client,
    directory: Arc<Directory<O>>,
    heartbeat: Heartbeat,
) {
    let pods = watcher::Config::default().page_size(PODS_PAGE).fields("status.phase=Running");
    let pods = watch_all(Api::<PodObject>::all(client), "pods", pods);
    Box::pin(with_heartbeat(apply_pods(pods, &directory), heartbeat)).await;
}

/// Runs `task` and beats whenever it has run until it waits again.
async fn with_heartbeat(task: impl Future<Output = ()>, heartbeat: Heartbeat) {
    let mut task = std::pin::pin!(task);
    future::poll_fn(|context| {
        let poll = task.as_mut().poll(context);
        heartbeat.beat();
        poll
    })
    .await;
}

/// Streams all objects and their changes. Lists are streamed until kube-apiserver rejects that, and paged from then
/// on.
fn watch_all<K>(
    api: Api<K>,
    what: &'static str,
    config: watcher::Config,
) -> impl Stream<Item = Result<Event<K>, Error>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let streamed = watcher(api.clone(), config.clone().streaming_lists());
    let streamed = streamed.take_while(move |event| {
        let rejected = event.as_ref().err().filter(|error| is_streaming_rejected(error));
        if let Some(error) = rejected {
            tracing::info!(
                "kube-apiserver does not support streaming lists; listing {what} in pages: {error}"
            );
        }
        future::ready(rejected.is_none())
    });
    streamed.chain(watcher(api, config))
}

/// Returns whether kube-apiserver rejected the request because it does not support streaming lists: before
/// Kubernetes 1.34, or with the feature gate WatchList off.
fn is_streaming_rejected(error: &Error) -> bool {
    let Error::WatchStartFailed(kube::Error::Api(status)) = error else { return false };
    [StatusCode::BAD_REQUEST, StatusCode::METHOD_NOT_ALLOWED, StatusCode::UNPROCESSABLE_ENTITY]
        .iter()
        .any(|code| status.code == code.as_u16())
}

async fn apply_nodes(
    events: impl Stream<Item = Result<Event<NodeObject>, Error>>,
    config: &DiscoveryConfig,
    directory: &Directory<impl Observer>,
) {
    let events = events.backoff(WatchBackoff::default());
    futures::pin_mut!(events);
    let mut log = WatchLog::new("nodes");
    loop {
        let event = events.try_next().await;
        if !matches!(event, Err(_) | Ok(Some(Event::Init))) {
            log.succeeded();
        }
        match event {
            Ok(Some(Event::Init)) => directory.begin_node_list(),
            Ok(Some(Event::InitApply(node) | Event::Apply(node))) => {
                if let Some(node) = node.into_node(config) {
                    directory.apply_node(node);
                }
            }
            Ok(Some(Event::InitDone)) => directory.end_node_list(),
            Ok(Some(Event::Delete(node))) => directory.delete_node(node.name()),
            Ok(None) => return,
            Err(error) => log.failed(&error), // The stream retries after its backoff.
        }
    }
}

async fn apply_pods(
    events: impl Stream<Item = Result<Event<PodObject>, Error>>,
    directory: &Directory<impl Observer>,
) {
    let events = events.backoff(WatchBackoff::default());
    futures::pin_mut!(events);
    let mut log = WatchLog::new("pods");
    loop {
        let event = events.try_next().await;
        if !matches!(event, Err(_) | Ok(Some(Event::Init))) {
            log.succeeded();
        }
        match event {
            Ok(Some(Event::Init)) => directory.begin_pod_list(),
            Ok(Some(Event::InitApply(pod) | Event::Apply(pod))) => {
                let meta = pod.metadata;
                if let (Some(namespace), Some(name), Some(uid)) = (meta.namespace, meta.name, meta.uid) {
                    let labels = meta.labels.unwrap_or_default().into_iter().collect();
                    directory.apply_pod(&namespace, &name, &uid, labels);
                }
            }
            Ok(Some(Event::InitDone)) => directory.end_pod_list(),
            Ok(Some(Event::Delete(pod))) => {
                if let (Some(namespace), Some(name)) = (pod.metadata.namespace, pod.metadata.name) {
                    directory.delete_pod(&namespace, &name);
                }
            }
            Ok(None) => return,
            Err(error) => log.failed(&error),
        }
    }
}

/// Logs a watch that keeps failing.
struct WatchLog {
    what: &'static str,
    failures: WatchFailures,
}

impl WatchLog {
    fn new(what: &'static str) -> Self {
        Self { what, failures: WatchFailures::default() }
    }

    /// Records that the watch works.
    fn succeeded(&mut self) {
        self.failures.succeeded();
    }

    fn failed(&mut self, error: &Error) {
        let text = error.to_string();
        if !telemetry::is_expired_watch(error) && self.failures.failed(&text) {
            let what = self.what;
            tracing::warn!(
                "cannot watch {what}; using the last known state until the watch recovers: {text}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures::stream;
    use kube::core::Status;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::{
        Directory, DiscoveryConfig, Error, Event, apply_nodes, apply_pods, is_streaming_rejected,
        watch_nodes, watch_pods, with_heartbeat,
    };
    use crate::cluster::fake_apiserver::FakeApiServer;
    use crate::telemetry::Heartbeat;

    #[tokio::test(start_paused = true)]
    async fn only_the_watch_that_progresses_beats() {
        let (ticking, stuck) = (Heartbeat::default(), Heartbeat::default());
        let tick = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::spawn(with_heartbeat(tick, ticking.clone()));
        tokio::spawn(with_heartbeat(std::future::pending(), stuck.clone()));
        tokio::time::sleep(Duration::from_millis(60_500)).await;
        assert!(stuck.age() >= Duration::from_secs(60), "{:?}", stuck.age());
        assert!(ticking.age() < Duration::from_secs(1), "{:?}", ticking.age());
    }

    #[tokio::test(start_paused = true)]
    async fn discovers_new_nodes_and_pods_after_connections_became_half_open() {
        for server in FakeApiServer::both() {
            let (cluster, directory) = (server.cluster(), Arc::new(Directory::<()>::new()));
            let (nodes, pods) = (Heartbeat::default(), Heartbeat::default());
            let create = |name: &str| {
                server.create("Node", "", name, json!({}));
                server.create("Pod", "n", name, json!({}));
            };
            let client = || cluster.client().unwrap();
            let config = DiscoveryConfig::default();
            let watches = [
                tokio::spawn(watch_nodes(client(), config, directory.clone(), nodes.clone())),
                tokio::spawn(watch_pods(client(), directory.clone(), pods.clone())),
            ];
            create("a");
            let known = || {
                (directory.nodes().iter_after(None).count(), directory.pods().iter_after(None, None).count())
            };
            let has_nodes = async |wanted: usize| {
                let start = tokio::time::Instant::now();
                while known() != (wanted, wanted) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", known());
                }
            };
            has_nodes(1).await;
            tokio::time::sleep(Duration::from_secs(100)).await;
            server.freeze_connections();
            create("b");
            has_nodes(2).await;
            assert!(nodes.age() <= Duration::from_secs(60) && pods.age() <= Duration::from_secs(60));
            watches.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }

    fn object<T: DeserializeOwned>(name: &str) -> T {
        let metadata = json!({"name": name, "namespace": "n", "uid": name});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    /// A list of "a" and "b", in which "b" is updated and "a" deleted later; and a new list of "c".
    fn events<T: DeserializeOwned>(relists: bool) -> Vec<Result<Event<T>, Error>> {
        let mut events = vec![
            Event::Init,
            Event::InitApply(object("a")),
            Event::InitApply(object("b")),
            Event::InitDone,
            Event::Apply(object("b")),
            Event::Delete(object("a")),
        ];
        if relists {
            events.extend([Event::Init, Event::InitApply(object("c")), Event::InitDone]);
        }
        events.into_iter().map(Ok).collect()
    }

    #[tokio::test]
    async fn applies_changes_and_deletions_of_pods() {
        for (relists, left) in [(false, "b"), (true, "c")] {
            let directory = Directory::<()>::new();
            apply_pods(stream::iter(events(relists)), &directory).await;
            let pods = directory.pods();
            let names: Vec<_> =
                pods.iter_after(None, None).map(|(namespace, name, _)| (namespace, name)).collect();
            assert_eq!(names, [("n", left)]);
        }
    }

    #[tokio::test]
    async fn applies_changes_and_deletions_of_nodes() {
        for (relists, left) in [(false, "b"), (true, "c")] {
            let directory = Directory::<()>::new();
            apply_nodes(stream::iter(events(relists)), &DiscoveryConfig::default(), &directory).await;
            let nodes = directory.nodes();
            let names: Vec<_> = nodes.iter_after(None).map(|(node, ())| node.name.to_string()).collect();
            assert_eq!(names, [left]);
        }
    }

    #[test]
    fn falls_back_to_pages_only_if_streaming_is_rejected() {
        let of = |code| {
            let status = Status { code, ..Status::default() };
            is_streaming_rejected(&Error::WatchStartFailed(kube::Error::Api(status.boxed())))
        };
        // Kubernetes 1.33 returns 422: sendInitialEvents is forbidden unless WatchList is enabled.
        assert!(of(422));
        for passing in [401, 403, 410, 429, 500, 503] {
            assert!(!of(passing), "{passing}");
        }
        assert!(!is_streaming_rejected(&Error::NoResourceVersion));
    }
}
