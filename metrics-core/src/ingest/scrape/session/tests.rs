//! Tests a session against a rustls server, with the bytes between them split into pieces.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{RecordBuffers, TlsSession};
use crate::ingest::scrape::buffers::BufferPool;
use crate::memory::MemoryBudget;

/// Returns the configurations of a server and of a client, which trusts the server if `trusted`.
fn configs(
    version: &'static SupportedProtocolVersion,
    trusted: bool,
) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["kubelet".to_owned()]).unwrap().self_signed(&key).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let mut roots = RootCertStore::empty();
    if trusted {
        roots.add(certificate.der().clone()).unwrap();
    }
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// A server that responds to each request of four bytes with `response`, in records of `record` bytes.
async fn start_server(
    config: Arc<ServerConfig>,
    response: Vec<u8>,
    record: usize,
) -> (TcpListener, TlsAcceptor, Vec<u8>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener, TlsAcceptor::from(config), response, record)
}

async fn serve_requests(
    (listener, acceptor, response, record): (TcpListener, TlsAcceptor, Vec<u8>, usize),
) -> std::io::Result<()> {
    let (tcp, _) = listener.accept().await?;
    let mut stream = acceptor.accept(tcp).await?;
    let mut request = [0; 4];
    while stream.read_exact(&mut request).await.is_ok() {
        for piece in response.chunks(record) {
            stream.write_all(piece).await?;
            stream.flush().await?;
        }
    }
    stream.shutdown().await
}

/// Forwards a connection in pieces of `size` bytes.
async fn split_proxy(to: std::net::SocketAddr, size: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        near.set_nodelay(true).unwrap();
        let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
        let up = async move {
            let _ = tokio::io::copy(&mut near_in, &mut far_out).await;
        };
        let down = async move {
            let mut bytes = vec![0; size];
            while let Ok(count @ 1..) = far_in.read(&mut bytes).await {
                if near_out.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        tokio::join!(up, down);
    });
    address
}

async fn read(session: &mut TlsSession, length: usize, swap_buffers: bool) -> Vec<u8> {
    let (mut records, mut plain) = (RecordBuffers::default(), Vec::new());
    session.wait_readable().await.unwrap();
    session.resume(&mut records).unwrap();
    while plain.len() < length {
        assert!(session.read(&mut records, &mut plain).await.unwrap() > 0, "{} of {length}", plain.len());
        if swap_buffers {
            session.release(&records);
            records = RecordBuffers::default();
            session.resume(&mut records).unwrap();
        }
    }
    session.release(&records);
    plain
}

fn pool() -> BufferPool {
    BufferPool::new(MemoryBudget::new(64 << 20), Duration::ZERO)
}

#[tokio::test]
async fn reads_whole_responses_however_they_are_split() {
    let body: Vec<u8> = (0..60_000u32).map(|at| at.to_le_bytes()[0]).collect();
    for version in [&TLS12, &TLS13] {
        for (record, piece) in [(16_384, 1 << 20), (16_384, 1000), (700, 333), (1 << 20, 1 << 20)] {
            let (server, client) = configs(version, true);
            let server = start_server(server, body.clone(), record).await;
            let address = split_proxy(server.0.local_addr().unwrap(), piece).await;
            let server_task = tokio::spawn(serve_requests(server));
            let tcp = TcpStream::connect(address).await.unwrap();
            let (pool, name) = (pool(), ServerName::try_from("kubelet").unwrap());
            let mut session = TlsSession::open(tcp, client, name, &mut pool.lease()).await.unwrap();
            for round in 0..3 {
                session.send(b"more").await.unwrap();
                assert!(
                    read(&mut session, body.len(), round > 0).await == body,
                    "{version:?} {record} {piece}"
                );
            }
            drop(session);
            let _ = server_task.await.unwrap();
        }
    }
}

#[tokio::test]
async fn sends_an_alert_to_an_untrusted_server() {
    for version in [&TLS12, &TLS13] {
        let (server, client) = configs(version, false);
        let server = start_server(server, Vec::new(), 1).await;
        let address = server.0.local_addr().unwrap();
        let server_task = tokio::spawn(serve_requests(server));
        let tcp = TcpStream::connect(address).await.unwrap();
        let (pool, name) = (pool(), ServerName::try_from("kubelet").unwrap());
        let opened = TlsSession::open(tcp, client, name, &mut pool.lease()).await;
        assert!(opened.err().unwrap().to_string().contains("UnknownIssuer"));
        let alert = server_task.await.unwrap().unwrap_err().to_string();
        assert!(alert.contains("UnknownCA"), "{alert}");
    }
}

#[tokio::test]
async fn returns_the_end_of_the_stream() {
    let (server, client) = configs(&TLS13, true);
    let server = start_server(server, b"last".to_vec(), 16).await;
    let address = server.0.local_addr().unwrap();
    let server_task = tokio::spawn(serve_requests(server));
    let tcp = TcpStream::connect(address).await.unwrap();
    let (pool, name) = (pool(), ServerName::try_from("kubelet").unwrap());
    let mut session = TlsSession::open(tcp, client, name, &mut pool.lease()).await.unwrap();
    session.send(b"more").await.unwrap();
    assert_eq!(read(&mut session, 4, false).await, b"last");
    server_task.abort();
    let _ = server_task.await;
    let (mut records, mut plain) = (RecordBuffers::default(), Vec::new());
    session.wait_readable().await.unwrap();
    let read = session.read(&mut records, &mut plain).await;
    assert!(matches!(read, Ok(0) | Err(_)) && plain.is_empty());
}
