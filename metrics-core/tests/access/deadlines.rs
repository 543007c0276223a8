//! Clients that do not finish what they begin: a handshake, a preface, headers. The time is paused.

use std::time::Duration;

use metrics_core::server::listen::Limits;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::test_server::{Ca, Client, memory_port};

const SECOND: Duration = Duration::from_secs(1);
const ADDRESS: [u8; 4] = [10, 0, 0, 1];

/// Reads until the server closes, and returns after how long.
async fn closed_after(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let start = Instant::now();
    let mut received = [0; 4096];
    while stream.read(&mut received).await.is_ok_and(|count| count > 0) {}
    start.elapsed()
}

/// Writes a byte a second until the server closes, and returns after how long.
async fn trickle(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), byte: u8) -> Duration {
    let start = Instant::now();
    loop {
        let mut received = [0; 4096];
        tokio::select! {
            read = stream.read(&mut received) => match read {
                Ok(count) if count > 0 => {}
                _ => return start.elapsed(),
            },
            () = sleep(SECOND) => {
                if stream.write_all(&[byte]).await.is_err() {
                    return start.elapsed();
                }
            }
        }
    }
}

/// Asserts that `elapsed` is about `seconds`.
fn assert_about(elapsed: Duration, seconds: u32, what: &str) {
    let expected = seconds * SECOND;
    assert!(
        (expected..expected + 2 * SECOND).contains(&elapsed),
        "{what}: {elapsed:?}, expected {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn closes_unfinished_handshakes() {
    let port = memory_port(Limits::default());
    assert_about(closed_after(&mut port.connect(ADDRESS)).await, 10, "silent");
    let mut hello = port.connect(ADDRESS);
    // A record of handshake messages with 512 bytes, and a hello of 508.
    hello.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    assert_about(trickle(&mut hello, 0).await, 10, "trickled");
    let metrics = port.metrics().await;
    assert!(metrics.contains("metrics_core_tls_handshakes_total{outcome=\"timeout\"} 2\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn closes_connections_without_a_first_request() {
    let port = memory_port(Limits::default());
    for http2 in [false, true] {
        let client = Client { http2, ..Client::default() };
        let mut silent = client.connect_over(port.connect(ADDRESS)).await.unwrap();
        assert_about(closed_after(&mut silent).await, 10, "silent");
    }
    let client = Client { http2: false, ..Client::default() };
    let mut head = client.connect_over(port.connect(ADDRESS)).await.unwrap();
    head.write_all(b"GET /livez HTTP/1.1\r\nX: ").await.unwrap();
    assert_about(trickle(&mut head, b'x').await, 10, "a head");
    let mut preface = Client::default().connect_over(port.connect(ADDRESS)).await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    assert_about(closed_after(&mut preface).await, 20, "a preface, after the server's GOAWAY");
    let mut settings = Client::default().connect_over(port.connect(ADDRESS)).await.unwrap();
    settings.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    assert_about(closed_after(&mut settings).await, 20, "no stream, after the server's GOAWAY");
    let metrics = port.metrics().await;
    assert!(metrics.contains("metrics_core_closed_connections_total{cause=\"no_request\"} 5\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn front_proxies_may_connect_in_advance() {
    let ca = Ca::new();
    let port = memory_port(Limits::default());
    port.trust.set_front_proxy(ca.front_proxy(&[]));
    let mut proxy = Client::with(ca.client("aggregator")).connect_over(port.connect(ADDRESS)).await.unwrap();
    assert_about(closed_after(&mut proxy).await, 90, "silent");
    let mut proxy = Client::with(ca.client("aggregator")).open_over(port.connect(ADDRESS)).await;
    sleep(60 * SECOND).await;
    assert_eq!(proxy.get("/apis/x", &[("X-Remote-User", "jane")]).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn closes_unfinished_headers_of_a_further_request() {
    let port = memory_port(Limits::default());
    let client = Client { http2: false, ..Client::default() };
    let mut stream = client.connect_over(port.connect(ADDRESS)).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut received = [0; 15];
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"HTTP/1.1 200 OK");
    stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").await.unwrap();
    assert_about(trickle(&mut stream, b'x').await, 32, "a head");
}

#[tokio::test(start_paused = true)]
async fn closes_idle_connections() {
    let ca = Ca::new();
    let port = memory_port(Limits::default());
    port.trust.set_client_ca(ca.anchors());
    let mut jane = Client::with(ca.client("jane")).open_over(port.connect(ADDRESS)).await;
    assert_eq!(jane.get("/livez", &[]).await.0, 200);
    sleep(80 * SECOND).await;
    assert_eq!(jane.get("/livez", &[]).await.0, 200);
    let start = Instant::now();
    jane.ended.await.unwrap();
    assert_about(start.elapsed(), 90, "idle");
}

#[tokio::test(start_paused = true)]
async fn limits_what_a_client_sends_in_the_handshake() {
    let ca = Ca::new();
    let port = memory_port(Limits::default());
    port.trust.set_client_ca(ca.anchors());
    // Records of a hello that says to have 60,000 bytes.
    let mut hello = port.connect(ADDRESS);
    let mut message = vec![1, 0, 0xea, 0x60, 3, 3];
    message.resize(60_000, 0);
    let mut sent = 0;
    for part in message.chunks(16_000) {
        let [high, low] = u16::try_from(part.len()).unwrap().to_be_bytes();
        let record = [&[0x16, 3, 1, high, low], part].concat();
        if hello.write_all(&record).await.is_err() {
            break;
        }
        sent += part.len();
    }
    assert!(sent < 60_000, "the server reads no more");
    // Chains, with and without a private key for the leaf.
    for (count, accepted) in [(10, true), (11, false)] {
        let mut chain = ca.client("jane");
        let extra = chain.cert[0].clone();
        chain.cert.resize(count, extra);
        let client = Client { http2: false, ..Client::with(chain) };
        assert_eq!(
            works(client.connect_over(port.connect(ADDRESS)).await).await,
            accepted,
            "{count} certificates"
        );
    }
    for (names, accepted) in [(100, true), (1000, false)] {
        let large = ca.client_but("jane", |params| {
            params.subject_alt_names = (0..names)
                .map(|at| rcgen::SanType::DnsName(format!("host-{at}.example.org").try_into().unwrap()))
                .collect();
        });
        let client = Client { http2: false, ..Client::with(large) };
        assert_eq!(works(client.connect_over(port.connect(ADDRESS)).await).await, accepted, "{names} names");
    }
    let metrics = port.metrics().await;
    for (outcome, count) in [("other", 1), ("client_certificate", 2)] {
        let series = format!("metrics_core_tls_handshakes_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
}

/// Returns whether a request gets a response. In TLS 1.3 the client's handshake is complete before the server has
/// verified its certificate.
async fn works(connected: std::io::Result<impl AsyncRead + AsyncWrite + Unpin>) -> bool {
    let Ok(mut stream) = connected else { return false };
    let request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut response = Vec::new();
    stream.write_all(request).await.is_ok()
        && stream.read_to_end(&mut response).await.is_ok()
        && response.starts_with(b"HTTP/1.1 200")
}
