//! Measures the memory of a connection in each phase, for docs/limits.md:
//!
//! ```text
//! cargo test --release -p metrics-core --test access -- --ignored --nocapture memory::measure
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use metrics_core::memory::MemoryBudget;
use metrics_core::server::listen::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::test_server::{Ca, Client, port};

const CONNECTIONS: usize = 1000;
/// Set for the process with the server.
const IS_SERVER: &str = "METRICS_CORE_MEASURED_SERVER";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The server, in a process of its own.
struct Server {
    process: Child,
    address: std::net::SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", "memory::serve"])
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address =
            lines.map_while(Result::ok).find_map(|line| line.rsplit(' ').next()?.parse().ok()).unwrap();
        Self { process, address }
    }

    fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the server of the measurement"]
async fn serve() {
    if std::env::var_os(IS_SERVER).is_none() {
        return;
    }
    let hour = Duration::from_secs(3600);
    let limits = Limits {
        connections: 2 * CONNECTIONS,
        memory: MemoryBudget::new(4 << 30),
        handshake: hour,
        first_request: hour,
        headers: hour,
        idle: hour,
        ..Limits::default()
    };
    let port = port(limits).await;
    writeln!(std::io::stdout(), "listens on {}", port.address).unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure() {
    let ca = Ca::new();
    let chain = |count: usize| {
        let mut chain = ca.client("jane");
        let extra = chain.cert[0].clone();
        chain.cert.resize(count, extra);
        chain
    };
    let large = ca.client_but("jane", |params| {
        let name = |at| {
            rcgen::SanType::DnsName(format!("host-with-a-long-name-{at:06}.example.org").try_into().unwrap())
        };
        params.subject_alt_names = (0..340).map(name).collect();
    });
    let http1 = |certificate| Client { http2: false, certificate, ..Client::default() };
    let unfinished = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(30_000));
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    for (name, client, sent) in [
        ("silent TCP connection", None, &[][..]),
        (
            "unfinished client hello of 15 kB",
            None,
            &[&[0x16, 3, 1, 0x3f, 0, 1, 0, 0x5d, 0xc0, 3, 3][..], &[0; 15_000]].concat(),
        ),
        ("TLS session", Some(http1(None)), &[]),
        ("TLS session with a certificate", Some(http1(Some(Arc::new(chain(1))))), &[]),
        ("TLS session with a chain of 15 kB", Some(http1(Some(Arc::new(large.clone())))), &[]),
        ("HTTP/1.1, after a request", Some(http1(None)), request.as_bytes()),
        ("HTTP/1.1, headers of 30 kB that do not end", Some(http1(None)), unfinished.as_bytes()),
        ("both, the worst case", Some(http1(Some(Arc::new(large.clone())))), unfinished.as_bytes()),
        ("HTTP/2, after the preface", Some(Client::default()), PREFACE),
    ] {
        let server = Server::start();
        // The first connections allocate what all share.
        let mut open = open(&server, client.as_ref(), sent, 50).await;
        let before = server.resident_bytes();
        open.extend(self::open(&server, client.as_ref(), sent, CONNECTIONS).await);
        let bytes = server.resident_bytes().saturating_sub(before) / CONNECTIONS;
        let kilobytes = format!("{}.{}", bytes / 1000, bytes / 100 % 10);
        writeln!(std::io::stdout(), "| {name} | {kilobytes} kB |").unwrap();
    }
}

/// Opens connections and sends these bytes on each.
async fn open(server: &Server, client: Option<&Client>, sent: &[u8], count: usize) -> Vec<Box<dyn Send>> {
    let mut open: Vec<Box<dyn Send>> = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if let Some(client) = client {
            let mut stream = client.connect_over(stream).await.unwrap();
            stream.write_all(sent).await.unwrap();
            stream.flush().await.unwrap();
            open.push(Box::new(stream));
        } else {
            stream.write_all(sent).await.unwrap();
            open.push(Box::new(stream));
        }
    }
    sleep(Duration::from_secs(1)).await;
    open
}
