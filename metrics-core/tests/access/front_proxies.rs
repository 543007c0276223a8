//! Front proxies: one connection serves all users of a kube-apiserver, none of which may end it or take its place.

use std::time::Duration;

use metrics_core::memory::MemoryBudget;
use metrics_core::server::listen::Limits;
use tokio::time::sleep;

use crate::raw_http2::{GOAWAY, HEADERS, RST_STREAM, RawConnection, ReceivedFrame, cancel, get};
use crate::test_server::{Ca, Client, Connection, MemoryPort, memory_port};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const ADDRESS: [u8; 4] = [10, 0, 0, 1];
const JANE: &[(&str, &str)] = &[("x-remote-user", "jane")];
const WINDOW: u32 = 65_535;

fn start(limits: Limits) -> (MemoryPort, Ca) {
    let ca = Ca::new();
    let port = memory_port(limits);
    port.trust.set_client_ca(ca.anchors());
    port.trust.set_front_proxy(ca.front_proxy(&["aggregator"]));
    (port, ca)
}

async fn open_proxy(port: &MemoryPort, ca: &Ca) -> Connection {
    Client::with(ca.client("aggregator")).open_memory(port).await
}

fn count(frames: &[ReceivedFrame], kind: u8) -> usize {
    frames.iter().filter(|frame| frame.kind == kind).count()
}

#[tokio::test(start_paused = true)]
async fn bodies_of_requests_do_not_end_the_connection() {
    let (port, ca) = start(Limits::default());
    let mut proxy = open_proxy(&port, &ca).await;
    assert_eq!(proxy.get("/apis/x", JANE).await.0, 200);
    for _ in 0..5 {
        assert_eq!(proxy.post_single_bytes("/apis/x", JANE).await, 200);
    }
    sleep(SECOND).await;
    assert_eq!(proxy.get("/apis/x", JANE).await.0, 200);
    assert!(!proxy.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn malformed_requests_do_not_end_the_connection() {
    let (port, ca) = start(Limits::default());
    for (user, ends) in [("aggregator", false), ("jane", true)] {
        let tls = Client::with(ca.client(user)).connect_over(port.connect(ADDRESS)).await.unwrap();
        let mut raw = RawConnection::start(tls, WINDOW).await;
        let mut received = Vec::new();
        for batch in 0..23 {
            let streams = (0..50).map(|at| 1 + 2 * (50 * batch + at));
            // kube-apiserver forwards the query as its user sent it.
            raw.send(&streams.flat_map(|stream| get(stream, "/apis/x?<", JANE)).collect::<Vec<_>>()).await;
            received.extend(raw.receive(MILLISECOND).await);
        }
        assert!(count(&received, RST_STREAM) >= 1000, "{}", count(&received, RST_STREAM));
        raw.send(&get(9999, "/apis/x", JANE)).await;
        received.extend(raw.receive(MILLISECOND).await);
        assert_eq!(count(&received, GOAWAY) > 0, ends, "{user}");
        assert_eq!(count(&received, HEADERS) > 0, !ends, "{user}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_cancelled_requests_do_not_end_the_connection() {
    let (port, ca) = start(Limits::default());
    for (user, ends) in [("aggregator", false), ("jane", true)] {
        let tls = Client::with(ca.client(user)).connect_over(port.connect(ADDRESS)).await.unwrap();
        let mut raw = RawConnection::start(tls, WINDOW).await;
        let mut received = raw.receive(MILLISECOND).await;
        // As after this process was suspended: the requests and their cancellations arrive at once.
        let streams = (0..200).map(|at| 1 + 2 * at);
        let frames = streams.flat_map(|stream| [get(stream, "/apis/x", JANE), cancel(stream)].concat());
        raw.send(&frames.collect::<Vec<_>>()).await;
        raw.send(&get(9999, "/apis/x", JANE)).await;
        received.extend(raw.receive(MILLISECOND).await);
        assert_eq!(count(&received, GOAWAY) > 0, ends, "{user}");
        let responded = received.iter().any(|frame| frame.kind == HEADERS && frame.stream == 9999);
        assert_eq!(responded, !ends, "{user}");
    }
}

#[tokio::test(start_paused = true)]
async fn anonymous_users_do_not_end_the_connection() {
    let (port, ca) = start(Limits::default());
    let mut proxy = open_proxy(&port, &ca).await;
    let anonymous = [("x-remote-user", "system:anonymous"), ("x-remote-group", "system:unauthenticated")];
    assert_eq!(proxy.get("/apis/x", &anonymous).await.0, 403);
    sleep(SECOND).await;
    assert_eq!(proxy.get("/apis/x", JANE).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_requests_in_flight_is_reserved() {
    let (port, ca) = start(Limits { in_flight: Some(4), ..Limits::default() });
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut slow = Client::with(ca.client("slow")).open_memory(&port).await;
        open.push(tokio::spawn(async move { slow.get("/apis/slow", &[]).await.0 }));
    }
    sleep(SECOND / 2).await;
    let mut direct = Client::with(ca.client("jane")).open_memory(&port).await;
    assert_eq!(direct.get("/apis/x", &[]).await.0, 429);
    let mut proxy = open_proxy(&port, &ca).await;
    assert_eq!(proxy.get("/apis/x", JANE).await.0, 200);
    for open in open {
        assert_eq!(open.await.unwrap(), 200);
    }
    assert_eq!(direct.get("/apis/x", &[]).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_memory_of_requests_is_reserved() {
    // About 170 KB for requests.
    let (port, ca) = start(Limits { memory: MemoryBudget::new(1 << 20), ..Limits::default() });
    let large = "x".repeat(20 << 10);
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut slow = Client::with(ca.client("slow")).open_memory(&port).await;
        let large = large.clone();
        open.push(tokio::spawn(async move { slow.get("/apis/slow", &[("x-large", &large)]).await.0 }));
    }
    sleep(SECOND / 2).await;
    let mut proxy = open_proxy(&port, &ca).await;
    assert_eq!(proxy.get("/apis/x", JANE).await.0, 200);
    let mut codes = Vec::new();
    for open in open {
        codes.push(open.await.unwrap());
    }
    assert!(codes.contains(&200) && codes.contains(&429), "{codes:?}");
}
