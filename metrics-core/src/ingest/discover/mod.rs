//! Watches Nodes and Running Pods: who exists, where, with which labels.
//!
//! Nodes are decoded to the few fields that are used, Pods are asked for as metadata alone. Lists are streamed
//! (KEP-3157) one object at a time from the API server's cache, or paged where it does not stream, and watches
//! resume from bookmarks, so a restart costs the API server no more than it must; what disappeared while a watch
//! was broken is gone when the next list ends, and until then nothing is missing.

mod address;
mod directory;
mod interner;
mod meta;
mod node;
mod pod;

use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, future};
use http::StatusCode;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::Error};

use crate::telemetry::{self, Trouble};

pub use self::address::{Address, AddressType, UnknownAddressType};
pub use self::directory::{Directory, Nodes, Observer, Pod, Pods};
pub use self::node::Node;
use self::node::NodeObject;
use self::pod::PodObject;

/// How many objects a page of a list holds where lists are not streamed. Small, so that the first lists leave no
/// mark on the process's size: a Node in JSON may have 20 kB, a Pod's metadata 3 kB.
const NODES_PAGE: u32 = 250;
const PODS_PAGE: u32 = 500;

/// What to watch and how to reach what is found.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Label selector of the nodes to scrape; all when `None`.
    pub node_selector: Option<String>,
    /// The port to use where the Node's own is not.
    pub kubelet_port: u16,
    /// Whether to use `status.daemonEndpoints.kubeletEndpoint.Port`.
    pub use_node_status_port: bool,
    /// Which addresses to use, in this order.
    pub address_types: Vec<AddressType>,
}

/// Keeps `directory` up to date until dropped. Errors are retried with backoff and jitter and logged.
pub async fn run<O: Observer>(client: kube::Client, config: Config, directory: Arc<Directory<O>>) {
    let mut nodes = watcher::Config::default().page_size(NODES_PAGE);
    nodes.label_selector.clone_from(&config.node_selector);
    let nodes = objects(Api::<NodeObject>::all(client.clone()), "nodes", nodes);
    let pods = watcher::Config::default().page_size(PODS_PAGE).fields("status.phase=Running");
    let pods = objects(Api::<PodObject>::all(client), "pods", pods);
    // Boxed, as they are large.
    let (nodes, pods) = (follow_nodes(nodes, &config, &directory), follow_pods(pods, &directory));
    future::join(Box::pin(nodes), Box::pin(pods)).await;
}

/// All objects and their changes: lists are streamed until the API server refuses that, and paged from then on.
fn objects<K>(
    api: Api<K>,
    what: &'static str,
    config: watcher::Config,
) -> impl Stream<Item = Result<Event<K>, Error>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let streamed = watcher(api.clone(), config.clone().streaming_lists());
    let streamed = streamed.take_while(move |event| {
        let refused = event.as_ref().err().filter(|error| is_refusal(error));
        if let Some(error) = refused {
            tracing::info!("the API server does not stream lists, so {what} are listed in pages: {error}");
        }
        future::ready(refused.is_none())
    });
    streamed.chain(watcher(api, config))
}

/// Whether the API server understood the request for a streamed list and won't have it: before Kubernetes 1.34, or
/// with the feature gate WatchList off.
fn is_refusal(error: &Error) -> bool {
    let Error::WatchStartFailed(kube::Error::Api(status)) = error else { return false };
    [StatusCode::BAD_REQUEST, StatusCode::METHOD_NOT_ALLOWED, StatusCode::UNPROCESSABLE_ENTITY]
        .iter()
        .any(|code| status.code == code.as_u16())
}

async fn follow_nodes(
    events: impl Stream<Item = Result<Event<NodeObject>, Error>>,
    config: &Config,
    directory: &Directory<impl Observer>,
) {
    let events = events.default_backoff();
    futures::pin_mut!(events);
    let mut log = Log::new("nodes");
    loop {
        let event = events.try_next().await;
        if !matches!(event, Err(_) | Ok(Some(Event::Init))) {
            log.works();
        }
        match event {
            Ok(Some(Event::Init)) => directory.begin_nodes(),
            Ok(Some(Event::InitApply(node) | Event::Apply(node))) => {
                if let Some(node) = node.trim(config) {
                    directory.apply_node(node);
                }
            }
            Ok(Some(Event::InitDone)) => directory.end_nodes(),
            Ok(Some(Event::Delete(node))) => directory.delete_node(node.name()),
            Ok(None) => return,
            Err(error) => log.failed(&error), // The stream goes on after its backoff.
        }
    }
}

async fn follow_pods(
    events: impl Stream<Item = Result<Event<PodObject>, Error>>,
    directory: &Directory<impl Observer>,
) {
    let events = events.default_backoff();
    futures::pin_mut!(events);
    let mut log = Log::new("pods");
    loop {
        let event = events.try_next().await;
        if !matches!(event, Err(_) | Ok(Some(Event::Init))) {
            log.works();
        }
        match event {
            Ok(Some(Event::Init)) => directory.begin_pods(),
            Ok(Some(Event::InitApply(pod) | Event::Apply(pod))) => {
                let meta = pod.metadata;
                if let (Some(namespace), Some(name), Some(uid)) = (meta.namespace, meta.name, meta.uid) {
                    let labels = meta.labels.unwrap_or_default().into_iter().collect();
                    directory.apply_pod(&namespace, &name, &uid, labels);
                }
            }
            Ok(Some(Event::InitDone)) => directory.end_pods(),
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

/// Tells of a watch that fails for long.
struct Log {
    what: &'static str,
    trouble: Trouble,
}

impl Log {
    fn new(what: &'static str) -> Self {
        Self { what, trouble: Trouble::default() }
    }

    /// The watch works.
    fn works(&mut self) {
        self.trouble.over();
    }

    fn failed(&mut self, error: &Error) {
        let text = error.to_string();
        if !telemetry::is_routine(error) && self.trouble.failed(&text) {
            let what = self.what;
            tracing::warn!("can't watch {what}, what is known of them counts until it works: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{Error, is_refusal};

    #[test]
    fn only_the_refusal_of_a_streamed_list_makes_pages() {
        let of = |code| {
            let status = Status { code, ..Status::default() };
            is_refusal(&Error::WatchStartFailed(kube::Error::Api(status.boxed())))
        };
        // What Kubernetes 1.33 says: sendInitialEvents is forbidden unless WatchList is enabled.
        assert!(of(422));
        for passing in [401, 403, 410, 429, 500, 503] {
            assert!(!of(passing), "{passing}");
        }
        assert!(!is_refusal(&Error::NoResourceVersion));
    }
}
