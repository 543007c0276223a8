//! Attacks on the port of metrics-core, in a process of their own with a lower priority: they must not slow down the
//! clients that are measured.

mod http2;
mod process;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use self::process::{Attackers, attack};
use crate::error::Result;
use crate::testbed::pki::{Identity, Subject, self_signed};
use crate::testbed::tls;

const PODS: &str = "/apis/metrics.k8s.io/v1beta1/pods";
const WATCH: &str = "/apis/metrics.k8s.io/v1beta1/pods?watch=true";
const RESET: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
/// The pause before a connection that was closed is opened again.
const PAUSE: Duration = Duration::from_millis(100);
/// The time between two bytes of an unfinished header.
const DRIP: Duration = Duration::from_secs(3);

/// A kind of attack.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Lists that are not read.
    SlowReaders,
    /// TCP connections without a byte.
    SilentSockets,
    /// Long chains of client certificates.
    JunkChains,
    /// Requests whose headers do not end.
    HalfHeads,
    /// Watches that are not read.
    WatchFlood,
    /// Many streams on a connection, and streams that are reset.
    ManyStreams,
    /// Headers without end.
    HugeHeaders,
}

impl Attack {
    /// All attacks.
    pub const ALL: [Self; 7] = [
        Self::SlowReaders,
        Self::SilentSockets,
        Self::JunkChains,
        Self::HalfHeads,
        Self::WatchFlood,
        Self::ManyStreams,
        Self::HugeHeaders,
    ];
}

/// What the process of the attacks needs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AttackSpec {
    /// The attacks.
    pub attacks: Vec<Attack>,
    /// The address of metrics-core.
    pub target: SocketAddr,
    /// The certificate and the key (PEM) of a user who may list pods: an attacker with valid credentials.
    pub user: (String, String),
}

/// One way of attacking over one connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Move {
    /// Open a connection and send nothing.
    Silence,
    /// Request a list over HTTP/1.1 and read nothing.
    UnreadList,
    /// Open this many requests over HTTP/2 and never enlarge their windows.
    UnreadStreams(u32, &'static str),
    /// Send one byte of a header now and then, over HTTP/1.1.
    SlowHeader,
    /// Begin a header over HTTP/2.
    HalfHeaders,
    /// Send headers over HTTP/1.1 until the connection ends.
    EndlessHeaders,
    /// Send headers over HTTP/2 until the connection ends.
    EndlessContinuations,
    /// Request and reset over HTTP/2 until the connection ends.
    RapidResets,
}

/// What a connection presents in its TLS handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Certificate {
    None,
    /// That of the user.
    User,
    /// 48 kB of certificates that nobody trusts.
    Junk,
}

/// A number of connections that do the same.
struct Wave {
    source: Ipv4Addr,
    connections: usize,
    certificate: Certificate,
    act: Move,
}

/// Each attack comes from addresses of its own (127.66.0.0/16).
fn waves(attack: Attack) -> Vec<Wave> {
    let wave = |last: u8, connections, certificate, act| {
        let source = Ipv4Addr::new(127, 66, attack as u8, last);
        Wave { source, connections, certificate, act }
    };
    match attack {
        // Together less than --max-requests-inflight (400): all users share those places, and beyond them 429 is right.
        Attack::SlowReaders => vec![
            wave(1, 100, Certificate::User, Move::UnreadList),
            wave(2, 13, Certificate::User, Move::UnreadStreams(20, PODS)),
        ],
        Attack::SilentSockets => vec![
            wave(1, 4096, Certificate::None, Move::Silence),
            wave(2, 200, Certificate::None, Move::Silence),
        ],
        Attack::JunkChains => vec![wave(1, 512, Certificate::Junk, Move::SlowHeader)],
        Attack::HalfHeads => vec![
            wave(1, 512, Certificate::None, Move::SlowHeader),
            wave(2, 512, Certificate::None, Move::HalfHeaders),
        ],
        Attack::WatchFlood => vec![wave(1, 20, Certificate::User, Move::UnreadStreams(100, WATCH))],
        Attack::ManyStreams => vec![
            wave(1, 8, Certificate::None, Move::UnreadStreams(1000, RESET)),
            wave(2, 8, Certificate::None, Move::RapidResets),
        ],
        Attack::HugeHeaders => vec![
            wave(1, 64, Certificate::None, Move::EndlessHeaders),
            wave(2, 64, Certificate::None, Move::EndlessContinuations),
        ],
    }
}

/// What an attack did so far.
#[derive(Debug, Default)]
struct Counters {
    opened: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
}

/// The same as numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct AttackCounts {
    /// Connections opened.
    pub opened: u64,
    /// Connections that metrics-core closed.
    pub closed: u64,
    /// Connections that could not be opened.
    pub failed: u64,
    /// The most connections that were open at the same time, once a second.
    pub most_open: u64,
}

