//! Responses that nobody reads, within a memory budget.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::memory::InMemoryRows;
use super::{BASE, NOW_NS, PROTOBUF, request};
use crate::api::{Api, ApiConfig, ResponseBody, request_info};
use crate::memory::{Holder, MemoryBudget, MemoryClass, Reservation};
use crate::server::listen::DirectClient;

const TOTAL: usize = 24 << 20;

/// A response may be revoked after this time without progress.
const STALL: Duration = Duration::from_secs(5);

struct Fixture {
    budget: Arc<MemoryBudget>,
    api: Api,
}

impl Fixture {
    fn new() -> Self {
        let budget = MemoryBudget::new(TOTAL);
        let config = ApiConfig { max_watches: 10_000, ..ApiConfig::default() };
        let api = Api::with_memory(Arc::new(InMemoryRows::many(4_000)), config, budget.clone());
        Self { budget, api }
    }

    fn get(&self, path: &str, accept: &str) -> Response<ResponseBody> {
        let request = request("GET", &format!("{BASE}{path}"), &[("accept", accept)]);
        let info = request_info(&request.method, &request.uri);
        self.api.handle_at(&request, &info, NOW_NS)
    }

    /// Takes all memory that a class has left but `left` bytes.
    fn take(&self, class: MemoryClass, left: usize) -> Reservation {
        let mut taken = self.budget.empty(class);
        let mut step = TOTAL;
        while step > 0 {
            step = if taken.try_grow(step) { step } else { step / 2 };
        }
        taken.release(left);
        taken
    }

    /// Starts responses that are never read until one is rejected. Returns them and the rejection.
    fn flood(&self, path: &str, accept: &str) -> (Vec<Unread>, Response<ResponseBody>) {
        let mut unread = Vec::new();
        loop {
            let mut response = self.get(path, accept);
            if response.status() != 200 {
                return (unread, response);
            }
            let read_ahead = match poll(response.body_mut()) {
                Poll::Ready(chunk) => chunk,
                Poll::Pending => None,
            };
            unread.push(Unread { response, _read_ahead: read_ahead });
            assert!(unread.len() < 10_000, "{path} {accept}");
        }
    }
}

/// A response that its client does not read, and what the server holds of its body to send it.
struct Unread {
    response: Response<ResponseBody>,
    _read_ahead: Option<Bytes>,
}

impl Unread {
    fn is_revoked(&self) -> bool {
        holder(&self.response).revoked().now_or_never().is_some()
    }
}

fn poll(body: &mut ResponseBody) -> Poll<Option<Bytes>> {
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(body)
        .poll_frame(&mut context)
        .map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap()))
}

/// Reads a body to its end. Copies it, because a list ends once its parts are dropped.
async fn read(mut body: ResponseBody) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    bytes
}

fn holder(response: &Response<ResponseBody>) -> &Holder {
    response.extensions().get::<Holder>().expect("every list and watch has a holder")
}

#[tokio::test(start_paused = true)]
async fn unread_responses_stay_within_the_budget_and_others_get_through() {
    for (path, accept) in [
        ("/pods", "application/json"),
        ("/pods", "application/yaml"),
        ("/pods", PROTOBUF),
        ("/pods?limit=20", "application/json"),
        ("/nodes?labelSelector=app%3Da3", PROTOBUF),
        ("/pods?watch=1", "application/json"),
    ] {
        let fixture = Fixture::new();
        let (mut unread, rejected) = fixture.flood(path, accept);
        assert!(unread.len() > 10, "{path}: {}", unread.len());
        assert!(fixture.budget.reserved() <= TOTAL, "{path}: {}", fixture.budget.reserved());
        assert_eq!(
            (rejected.status().as_u16(), rejected.headers()["retry-after"].as_bytes()),
            (429, &b"1"[..])
        );
        // Clients that are slow, but not yet stalled, are left alone.
        assert!(!unread.iter().any(Unread::is_revoked), "{path}");
        tokio::time::advance(STALL).await;
        assert_eq!(fixture.get(path, accept).status(), 429);
        let revoked = unread.iter().position(Unread::is_revoked);
        // The server ends that response.
        drop(unread.swap_remove(revoked.expect("one response is revoked")));
        let mut through = fixture.get("/namespaces/ns-1/pods?limit=3", "application/json");
        while through.status() != 200 {
            unread.retain(|unread| !unread.is_revoked());
            through = fixture.get("/namespaces/ns-1/pods?limit=3", "application/json");
        }
        assert!(!read(through.into_body()).await.is_empty());
        drop(unread);
        assert_eq!(fixture.budget.reserved(), 0, "{path}");
    }
}

#[test]
fn watches_leave_memory_to_lists() {
    let fixture = Fixture::new();
    let (watches, rejected) = fixture.flood("/pods?watch=1", "application/json");
    assert_eq!(rejected.status(), 429);
    assert_eq!(fixture.get("/pods", "application/json").status(), 200);
    drop(watches);
}

