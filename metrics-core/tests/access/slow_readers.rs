//! Clients that read a response slowly, or not at all. The time is paused.

use std::time::Duration;

use http_body_util::BodyExt;
use metrics_core::server::listen::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::raw_http2::{RST_STREAM, RawConnection, ReceivedFrame, get};
use crate::test_server::{Ca, Client, Connection, LARGE, MemoryPort, memory_port};

const SECOND: Duration = Duration::from_secs(1);
const ADDRESS: [u8; 4] = [10, 0, 0, 1];

/// Starts a server, and opens a connection of the user `jane`.
async fn jane(http2: bool) -> (MemoryPort, Connection) {
    let ca = Ca::new();
    let port = memory_port(Limits::default());
    port.trust.set_client_ca(ca.anchors());
    let client = Client { http2, ..Client::with(ca.client("jane")) };
    let connection = client.open_over(port.connect(ADDRESS)).await;
    (port, connection)
}

#[tokio::test(start_paused = true)]
async fn an_unread_response_loses_its_stream_and_not_the_connection() {
    for path in ["/apis/large", "/apis/endless", "/apis/flood"] {
        let (port, mut shared) = jane(true).await;
        let start = Instant::now();
        let unread = shared.begin(path, &[]).await.unwrap();
        // Others use the connection all the time, longer than any timeout.
        while start.elapsed() < 150 * SECOND {
            assert_eq!(shared.get("/apis/x", &[]).await.0, 200, "{path} after {:?}", start.elapsed());
            sleep(SECOND).await;
        }
        assert!(unread.into_body().collect().await.is_err(), "{path}: reset");
        assert_eq!(shared.get("/apis/large", &[]).await.1.len(), LARGE.len(), "{path}");
        let cause = if path == "/apis/flood" { "slow_watch" } else { "slow_client" };
        let series = format!("metrics_core_closed_connections_total{{cause=\"{cause}\"}} 1\n");
        let metrics = port.metrics().await;
        assert!(metrics.contains(&series), "{series} in {metrics}");
        assert!(metrics.contains("apiserver_longrunning_requests 0\n"), "{path}: {metrics}");
        assert!(metrics.contains("apiserver_current_inflight_requests 1\n"), "that of /metrics: {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unread_response_is_reset_after_the_stall_timeout() {
    let (_port, mut shared) = jane(true).await;
    let start = Instant::now();
    let mut unread = shared.begin("/apis/endless", &[]).await.unwrap().into_body();
    sleep(29 * SECOND).await;
    assert!(unread.frame().await.unwrap().is_ok(), "it would still be served");
    // That frame let the client receive more, so the time starts again.
    sleep(35 * SECOND).await;
    let error = loop {
        if let Err(error) = unread.frame().await.expect("an end by error") {
            break error;
        }
    };
    assert!(error.to_string().contains("error"), "{error}");
    assert!(start.elapsed() < 65 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_client_never_opens_its_window_is_reset() {
    let ca = Ca::new();
    let port = memory_port(Limits::default());
    port.trust.set_client_ca(ca.anchors());
    let tls = Client::with(ca.client("jane")).connect_over(port.connect(ADDRESS)).await.unwrap();
    let mut raw = RawConnection::start(tls, 0).await;
    raw.send(&[get(1, "/apis/flood", &[]), get(3, "/apis/large", &[])].concat()).await;
    let reset = |frames: Vec<ReceivedFrame>| frames.iter().filter(|frame| frame.kind == RST_STREAM).count();
    assert_eq!(reset(raw.receive(29 * SECOND).await), 0);
    assert_eq!(reset(raw.receive(3 * SECOND).await), 2);
    let metrics = port.metrics().await;
    assert!(metrics.contains("apiserver_longrunning_requests 0\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_read_too_slowly_is_reset() {
    let (_port, mut shared) = jane(true).await;
    let start = Instant::now();
    let mut slow = shared.begin("/apis/endless", &[]).await.unwrap().into_body();
    loop {
        match slow.frame().await.expect("an end by error") {
            Ok(_) => sleep(SECOND / 100).await,
            Err(_) => break,
        }
        assert!(start.elapsed() < 200 * SECOND);
    }
    let elapsed = start.elapsed();
    assert!((89 * SECOND..100 * SECOND).contains(&elapsed), "request timeout and stall timeout: {elapsed:?}");
    assert_eq!(shared.get("/apis/x", &[]).await.0, 200, "the connection stays open");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_read_has_no_timeout() {
    let (_port, mut shared) = jane(true).await;
    let silence = shared.begin("/apis/silence", &[]).await.unwrap();
    let mut flood = shared.begin("/apis/flood", &[]).await.unwrap().into_body();
    let start = Instant::now();
    while start.elapsed() < 300 * SECOND {
        assert!(flood.frame().await.unwrap().is_ok());
        sleep(SECOND / 20).await;
    }
    assert!(timeout(SECOND, silence.into_body().collect()).await.is_err(), "a watch without data stays open");
}

#[tokio::test(start_paused = true)]
async fn an_unread_response_over_http1_closes_the_connection() {
    for path in ["/apis/large", "/apis/endless", "/apis/flood"] {
        let (_port, mut alone) = jane(false).await;
        let start = Instant::now();
        let unread = alone.begin(path, &[]).await.unwrap();
        sleep(29 * SECOND).await;
        assert!(!alone.ended.is_finished(), "{path}");
        sleep(4 * SECOND).await;
        assert!(unread.into_body().collect().await.is_err(), "{path}");
        alone.ended.await.unwrap();
        assert!(start.elapsed() < 35 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn responses_that_nobody_reads_close_the_connection_though_they_are_small() {
    let port = memory_port(Limits::default());
    let mut tls =
        Client { http2: false, ..Client::default() }.connect_over(port.connect(ADDRESS)).await.unwrap();
    let start = Instant::now();
    // Each response is complete before it is sent, so that no request is open.
    let mut sent = 0;
    while timeout(SECOND, tls.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")).await.is_ok() {
        sent += 1;
        assert!(sent < 100_000);
    }
    timeout(62 * SECOND, async { while tls.write_all(b"GET").await.is_ok() {} }).await.expect("closed");
    assert!(start.elapsed() < 65 * SECOND, "{:?}", start.elapsed());
    let metrics = port.metrics().await;
    assert!(
        metrics.contains("metrics_core_closed_connections_total{cause=\"slow_client\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_at_all_is_disconnected() {
    let ca = Ca::new();
    let port = memory_port(Limits::default());
    port.trust.set_client_ca(ca.anchors());
    let mut tls = Client::with(ca.client("jane")).connect_over(port.connect(ADDRESS)).await.unwrap();
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // Pings and settings that it must acknowledge.
    let ping = b"\0\0\x08\x06\0\0\0\0\0pingping".repeat(100);
    let start = Instant::now();
    let closed = timeout(60 * SECOND, async { while tls.write_all(&ping).await.is_ok() {} }).await;
    assert!(closed.is_ok());
    assert!(start.elapsed() < 45 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_body_of_a_request_does_not_delay_its_response() {
    let ca = Ca::new();
    let port = memory_port(Limits::default());
    port.trust.set_client_ca(ca.anchors());
    let client = Client { http2: false, ..Client::with(ca.client("jane")) };
    let mut tls = client.connect_over(port.connect(ADDRESS)).await.unwrap();
    tls.write_all(b"POST /apis/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nunfinished")
        .await
        .unwrap();
    let start = Instant::now();
    let mut response = Vec::new();
    let _ = timeout(10 * SECOND, tls.read_to_end(&mut response)).await.expect("closed after the response");
    assert!(response.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&response));
    assert!(start.elapsed() < SECOND);
    // Over HTTP/2 the connection continues.
    let mut shared = Client::with(ca.client("jane")).open_over(port.connect(ADDRESS)).await;
    assert_eq!(shared.post_unfinished("/apis/x").await, 200);
    sleep(200 * SECOND / 4).await;
    assert_eq!(shared.get("/apis/x", &[]).await.0, 200);
}
