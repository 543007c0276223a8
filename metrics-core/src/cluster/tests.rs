//! Half-open and silent connections, against a fake kube-apiserver over both versions of HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::watcher;
use kube::runtime::{WatchStreamExt, watcher::Event};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::fake_apiserver::FakeApiServer;
use super::{Cluster, WatchBackoff};
use crate::telemetry::Heartbeat;

const NOTICED: Duration = Duration::from_secs(60);

/// A watch of Secrets that counts what it has seen.
struct Watched {
    seen: Arc<AtomicUsize>,
    view: Heartbeat,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watched {
    fn start(cluster: &Cluster, config: watcher::Config) -> Self {
        let (seen, view) = (Arc::new(AtomicUsize::new(0)), Heartbeat::default());
        let api = Api::<Secret>::namespaced(cluster.dated(&view).unwrap(), "n");
        let counted = seen.clone();
        let task = tokio::spawn(async move {
            let mut events = watcher(api, config).backoff(WatchBackoff::default()).boxed();
            loop {
                if let Ok(Some(Event::Apply(_) | Event::InitApply(_))) = events.try_next().await {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { seen, view, task }
    }

    /// Waits until it has seen `wanted` objects, and returns the time.
    async fn has_seen(&self, wanted: usize) -> Duration {
        let start = Instant::now();
        while self.seen.load(Ordering::Relaxed) < wanted {
            sleep(Duration::from_millis(100)).await;
            assert!(start.elapsed() < Duration::from_secs(600), "not noticed within ten minutes");
        }
        start.elapsed()
    }
}

/// A server for each version of HTTP and each kind of list.
fn cases() -> impl Iterator<Item = (FakeApiServer, watcher::Config)> {
    let config = watcher::Config::default;
    [false, true]
        .into_iter()
        .flat_map(move |is_http2| [config(), config().streaming_lists()].map(|config| (is_http2, config)))
        .map(|(is_http2, config)| (FakeApiServer::new(is_http2), config))
}

#[tokio::test(start_paused = true)]
async fn a_watch_on_a_half_open_connection_is_resumed_on_a_new_one() {
    // At any time of the life of a watch: at its start, while it is quiet, at its end.
    for quiet_s in [0, 1, 10, 27, 29, 31, 100] {
        for (server, config) in cases() {
            server.create("Secret", "n", "a", json!({}));
            let watched = Watched::start(&server.cluster(), config);
            watched.has_seen(1).await;
            sleep(Duration::from_secs(quiet_s)).await;
            server.freeze_connections();
            server.create("Secret", "n", "b", json!({}));
            let took = watched.has_seen(2).await;
            assert!(took <= NOTICED, "{quiet_s} s: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_recovers_after_connections_that_were_accepted_and_silent() {
    for (server, config) in cases() {
        server.create("Secret", "n", "a", json!({}));
        server.freeze_new_connections(true);
        let watched = Watched::start(&server.cluster(), config);
        sleep(Duration::from_secs(700)).await;
        assert!(server.connections() >= 18, "it kept trying: {}", server.connections());
        assert!(watched.view.age() >= Duration::from_secs(700), "{:?}", watched.view.age());
        server.freeze_new_connections(false);
        let took = watched.has_seen(1).await;
        assert!(took <= NOTICED, "{took:?}");
        assert!(watched.view.age() < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stalls_on_a_working_connection_is_resumed() {
    for (server, config) in cases() {
        server.create("Secret", "n", "a", json!({}));
        let watched = Watched::start(&server.cluster(), config);
        watched.has_seen(1).await;
        sleep(Duration::from_secs(40)).await;
        server.stall_watches();
        server.create("Secret", "n", "b", json!({}));
        let took = watched.has_seen(2).await;
        assert!(took <= NOTICED, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_view_of_a_quiet_cluster_stays_young_and_costs_two_requests_a_minute() {
    for (server, config) in cases() {
        server.create("Secret", "n", "a", json!({}));
        let watched = Watched::start(&server.cluster(), config);
        watched.has_seen(1).await;
        for second in 0..600 {
            sleep(Duration::from_secs(1)).await;
            // A streamed list is followed by a pause until the watch begins.
            let oldest = if second < 60 { 50 } else { 31 };
            assert!(watched.view.age() <= Duration::from_secs(oldest), "{second}: {:?}", watched.view.age());
        }
        let requests = server.requests();
        assert!(requests.len() <= 3 + 20, "{}: {requests:#?}", requests.len());
        assert_eq!(watched.seen.load(Ordering::Relaxed), 1, "nothing was listed again");
        // With HTTP/1.1 the next request can start before the previous connection is free.
        assert!(server.connections() <= 2, "{}", server.connections());
    }
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_is_not_cut_off_as_a_watch_is() {
    let server = FakeApiServer::new(true);
    let _watched = Watched::start(&server.cluster(), watcher::Config::default().streaming_lists());
    sleep(Duration::from_secs(60)).await;
    let requests = server.requests();
    assert!(requests[0].contains("sendInitialEvents=true"), "{requests:?}");
    assert!(requests[0].contains("timeoutSeconds=290"), "{requests:?}");
    assert!(requests[1].contains("timeoutSeconds=30&"), "{requests:?}");
    assert_eq!(requests[1].matches("timeoutSeconds").count(), 1, "{requests:?}");
    assert!(requests[1].contains("allowWatchBookmarks=true"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_repeated_with_backoff_and_confirm_nothing() {
    for server in FakeApiServer::both() {
        server.create("Secret", "n", "a", json!({}));
        let watched = Watched::start(&server.cluster(), watcher::Config::default());
        watched.has_seen(1).await;
        server.end_watches();
        sleep(Duration::from_secs(40)).await;
        let before = server.requests().len();
        sleep(Duration::from_secs(300)).await;
        let requests = server.requests().len() - before;
        assert!((20..60).contains(&requests), "{requests}");
        assert!(watched.view.age() >= Duration::from_secs(300), "{:?}", watched.view.age());
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_request_does_not_wait_on_the_connection_of_a_slow_one() {
    for server in FakeApiServer::both() {
        let client = server.cluster().client().unwrap();
        let nodes = Api::<Node>::all(client.clone());
        nodes.list(&ListParams::default()).await.unwrap();
        server.freeze_connections();
        let start = Instant::now();
        let first = tokio::spawn(async move { nodes.list(&ListParams::default()).await });
        sleep(Duration::from_secs(3)).await;
        let reviews = Api::<TokenReview>::all(client);
        reviews.create(&PostParams::default(), &TokenReview::default()).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(3_100));
        assert_eq!(server.connections(), 2);
        let error = first.await.unwrap().unwrap_err().to_string();
        assert!(start.elapsed() <= Duration::from_secs(21), "{:?}", start.elapsed());
        assert!(!error.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_with_http2_have_pings() {
    let server = FakeApiServer::new(true);
    let client = server.cluster().client().unwrap();
    let nodes = Api::<Node>::all(client);
    nodes.list(&ListParams::default()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    nodes.list(&ListParams::default()).await.unwrap();
    assert_eq!(server.connections(), 1, "a connection that responds to pings stays");
    server.freeze_connections();
    sleep(Duration::from_secs(25)).await;
    let all = ListParams::default();
    let listed = timeout(Duration::from_secs(1), nodes.list(&all)).await;
    listed.expect("no wait on the dead connection").unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_only_a_response_head_confirms_nothing() {
    for server in FakeApiServer::both() {
        server.create("Secret", "n", "a", json!({}));
        let watched = Watched::start(&server.cluster(), watcher::Config::default());
        watched.has_seen(1).await;
        server.stall_all_watches();
        sleep(Duration::from_secs(300)).await;
        assert!(watched.view.age() >= Duration::from_secs(265), "{:?}", watched.view.age());
        assert!((8..=12).contains(&server.requests().len()), "{:?}", server.requests());
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_event_confirms_nothing() {
    for server in FakeApiServer::both() {
        server.create("Secret", "n", "a", json!({}));
        let watched = Watched::start(&server.cluster(), watcher::Config::default());
        watched.has_seen(1).await;
        server.fail_watches();
        sleep(Duration::from_secs(300)).await;
        assert!(watched.view.age() >= Duration::from_secs(265), "{:?}", watched.view.age());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_watch_confirms_nothing() {
    for server in FakeApiServer::both() {
        server.create("Secret", "n", "a", json!({}));
        let watched = Watched::start(&server.cluster(), watcher::Config::default());
        watched.has_seen(1).await;
        server.refuse_watches();
        sleep(Duration::from_secs(300)).await;
        assert!(watched.view.age() >= Duration::from_secs(265), "{:?}", watched.view.age());
    }
}
