//! Runs candidates against a store of one Lease, on tokio's paused clock.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{advance, sleep};
use tower::service_fn;

use super::*;

/// The Lease as etcd stores it.
#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    /// When each successful write was executed, and by whom.
    writes: Vec<(Instant, String)>,
}

/// One of several kube-apiservers in front of one etcd.
#[derive(Clone)]
struct Server {
    stored: Arc<Mutex<Stored>>,
    /// While true, requests arrive and wait, as when the process is stopped with SIGSTOP.
    frozen: watch::Sender<bool>,
    /// The next requests get this response instead.
    failures: Arc<Mutex<Vec<StatusCode>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    fn new(stored: &Arc<Mutex<Stored>>) -> Self {
        Self {
            stored: stored.clone(),
            frozen: watch::Sender::new(false),
            failures: Arc::default(),
            connections: Arc::default(),
        }
    }

    fn connect(&self) -> Connect {
        let server = self.clone();
        Box::new(move || {
            *server.connections.lock() += 1;
            let server = server.clone();
            let service = service_fn(move |request: Request<Body>| {
                let (sent, response) = tokio::sync::oneshot::channel();
                let server = server.clone();
                // A server executes what it received also if the client has given up.
                tokio::spawn(async move {
                    _ = server.frozen.subscribe().wait_for(|frozen| !frozen).await;
                    _ = sent.send(server.respond(request).await);
                });
                async { response.await.map_err(|_| std::io::Error::other("closed")) }
            });
            Ok(Client::new(service, "ns"))
        })
    }

