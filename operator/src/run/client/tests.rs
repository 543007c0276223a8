use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Returns a server that accepts requests and stops before it responds, as a kube-apiserver that is stopped or whose machine
/// disappeared: its connections stay open, and nothing is sent on them. Counts the connections that brought a request.
async fn stopped_server() -> (Config, Arc<AtomicUsize>) {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).expect("a CA").der().to_vec();
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a configuration");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), count.clone());
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.expect("a handshake"));
                let requested = Arc::new(tokio::sync::Notify::new());
                let notify = requested.clone();
                let service = service_fn(move |_| {
                    notify.notify_one();
                    std::future::pending::<Result<http::Response<String>, std::convert::Infallible>>()
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(stream, service);
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    _ = &mut connection => {}
                    () = requested.notified() => {
                        count.fetch_add(1, Ordering::SeqCst);
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    let mut config = Config::new(format!("https://localhost:{port}").parse().expect("a URI"));
    config.root_cert = Some(vec![root]);
    (config, requests)
}

#[tokio::test]
async fn an_open_request_fails_when_the_other_end_of_its_connection_is_gone() {
    let (config, requests) = stopped_server().await;
    let soon = Pings { interval: Duration::from_millis(100), timeout: Duration::from_millis(100) };
    let client = Clients { pings: soon, ..Clients::new(config) }.client(None).expect("a client");
    for sent in 1..=2 {
        // Without a timeout of its own, as a watch.
        let request = client.apiserver_version();
        let result = tokio::time::timeout(Duration::from_secs(60), request).await.expect("noticed");
        assert!(matches!(result, Err(kube::Error::Service(_))), "{result:?}");
        // A dead connection is not used again: the server no longer reads from it.
        assert_eq!(requests.load(Ordering::SeqCst), sent, "{result:?}");
    }
}

#[test]
fn a_dead_connection_is_noticed_within_a_minute_and_a_freeze_of_8_s_is_no_death() {
    assert!(PINGS.interval + PINGS.timeout + CONNECT < Duration::from_secs(60));
    assert!(PINGS.timeout > Duration::from_secs(8));
}

#[tokio::test]
async fn a_proxy_is_refused_with_an_error() {
    let mut config = Config::new(http::Uri::from_static("https://127.0.0.1:1"));
    assert!(Clients::new(config.clone()).client(None).is_ok());
    config.proxy_url = Some(http::Uri::from_static("http://127.0.0.1:2"));
    assert!(Clients::new(config).client(None).is_err());
}
