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

    /// Takes all memory of a class but `left` bytes.
    fn take(&self, class: MemoryClass, left: usize) -> Reservation {
        self.budget.try_reserve(class, self.budget.max(class) - left).unwrap()
    }

    /// Starts responses that are never read until one is rejected. Returns them and the rejection.
    fn flood(&self, path: &str, accept: &str) -> (Vec<Response<ResponseBody>>, Response<ResponseBody>) {
        let mut unread = Vec::new();
        loop {
            let mut response = self.get(path, accept);
            if response.status() != 200 {
                return (unread, response);
            }
            // What the server reads ahead.
            let _ = poll(response.body_mut());
            unread.push(response);
            assert!(unread.len() < 10_000, "{path} {accept}");
        }
    }
}

fn poll(body: &mut ResponseBody) -> Poll<Option<Bytes>> {
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(body)
        .poll_frame(&mut context)
        .map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap()))
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
        assert!(unread.iter().all(|response| holder(response).revoked().now_or_never().is_none()), "{path}");
        tokio::time::advance(STALL).await;
        assert_eq!(fixture.get("/pods", "application/json").status(), 429);
        let revoked = unread.iter().position(|response| holder(response).revoked().now_or_never().is_some());
        // The server ends that response.
        drop(unread.swap_remove(revoked.expect("one response is revoked")));
        let mut through = fixture.get("/namespaces/ns-1/pods?limit=3", "application/json");
        while through.status() != 200 {
            let revoked =
                |response: &Response<ResponseBody>| holder(response).revoked().now_or_never().is_some();
            unread.retain(|response| !revoked(response));
            through = fixture.get("/namespaces/ns-1/pods?limit=3", "application/json");
        }
        assert!(!through.into_body().collect().await.unwrap().to_bytes().is_empty());
        drop(unread);
        assert_eq!(fixture.budget.reserved(), 0, "{path}");
    }
}

#[test]
fn memory_is_held_until_the_last_byte_is_sent() {
    let fixture = Fixture::new();
    for (path, accept) in
        [("/pods", "application/json"), ("/pods?limit=20", "application/json"), ("/pods", PROTOBUF)]
    {
        let mut body = fixture.get(path, accept).into_body();
        let mut chunks = Vec::new();
        loop {
            match poll(&mut body) {
                Poll::Ready(Some(chunk)) => chunks.push(chunk),
                Poll::Ready(None) => break,
                Poll::Pending => {}
            }
        }
        drop(body);
        let last = chunks.pop().unwrap();
        drop(chunks);
        assert!(fixture.budget.reserved_of(MemoryClass::Responses) >= last.len(), "{path} {accept}");
        drop(last);
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
    let whole = fixture.get("/pods", PROTOBUF).into_body().collect().await.unwrap().to_bytes();
    // Nothing can be encoded before it is sent, and there is memory for the rows of one list.
    let _encoded = fixture.take(MemoryClass::EncodedLists, 0);
    let others = fixture.take(MemoryClass::KeptRows, 300_000);
    // The first chunk is always encoded; the rest is kept.
    let mut first = fixture.get("/pods", PROTOBUF).into_body();
    let beginning = first.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(fixture.budget.reserved_of(MemoryClass::KeptRows) > others.bytes() + 200_000);
    let second = fixture.get("/pods", PROTOBUF).into_body();
    let mut second = std::pin::pin!(second.collect());
    for _ in 0..3 {
        assert!(second.as_mut().now_or_never().is_none(), "no memory for the rows of a second list");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let rest = first.collect().await.unwrap().to_bytes();
    assert!([beginning, rest].concat() == whole);
    assert!(second.await.unwrap().to_bytes() == whole);
    // A list that never gets memory is revoked.
    let _all = others;
    let _rest = fixture.take_rest(MemoryClass::KeptRows);
    let third = fixture.get("/pods", PROTOBUF);
    let holder = holder(&third).clone();
    let mut third = std::pin::pin!(third.into_body().collect());
    for second in 0..20 {
        assert!(third.as_mut().now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(second < 15 || holder.revoked().now_or_never().is_some(), "{second}");
    }
    assert_eq!(fixture.budget.reserved_of(MemoryClass::KeptRows), fixture.budget.max(MemoryClass::KeptRows));
}

impl Fixture {
    fn take_rest(&self, class: MemoryClass) -> Reservation {
        self.budget.try_reserve(class, self.budget.max(class) - self.budget.reserved_of(class)).unwrap()
    }
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
