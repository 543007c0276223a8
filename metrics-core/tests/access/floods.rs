//! Clients that open more connections than there are places.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use metrics_core::memory::MemoryBudget;
use metrics_core::server::listen::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, timeout};

use crate::test_server::{Ca, Client, MemoryPort, memory_port};

const SECOND: Duration = Duration::from_secs(1);
const KUBELET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const HOSTILE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2));
/// A hello that does not end.
const UNFINISHED_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

/// A server with a front proxy, and open connections of clients who keep on.
struct Cluster {
    port: MemoryPort,
    ca: Ca,
}

impl Cluster {
    fn new(limits: Limits) -> Self {
        let ca = Ca::new();
        let port = memory_port(limits);
        port.trust.set_front_proxy(ca.front_proxy(&[]));
        Self { port, ca }
    }

    async fn probe(&self, from: IpAddr) {
        let client = Client { http2: false, ..Client::default() };
        for path in ["/livez", "/livez"] {
            let probe = async { client.open_over(self.port.connect(from)).await.get(path, &[]).await.0 };
            assert_eq!(timeout(SECOND, probe).await.expect("in time"), 200);
        }
    }

    async fn aggregate(&self, from: IpAddr) {
        let proxy = Client::with(self.ca.client("aggregator"));
        let request = async {
            proxy
                .open_over(self.port.connect(from))
                .await
                .get("/apis/x", &[("X-Remote-User", "jane")])
                .await
                .0
        };
        assert_eq!(timeout(SECOND, request).await.expect("in time"), 200);
    }

    async fn flood(&self, from: IpAddr, count: usize, hello: &[u8]) -> Vec<DuplexStream> {
        let mut streams = Vec::new();
        for at in 0..count {
            let mut stream = self.port.connect(from);
            let _ = stream.write_all(hello).await;
            streams.push(stream);
            if at % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        streams
    }
}

async fn count_open(streams: &mut [DuplexStream]) -> usize {
    let mut open = 0;
    for stream in streams {
        open += usize::from(timeout(Duration::ZERO, stream.read(&mut [0; 1024])).await.is_err());
    }
    open
}

#[tokio::test(start_paused = true)]
async fn probes_and_front_proxies_get_through_a_flood() {
    for hello in [&[][..], UNFINISHED_HELLO] {
        let cluster = Cluster::new(Limits::default());
        let start = Instant::now();
        let proxy = Client::with(cluster.ca.client("aggregator"));
        let mut before = proxy.open_over(cluster.port.connect(PROXY)).await;
        assert_eq!(before.get("/apis/x", &[("X-Remote-User", "jane")]).await.0, 200);
        let mut floods = cluster.flood(OTHER, 200, hello).await;
        floods.extend(cluster.flood(HOSTILE, 4096, hello).await);
        for _ in 0..10 {
            cluster.probe(KUBELET).await;
            cluster.aggregate(PROXY).await;
            // It opens new ones as its connections are closed, and others come along.
            floods.extend(cluster.flood(HOSTILE, 500, hello).await);
            cluster.probe(HOSTILE).await;
        }
        assert_eq!(
            before.get("/apis/x", &[("X-Remote-User", "jane")]).await.0,
            200,
            "its connection is open"
        );
        assert!(start.elapsed() < SECOND, "before any timeout: {:?}", start.elapsed());
        assert!(count_open(&mut floods[..200]).await == 200, "a smaller source keeps its connections");
        let metrics = cluster.port.metrics().await;
        assert!(metrics.contains("metrics_core_open_connections{state=\"front_proxy\"} 1\n"), "{metrics}");
        assert!(metrics.contains("metrics_core_closed_connections_total{cause=\"evicted\"} "), "{metrics}");
        assert!(!metrics.contains("cause=\"too_many_connections\""), "{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_behind_one_address_get_through_its_flood() {
    let cluster = Cluster::new(Limits { connections: 256, ..Limits::default() });
    cluster.aggregate(HOSTILE).await;
    let mut floods = cluster.flood(HOSTILE, 1000, &[]).await;
    for _ in 0..20 {
        cluster.probe(HOSTILE).await;
        cluster.aggregate(HOSTILE).await;
        floods.extend(cluster.flood(HOSTILE, 100, UNFINISHED_HELLO).await);
    }
    // Many requests share the connection of a proxy, and it stays.
    let proxy = Client::with(cluster.ca.client("aggregator"));
    let mut shared = proxy.open_over(cluster.port.connect(HOSTILE)).await;
    for _ in 0..20 {
        floods.extend(cluster.flood(HOSTILE, 300, &[]).await);
        assert_eq!(shared.get("/apis/x", &[("X-Remote-User", "jane")]).await.0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_prefix_is_one_source() {
    let cluster = Cluster::new(Limits { connections: 256, ..Limits::default() });
    let address = |prefix: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, prefix, 0, 0, 0, host));
    let mut neighbours = Vec::new();
    for prefix in 1..10 {
        neighbours.extend(cluster.flood(address(prefix, 1), 8, &[]).await);
    }
    for host in 0..1000 {
        drop(cluster.flood(address(100, host), 1, &[]).await);
    }
    let mut floods = Vec::new();
    for host in 0..1000 {
        floods.extend(cluster.flood(address(100, host), 1, &[]).await);
    }
    tokio::task::yield_now().await;
    assert_eq!(count_open(&mut neighbours).await, neighbours.len());
    cluster.probe(address(11, 1)).await;
}

#[tokio::test(start_paused = true)]
async fn connections_stay_within_their_memory() {
    // A third of it, 4 MiB, is for connections.
    let cluster = Cluster::new(Limits { memory: MemoryBudget::new(12 << 20), ..Limits::default() });
    // A TLS session each, and headers that do not end.
    let client = Client { http2: false, ..Client::default() };
    let mut half = Vec::new();
    for _ in 0..200 {
        let mut stream = client.connect_over(cluster.port.connect(HOSTILE)).await.unwrap();
        let _ = stream.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000)).as_bytes()).await;
        let _ = stream.flush().await;
        half.push(stream);
    }
    let open = open_connections(&cluster.port.metrics().await);
    assert!((20..60).contains(&open), "{open} of about 80 KiB each");
    cluster.probe(KUBELET).await;
    cluster.aggregate(PROXY).await;
}

fn open_connections(metrics: &str) -> usize {
    let lines = metrics.lines().filter(|line| line.starts_with("metrics_core_open_connections{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}