#[test]
fn lists_of_direct_clients_leave_memory_to_front_proxies() {
    let fixture = Fixture::new();
    let direct = || {
        let mut request = request("GET", &format!("{BASE}/pods"), &[]);
        request.extensions.insert(DirectClient { spared_part: 4 });
        let info = request_info(&request.method, &request.uri);
        fixture.api.handle_at(&request, &info, NOW_NS)
    };
    let lists: Vec<_> = std::iter::from_fn(|| Some(direct()).filter(|list| list.status() == 200)).collect();
    let (through, _) = fixture.flood("/pods", "application/json");
    assert!(lists.len() > 5 && through.len() * 5 > lists.len(), "{} {}", lists.len(), through.len());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stalls_before_it_keeps_rows_does_not_delay_others() {
    let fixture = Fixture::new();
    let _others = [MemoryClass::EncodedLists, MemoryClass::KeptRows].map(|class| fixture.take(class, 0));
    // It is the list that may keep rows next, but its client reads nothing.
    let unread = fixture.get("/pods", PROTOBUF);
    let mut other = fixture.get("/pods", PROTOBUF).into_body();
    tokio::time::advance(STALL).await;
    assert!(holder(&unread).revoked().now_or_never().is_none());
    assert!(poll(&mut other).is_pending());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(poll(&mut other).is_pending());
    assert!(holder(&unread).revoked().now_or_never().is_some());
}

#[test]
fn memory_is_held_until_the_last_byte_is_sent() {
    let fixture = Fixture::new();
    for (path, accept, is_long) in [
        ("/pods", "application/json", true),
        ("/pods?limit=20", "application/json", false),
        ("/pods", PROTOBUF, true),
    ] {
        let mut body = fixture.get(path, accept).into_body();
        let mut last = Bytes::new();
        let mut unsent = 0;
        // A long response does not end while its last part is unsent, so that its stream can be reset.
        while unsent < 100 {
            match poll(&mut body) {
                Poll::Ready(Some(chunk)) => (last, unsent) = (chunk, 0),
                Poll::Ready(None) => break,
                Poll::Pending => unsent += 1,
            }
        }
        assert_eq!((unsent == 100, body.is_end_stream()), (is_long, !is_long), "{path} {accept}");
        if is_long {
            drop(last.split_to(1));
            assert!(poll(&mut body).is_pending());
        }
        assert!(fixture.budget.reserved_of(MemoryClass::Responses) >= last.len(), "{path} {accept}");
        drop(last);
        assert_eq!(poll(&mut body), Poll::Ready(None));
        drop(body);
        assert_eq!(fixture.budget.reserved(), 0, "{path} {accept}");
    }
}

#[test]
fn a_short_list_holds_its_length() {
    let fixture = Fixture::new();
    let response = fixture.get("/pods?limit=20", "application/json");
    let length = usize::try_from(response.body().size_hint().exact().unwrap()).unwrap();
    assert_eq!(fixture.budget.reserved(), length);
}

#[tokio::test(start_paused = true)]
async fn lists_wait_for_memory_for_rows_and_then_end() {
    let fixture = Fixture::new();
    let whole = read(fixture.get("/pods", PROTOBUF).into_body()).await;
    // Nothing can be encoded before it is sent, and there is memory for the rows of one list.
    let _encoded = fixture.take(MemoryClass::EncodedLists, 0);
    let others = fixture.take(MemoryClass::KeptRows, 500_000);
    // The first chunk is always encoded; the rest is kept.
    let mut first = fixture.get("/pods", PROTOBUF).into_body();
    let beginning = first.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    assert!(fixture.budget.reserved_of(MemoryClass::KeptRows) > others.bytes() + 200_000);
    let second = fixture.get("/pods", PROTOBUF).into_body();
    let mut second = std::pin::pin!(read(second));
    for _ in 0..3 {
        assert!(second.as_mut().now_or_never().is_none(), "no memory for the rows of a second list");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let rest = read(first).await;
    assert!([beginning, rest].concat() == whole);
    assert!(second.await == whole);
    // A list that never gets memory is revoked.
    let rest = fixture.take(MemoryClass::KeptRows, 0);
    let taken = fixture.budget.reserved_of(MemoryClass::KeptRows);
    let third = fixture.get("/pods", PROTOBUF);
    let holder = holder(&third).clone();
    let mut third = std::pin::pin!(read(third.into_body()));
    assert!(tokio::time::timeout(Duration::from_secs(5), third.as_mut()).await.is_err());
    assert!(holder.revoked().now_or_never().is_none());
    assert!(tokio::time::timeout(Duration::from_secs(6), third.as_mut()).await.is_err());
    assert!(holder.revoked().now_or_never().is_some());
    assert_eq!(fixture.budget.reserved_of(MemoryClass::KeptRows), taken);
    drop((others, rest));
}

#[test]
fn a_step_visits_a_bounded_number_of_rows() {
    // A selection without a match: each step ends although it found nothing.
    let budget = MemoryBudget::new(TOTAL);
    let rows = InMemoryRows::many(50_000);
    let api = Api::with_memory(Arc::new(rows), ApiConfig::default(), budget);
    for accept in ["application/json", "application/yaml", PROTOBUF] {
        let uri = format!("{BASE}/nodes?labelSelector=app%3Dnone");
        let request = request("GET", &uri, &[("accept", accept)]);
        let info = request_info(&request.method, &request.uri);
        let mut body = api.handle_at(&request, &info, NOW_NS).into_body();
        let mut pending = 0;
        while poll(&mut body).is_pending() {
            pending += 1;
        }
        // 50,000 rows in batches of 4,096, of which six were read before the response started.
        assert!((6..20).contains(&pending), "{accept}: {pending}");
    }
}
