//! Counts the nodes with a watch of their metadata: a change is known within a second.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use tokio::sync::watch as cell;
use tokio::task::JoinSet;

use super::watches::{Changes, Source};

/// The minimum time between two changes that are reported to the loop.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum wait for the first count.
const FIRST: Duration = Duration::from_secs(5);

/// Counts the nodes that match a selector. Only the names are kept.
pub(super) struct Nodes {
    selector: Option<String>,
    count: cell::Receiver<Option<usize>>,
    _tasks: JoinSet<()>,
}

impl Nodes {
    /// Starts the watch, and waits a little for the first count.
    pub(super) async fn start(client: &Client, selector: Option<&str>, changes: Arc<Changes>) -> Self {
        let api: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
        let mut config = watcher::Config::default().page_size(500);
        config.label_selector = selector.map(str::to_owned);
        let (sender, mut count) = cell::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(api, config, sender));
        _ = tokio::time::timeout(FIRST, count.wait_for(Option::is_some)).await;
        let mut updates = count.clone();
        updates.mark_unchanged();
        tasks.spawn(async move {
            while updates.changed().await.is_ok() {
                changes.mark(Source::Nodes);
                tokio::time::sleep(MIN_INTERVAL).await;
            }
        });
        Self { selector: selector.map(str::to_owned), count, _tasks: tasks }
    }

    /// Whether it counts the nodes of this selector.
    pub(super) fn counts(&self, selector: Option<&str>) -> bool {
        self.selector.as_deref() == selector
    }

    /// Returns the count of nodes; `None` before the first list is complete.
    pub(super) fn count(&self) -> Option<usize> {
        *self.count.borrow()
    }
}

async fn follow(
    api: Api<PartialObjectMeta<Node>>,
    config: watcher::Config,
    sender: cell::Sender<Option<usize>>,
) {
    let mut events = std::pin::pin!(watch(api, config).default_backoff());
    let mut names = Names::default();
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                failing = false;
                if let Some(count) = names.take(event) {
                    sender.send_if_modified(|known| {
                        let before = known.replace(count);
                        before != Some(count)
                    });
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(
                        error = crate::common::error_chain(&error),
                        "cannot watch the nodes; retrying"
                    );
                }
                failing = true;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }
}

/// The names of the nodes.
#[derive(Default)]
struct Names {
    known: BTreeSet<Box<str>>,
    /// The names of a list that is not complete yet.
    fresh: BTreeSet<Box<str>>,
    complete: bool,
}

impl Names {
    /// Applies an event. Returns the count once a list is complete.
    fn take<K: kube::Resource>(&mut self, event: Event<K>) -> Option<usize> {
        let name = |object: K| object.meta().name.clone().unwrap_or_default().into_boxed_str();
        match event {
            Event::Init => self.fresh.clear(),
            Event::InitApply(object) => _ = self.fresh.insert(name(object)),
            Event::InitDone => {
                self.known = std::mem::take(&mut self.fresh);
                self.complete = true;
            }
            Event::Apply(object) => _ = self.known.insert(name(object)),
            Event::Delete(object) => _ = self.known.remove(&name(object)),
        }
        self.complete.then_some(self.known.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        Node {
            metadata: kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            ..Node::default()
        }
    }

    #[test]
    fn counts_after_a_complete_list_and_after_each_change() {
        let mut names = Names::default();
        assert_eq!(names.take(Event::<Node>::Init), None);
        assert_eq!(names.take(Event::InitApply(node("a"))), None);
        assert_eq!(names.take(Event::InitApply(node("b"))), None);
        assert_eq!(names.take(Event::<Node>::InitDone), Some(2));
        assert_eq!(names.take(Event::Apply(node("b"))), Some(2), "a heartbeat");
        assert_eq!(names.take(Event::Apply(node("c"))), Some(3));
        assert_eq!(names.take(Event::Delete(node("a"))), Some(2));
        // A new list does not count before it is complete.
        assert_eq!(names.take(Event::<Node>::Init), Some(2));
        assert_eq!(names.take(Event::InitApply(node("c"))), Some(2));
        assert_eq!(names.take(Event::<Node>::InitDone), Some(1));
    }
}
