//! Connections: failed handshakes, limits, timeouts and shutdown.

use std::time::Duration;

use http_body_util::BodyExt;
use metrics_core::memory::MemoryBudget;
use metrics_core::server::listen::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::test_server::{Ca, Client, memory_port, port};

const SECOND: Duration = Duration::from_secs(1);
const ADDRESS: [u8; 4] = [10, 0, 0, 1];

#[tokio::test]
async fn responds_to_http_on_the_https_port() {
    let port = port(Limits::default()).await;
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{response}");
    assert!(response.ends_with("Client sent an HTTP request to an HTTPS server.\n"), "{response}");
}

#[tokio::test(start_paused = true)]
async fn counts_failed_handshakes_by_cause() {
    let port = memory_port(Limits { handshake: Duration::from_millis(200), ..Limits::default() });
    drop(port.connect(ADDRESS));
    let mut garbage = port.connect(ADDRESS);
    garbage.write_all(b"\0\0\0").await.unwrap();
    let mut silent = port.connect(ADDRESS);
    let read = timeout(5 * SECOND, silent.read(&mut [0])).await.expect("closed in time");
    assert_eq!(read.unwrap(), 0);
    let metrics = port.metrics().await;
    for outcome in ["closed", "not_tls", "timeout"] {
        let series = format!("metrics_core_tls_handshakes_total{{outcome=\"{outcome}\"}} 1\n");
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_an_idle_one() {
    let port = port(Limits { connections: 1, ..Limits::default() }).await;
    let client = Client { http2: false, ..Client::default() };
    let mut first = client.open(&port).await;
    assert_eq!(first.get("/livez", &[]).await, (200, "ok".into()));
    assert_eq!(client.get(&port, "/livez", &[]).await.0, 200);
    timeout(5 * SECOND, first.ended).await.expect("closed").unwrap();
}

#[tokio::test]
async fn closes_http2_connections_of_anonymous_clients() {
    let ca = Ca::new();
    let port = port(Limits::default()).await;
    port.trust.set_client_ca(ca.anchors());
    let mut anonymous = Client::default().open(&port).await;
    assert_eq!(anonymous.get("/livez", &[]).await.0, 200);
    timeout(5 * SECOND, anonymous.ended).await.expect("closed after the response").unwrap();
    let mut jane = Client::with(ca.client("jane")).open(&port).await;
    assert_eq!(jane.get("/livez", &[]).await.0, 200);
    sleep(SECOND / 5).await;
    assert_eq!(jane.get("/livez", &[]).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn returns_429_over_the_limit_but_not_for_probes() {
    let ca = Ca::new();
    let port = memory_port(Limits { in_flight: Some(1), ..Limits::default() });
    port.trust.set_client_ca(ca.anchors());
    let (mut slow, mut jane) = (
        Client::with(ca.client("slow")).open_memory(&port).await,
        Client::with(ca.client("jane")).open_memory(&port).await,
    );
    let open = tokio::spawn(async move { slow.get("/apis/slow", &[]).await.0 });
    sleep(SECOND / 5).await;
    assert_eq!(jane.get("/apis/x", &[]).await, (429, "Too many requests, please try again later.\n".into()));
    assert_eq!(jane.get("/livez", &[]).await.0, 200);
    // The path of a watch that does not exist.
    assert_eq!(jane.get("/apis/no-such-watch", &[]).await.0, 429);
    assert_eq!(open.await.unwrap(), 200);
    assert_eq!(jane.get("/apis/x", &[]).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn returns_429_without_memory_for_the_headers() {
    let ca = Ca::new();
    // About 170 KB for requests.
    let port = memory_port(Limits { memory: MemoryBudget::new(1 << 20), ..Limits::default() });
    port.trust.set_front_proxy(ca.front_proxy(&[]));
    let client = Client::with(ca.client("aggregator"));
    let (mut slow, mut proxy) = (client.open_memory(&port).await, client.open_memory(&port).await);
    let large = "x".repeat(60 << 10);
    let open = tokio::spawn(async move {
        slow.get("/apis/slow", &[("X-Remote-User", "slow"), ("X-Large", &large)]).await.0
    });
    sleep(SECOND / 5).await;
    let large = "x".repeat(60 << 10);
    assert_eq!(proxy.get("/apis/x", &[("X-Remote-User", "jane"), ("X-Large", &large)]).await.0, 429);
    assert_eq!(proxy.get("/livez", &[("X-Large", &large)]).await.0, 200);
    assert_eq!(proxy.get("/apis/x", &[("X-Remote-User", "jane")]).await.0, 200, "a small one fits");
    assert_eq!(open.await.unwrap(), 200);
    assert_eq!(proxy.get("/apis/x", &[("X-Remote-User", "jane"), ("X-Large", &large)]).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn open_watches_take_no_place_of_requests() {
    let ca = Ca::new();
    let port = memory_port(Limits { in_flight: Some(1), ..Limits::default() });
    port.trust.set_client_ca(ca.anchors());
    let mut jane = Client::with(ca.client("jane")).open_memory(&port).await;
    let _first = jane.begin("/apis/silence", &[]).await.unwrap();
    let _second = jane.begin("/apis/silence", &[]).await.unwrap();
    assert_eq!(jane.get("/apis/x", &[]).await.0, 200);
    let metrics = port.metrics().await;
    assert!(metrics.contains("apiserver_longrunning_requests 2\n"), "{metrics}");
    assert!(metrics.contains("apiserver_current_inflight_requests 1\n"), "that of /metrics: {metrics}");
}

#[tokio::test(start_paused = true)]
async fn returns_504_after_the_request_timeout() {
    let ca = Ca::new();
    let port = memory_port(Limits { request: Duration::from_millis(200), ..Limits::default() });
    port.trust.set_client_ca(ca.anchors());
    let (code, text) = Client::with(ca.client("slow")).open_memory(&port).await.get("/apis/slow", &[]).await;
    assert_eq!((code, text.contains("allotted timeout")), (504, true));
}

#[tokio::test]
async fn returns_431_for_large_headers() {
    let ca = Ca::new();
    let port = port(Limits { header_bytes: 16 << 10, ..Limits::default() }).await;
    port.trust.set_client_ca(ca.anchors());
    let (large, small) = ("x".repeat(20 << 10), "x".repeat(8 << 10));
    for http2 in [false, true] {
        let client = Client { http2, ..Client::with(ca.client("jane")) };
        let mut connection = client.open(&port).await;
        assert_eq!(connection.get("/livez", &[("X-Large", &small)]).await.0, 200, "HTTP/2: {http2}");
        assert_eq!(connection.get("/livez", &[("X-Large", &large)]).await.0, 431, "HTTP/2: {http2}");
        if http2 {
            assert_eq!(connection.get("/livez", &[]).await.0, 200, "the connection stays open");
        }
    }
}

#[tokio::test]
async fn front_proxies_may_send_many_groups() {
    let ca = Ca::new();
    let port = port(Limits::default()).await;
    port.trust.set_client_ca(ca.anchors());
    port.trust.set_front_proxy(ca.front_proxy(&["aggregator"]));
    let groups: Vec<String> =
        (0..1000).map(|at| format!("a-group-with-a-long-name-in-the-directory-{at}")).collect();
    let mut headers = vec![("X-Remote-User", "jane")];
    headers.extend(groups.iter().map(|group| ("X-Remote-Group", group.as_str())));
    for http2 in [false, true] {
        let proxy = Client { http2, ..Client::with(ca.client("aggregator")) };
        assert_eq!(proxy.get(&port, "/apis/x", &headers).await.0, 200, "HTTP/2: {http2}");
        let user = Client { http2, ..Client::with(ca.client("jane")) };
        assert_eq!(user.get(&port, "/apis/x", &headers).await.0, 431, "HTTP/2: {http2}");
    }
}

#[tokio::test(start_paused = true)]
async fn closes_only_the_watch_that_the_client_does_not_read() {
    let ca = Ca::new();
    let port = memory_port(Limits { stall: SECOND / 2, ..Limits::default() });
    port.trust.set_client_ca(ca.anchors());
    let mut shared = Client::with(ca.client("jane")).open_memory(&port).await;
    let silence = shared.begin("/apis/silence", &[]).await.unwrap();
    let flood = shared.begin("/apis/flood", &[]).await.unwrap();
    let (mut read, unread) = (shared.begin("/apis/flood", &[]).await.unwrap().into_body(), flood.into_body());
    let start = Instant::now();
    while start.elapsed() < 2 * SECOND {
        let frame = read.frame().await.expect("a watch that the client reads continues").unwrap();
        assert!(frame.is_data());
        sleep(SECOND / 100).await;
    }
    drop(read);
    assert!(unread.collect().await.is_err(), "reset");
    assert_eq!(shared.get("/livez", &[]).await.0, 200, "the connection stays open");
    assert!(
        timeout(SECOND / 5, silence.into_body().collect()).await.is_err(),
        "a watch without data stays open"
    );
    // Over HTTP/1.1 the watch has a connection of its own.
    let mut alone = Client { http2: false, ..Client::with(ca.client("jane")) }.open_memory(&port).await;
    let unread = alone.begin("/apis/flood", &[]).await.unwrap();
    sleep(SECOND).await;
    let metrics = port.metrics().await;
    assert!(
        metrics.contains("metrics_core_closed_connections_total{cause=\"slow_watch\"} 2\n"),
        "both are counted: {metrics}"
    );
    assert!(metrics.contains("apiserver_longrunning_requests 0\n"), "none is left: {metrics}");
    assert!(unread.into_body().collect().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_open_requests() {
    let ca = Ca::new();
    let mut port = memory_port(Limits::default());
    port.trust.set_client_ca(ca.anchors());
    for http2 in [true, false] {
        let mut slow = Client { http2, ..Client::with(ca.client("slow")) }.open_memory(&port).await;
        tokio::spawn(async move { assert_eq!(slow.get("/apis/slow", &[]).await.0, 200) });
    }
    let mut slow = Client::with(ca.client("slow")).open_memory(&port).await;
    let open = tokio::spawn(async move { slow.get("/apis/slow", &[]).await.0 });
    sleep(SECOND / 5).await;
    port.stop.take().unwrap().send(()).unwrap();
    assert_eq!(open.await.unwrap(), 200);
    timeout(5 * SECOND, &mut port.ended).await.expect("ended").unwrap();
    assert!(port.is_closed());
}