/// The TLS configurations of the attackers.
struct Configs {
    user: ClientConfig,
    junk: ClientConfig,
    none: ClientConfig,
}

impl Configs {
    fn new(spec: &AttackSpec) -> Result<Self> {
        let (certificate, key) = spec.user.clone();
        Ok(Self {
            user: tls::client(None, Some(&Identity { certificate, key }))?,
            junk: tls::client(None, Some(&junk_chain()?))?,
            none: tls::client(None, None)?,
        })
    }

    fn of(&self, certificate: Certificate, is_http2: bool) -> Arc<ClientConfig> {
        let mut config = match certificate {
            Certificate::None => self.none.clone(),
            Certificate::User => self.user.clone(),
            Certificate::Junk => self.junk.clone(),
        };
        config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Arc::new(config)
    }
}

/// Returns 12 certificates of 4 kB each.
fn junk_chain() -> Result<Identity> {
    let names: Vec<String> = (0..90).map(|number| format!("{number:036}.invalid")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut leaf = self_signed(&Subject { server: false, ..Subject::server("junk", &names, &[]) })?;
    let one = leaf.certificate.clone();
    for _ in 1..12 {
        leaf.certificate.push_str(&one);
    }
    Ok(leaf)
}

impl Wave {
    /// Attacks with one connection after the other, forever.
    async fn run(&self, config: &Arc<ClientConfig>, target: SocketAddr, counters: &Counters) {
        loop {
            match connect(self.source, target, self.act).await {
                Ok(stream) => {
                    counters.opened.fetch_add(1, Ordering::Relaxed);
                    let _ = self.act(stream, config.clone()).await;
                    counters.closed.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => drop(counters.failed.fetch_add(1, Ordering::Relaxed)),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns when the connection ends.
    async fn act(&self, mut tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<()> {
        if self.act == Move::Silence {
            return read_to_end(&mut tcp).await;
        }
        let name = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
        match self.act {
            Move::Silence => {}
            Move::UnreadList => {
                let request = format!("GET {PODS} HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
                stream.write_all(request.as_bytes()).await?;
                stream.flush().await?;
                closed(&stream).await;
            }
            Move::UnreadStreams(streams, path) => drop(http2::hold(&mut stream, path, streams).await?),
            Move::SlowHeader => {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await?;
                while write(&mut stream, b"x").await.is_ok() {
                    tokio::time::sleep(DRIP).await;
                }
            }
            Move::HalfHeaders => {
                let mut begin = http2::preface();
                begin.extend(http2::unfinished(1, "/"));
                write(&mut stream, &begin).await?;
                read_to_end(&mut stream).await?;
            }
            Move::EndlessHeaders => {
                write(&mut stream, b"GET / HTTP/1.1\r\nHost: a\r\n").await?;
                let header = format!("X-More: {}\r\n", "x".repeat(8000));
                loop {
                    write(&mut stream, header.as_bytes()).await?;
                }
            }
            Move::EndlessContinuations => {
                let mut begin = http2::preface();
                begin.extend(http2::unfinished(1, "/"));
                write(&mut stream, &begin).await?;
                loop {
                    write(&mut stream, &http2::continuation(1)).await?;
                }
            }
            Move::RapidResets => {
                write(&mut stream, &http2::preface()).await?;
                for number in 0.. {
                    write(&mut stream, &http2::get_and_reset(2 * number + 1, RESET)).await?;
                }
            }
        }
        Ok(())
    }

    fn is_http2(&self) -> bool {
        use Move::{EndlessContinuations, HalfHeaders, RapidResets, UnreadStreams};
        matches!(self.act, UnreadStreams(..) | HalfHeaders | EndlessContinuations | RapidResets)
    }
}

async fn connect(source: Ipv4Addr, target: SocketAddr, act: Move) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if act == Move::UnreadList {
        // The kernel must not read the list instead.
        socket.set_recv_buffer_size(4096)?;
    }
    socket.bind((source, 0).into())?;
    socket.connect(target).await
}

async fn write(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Waits until the server closed or reset the connection; reads nothing of what it sent.
async fn closed(stream: &TlsStream<TcpStream>) {
    let tcp = stream.get_ref().0;
    while tcp.ready(Interest::READABLE).await.is_ok_and(|ready| !ready.is_read_closed()) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_chain_is_longer_than_any_real_one() {
        let chain = tls::chain(&junk_chain().unwrap().certificate).unwrap();
        let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
        assert!(chain.len() == 12 && (45_000..60_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn unread_lists_leave_places_for_other_requests() {
        let lists = waves(Attack::SlowReaders).iter().fold(0, |sum, wave| match wave.act {
            Move::UnreadStreams(streams, _) => sum + wave.connections * streams as usize,
            _ => sum + wave.connections,
        });
        assert_eq!(lists, 360);
    }
}
