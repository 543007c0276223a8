//! Watches Nodes and Running Pods: who exists, where, with which labels.
//!
//! Nodes are decoded to the few fields that are used, Pods are asked for as metadata alone. Lists are paged
//! and watches resume from bookmarks, so a restart costs the API server no more than it must; what
//! disappeared while a watch was broken is gone when the next list ends, and until then nothing is missing.

mod address;
mod changes;
mod directory;
mod interner;
mod meta;
mod node;
mod pod;

use std::sync::Arc;

use futures::{Stream, TryStreamExt, future};
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::Error};

use crate::telemetry::{self, Trouble};

pub use self::address::{Address, AddressType, UnknownAddressType};
pub use self::changes::{Changes, Departure, Shown};
pub use self::directory::{Directory, Nodes, Pod, Pods};
pub use self::node::Node;
use self::node::NodeObject;
use self::pod::PodObject;

/// How many objects a page of a list holds. Small, so that the first lists leave no mark on the process's
/// size: a Node in JSON may have 20 kB.
const PAGE: u32 = 250;

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
pub async fn run(client: kube::Client, config: Config, directory: Arc<Directory>) {
    let mut nodes = watcher::Config::default().page_size(PAGE);
    nodes.label_selector.clone_from(&config.node_selector);
    let nodes = watcher(Api::<NodeObject>::all(client.clone()), nodes);
    let pods = watcher::Config::default().page_size(PAGE).fields("status.phase=Running");
    let pods = watcher(Api::<PodObject>::all(client), pods);
    future::join(follow_nodes(nodes, &config, &directory), follow_pods(pods, &directory)).await;
}

async fn follow_nodes(
    events: impl Stream<Item = Result<Event<NodeObject>, Error>>,
    config: &Config,
    directory: &Directory,
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

async fn follow_pods(events: impl Stream<Item = Result<Event<PodObject>, Error>>, directory: &Directory) {
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