    async fn respond(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let body: Option<Value> = serde_json::from_slice(&body).ok();
        if let Some(code) = self.failures.lock().pop() {
            return status(code);
        }
        let mut stored = self.stored.lock();
        match (parts.method, body, stored.lease.clone()) {
            (Method::GET, _, Some(lease)) => ok(&lease),
            (Method::POST, Some(lease), None) => ok(&stored.write(lease)),
            (Method::PUT, Some(lease), Some(before)) => {
                assert_eq!(lease["metadata"]["name"], LEASE);
                if lease["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
                    return status(StatusCode::CONFLICT);
                }
                ok(&stored.write(lease))
            }
            (Method::POST, ..) => status(StatusCode::CONFLICT),
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    fn candidate(&self, name: &str) -> (Election, LeaseHold) {
        let hold = LeaseHold::default();
        let election = Election::new(
            self.connect(),
            "ns".to_owned(),
            name.to_owned(),
            LeaseTiming::default(),
            hold.clone(),
        );
        (election, hold)
    }
}

impl Stored {
    fn write(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        self.writes.push((Instant::now(), holder));
        self.lease = Some(lease.clone());
        lease
    }

    fn holder(&self) -> String {
        self.writes.last().map(|(_, holder)| holder.clone()).unwrap_or_default()
    }
}

fn ok(lease: &Value) -> Response<Body> {
    Response::new(Body::from(lease.to_string().into_bytes()))
}

fn status(code: StatusCode) -> Response<Body> {
    let reason = if code == StatusCode::NOT_FOUND { "NotFound" } else { "Other" };
    let body = json!({ "kind": "Status", "code": code.as_u16(), "reason": reason, "message": "m" });
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).expect("a response")
}

fn lease_store() -> Arc<Mutex<Stored>> {
    Arc::default()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_lease_while_kube_apiserver_is_frozen_for_8_s() {
    // The freeze begins at any time between two renewals.
    for tenths in 0..25 {
        let server = Server::new(&lease_store());
        let (mut election, hold) = server.candidate("a");
        election.acquire().await;
        let freeze = async {
            sleep(Duration::from_secs(4) + Duration::from_millis(tenths * 100)).await;
            server.frozen.send_replace(true);
            sleep(Duration::from_secs(8)).await;
            server.frozen.send_replace(false);
            sleep(Duration::from_secs(3)).await;
            assert!(hold.allows_writes(), "{tenths}");
            sleep(Duration::from_secs(20)).await;
        };
        tokio::select! {
            () = election.keep() => panic!("the Lease was lost, {tenths}"),
            () = freeze => {}
        }
        assert_eq!(server.stored.lock().holder(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn abandons_a_connection_without_response() {
    let server = Server::new(&lease_store());
    let (mut election, _) = server.candidate("a");
    election.acquire().await;
    assert_eq!(*server.connections.lock(), 1);
    server.frozen.send_replace(true);
    election.keep().await;
    let attempts = *server.connections.lock() - 1;
    assert!((2..=3).contains(&attempts), "{attempts} new connections within the deadline");
}

#[tokio::test(start_paused = true)]
async fn stops_writing_before_another_candidate_takes_the_lease() {
    for tenths in 0..25 {
        let stored = lease_store();
        let (own, other) = (Server::new(&stored), Server::new(&stored));
        let (mut first, first_hold) = own.candidate("a");
        let (mut second, second_hold) = other.candidate("b");
        first.acquire().await;
        let stopped = async {
            first.keep().await;
            Instant::now()
        };
        let taken = async {
            second.acquire().await;
            assert!(!first_hold.allows_writes(), "two writers, {tenths}");
            assert!(second_hold.allows_writes());
            Instant::now()
        };
        let freeze = async {
            sleep(Duration::from_millis(3000 + tenths * 100)).await;
            own.frozen.send_replace(true);
            Instant::now()
        };
        let (stopped, taken, frozen) = tokio::join!(stopped, taken, freeze);
        assert!(stopped < taken, "{tenths}");
        assert!(taken - frozen <= Duration::from_secs(20), "failover took {:?}", taken - frozen);
        // What the stopped holder sent last must not take the Lease back.
        own.frozen.send_replace(false);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(stored.lock().holder(), "b", "{tenths}");
    }
}

#[tokio::test(start_paused = true)]
async fn never_takes_a_lease_that_is_renewed() {
    let stored = lease_store();
    let server = Server::new(&stored);
    let ((mut first, _), (mut second, second_hold)) = (server.candidate("a"), server.candidate("b"));
    first.acquire().await;
    tokio::select! {
        () = first.keep() => panic!("lost"),
        () = second.acquire() => panic!("stolen"),
        () = sleep(Duration::from_secs(300)) => {}
    }
    assert!(!second_hold.allows_writes());
    assert!(stored.lock().writes.iter().all(|(_, holder)| holder == "a"));
    // Without renewals it is free after its duration, measured from the last change that the candidate saw.
    let last = stored.lock().writes.last().expect("a write").0;
    second.acquire().await;
    let waited = last.elapsed();
    assert!(waited >= Duration::from_secs(15) && waited <= Duration::from_secs(20), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_a_duration_is_not_free() {
    let stored = lease_store();
    let held = json!({ "metadata": { "name": LEASE }, "spec": { "holderIdentity": "other" } });
    stored.lock().write(held);
    let (mut election, _) = Server::new(&stored).candidate("a");
    let began = Instant::now();
    election.acquire().await;
    assert!(began.elapsed() >= Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_response_was_lost_is_no_loss() {
    let server = Server::new(&lease_store());
    let (mut election, hold) = server.candidate("a");
    election.acquire().await;
    let lose = async {
        for _ in 0..5 {
            sleep(Duration::from_secs(3)).await;
            server.failures.lock().push(StatusCode::INTERNAL_SERVER_ERROR);
            server.frozen.send_replace(true);
            sleep(Duration::from_secs(5)).await;
            server.frozen.send_replace(false);
        }
        assert!(hold.allows_writes());
    };
    tokio::select! {
        () = election.keep() => panic!("lost"),
        () = lose => {}
    }
}

#[tokio::test(start_paused = true)]
async fn ends_the_hold_when_another_candidate_has_the_lease() {
    let stored = lease_store();
    let server = Server::new(&stored);
    let (mut election, hold) = server.candidate("a");
    election.acquire().await;
    let theirs = json!({ "metadata": { "name": LEASE }, "spec": { "holderIdentity": "b", "leaseDurationSeconds": 15 } });
    stored.lock().write(theirs);
    let began = Instant::now();
    election.keep().await;
    assert!(!hold.allows_writes());
    assert!(began.elapsed() <= Duration::from_secs(3), "noticed at the next renewal");
    assert_eq!(stored.lock().holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_free_at_once() {
    let stored = lease_store();
    let server = Server::new(&stored);
    let ((mut first, hold), (mut second, _)) = (server.candidate("a"), server.candidate("b"));
    first.acquire().await;
    first.release().await;
    assert!(!hold.allows_writes());
    let began = Instant::now();
    second.acquire().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn writes_end_even_if_the_election_is_starved() {
    let server = Server::new(&lease_store());
    let (mut election, hold) = server.candidate("a");
    election.acquire().await;
    // Nobody polls the election.
    advance(Duration::from_secs(11)).await;
    assert!(hold.allows_writes());
    advance(Duration::from_secs(2)).await;
    assert!(!hold.allows_writes());
}

#[test]
fn claim_keeps_the_version_and_counts_transitions() {
    let claim = |current, identity, at| claimed(current, identity, Duration::from_secs(15), at);
    let mut theirs = claim(None, "them", Timestamp::UNIX_EPOCH);
    theirs.metadata.resource_version = Some("7".to_owned());
    let later = Timestamp::from_second(60).expect("a time");
    let ours = claim(Some(theirs), "us", later);
    assert_eq!(ours.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(holder(&ours), Some("us"));
    let spec = ours.spec.clone().expect("a spec");
    assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(2), Some(MicroTime(later))));
    assert_eq!(spec.lease_duration_seconds, Some(15));
    let renewed = claim(Some(ours), "us", Timestamp::from_second(65).expect("a time"));
    let spec = renewed.spec.expect("a spec");
    assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(2), Some(MicroTime(later))));
}
