use super::super::report_token::tests::{file, jwt};
use super::*;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A replica that keeps what it receives.
struct CapturingReplica {
    pem: String,
    port: u16,
    received: mpsc::UnboundedReceiver<String>,
}

impl CapturingReplica {
    /// Responds to each request with a status code and this body.
    async fn start(code: u16, body: &Value) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["metrics-core.ns.svc".to_owned()]).expect("params");
        let certificate = params.self_signed(&key).expect("a certificate");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (sender, received) = mpsc::unbounded_channel();
        let body = body.to_string();
        let response = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                _ = sender.send(String::from_utf8_lossy(&head).into_owned());
                _ = stream.write_all(response.as_bytes()).await;
                _ = stream.shutdown().await;
            }
        });
        Self { pem: certificate.pem(), port, received }
    }

    fn pod(&self) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "metrics-core-a", "uid": "a" },
            "spec": { "containers": [{ "name": "metrics-core", "ports": [
                { "name": PORT_NAME, "containerPort": self.port }] }] },
            "status": { "phase": "Running", "podIP": "127.0.0.1" },
        }))
        .expect("a pod")
    }

    /// Polls the replica with the token in a file of this content. Returns the result and what the replica received.
    async fn poll(&mut self, token: &str) -> (Result<Arc<Report>, ReportError>, Option<String>) {
        let path = file(token);
        let mut replicas = read(
            &[self.pod()],
            &[],
            "ns",
            &self.pem.clone(),
            &mut Trust::default(),
            &ReportToken::at(path.clone()),
        )
        .await;
        std::fs::remove_file(path).expect("the file");
        (replicas.remove(0).report, self.received.try_recv().ok())
    }
}

fn report() -> Value {
    json!({ "started": "2026-01-01T00:00:00Z", "now": "2026-01-01T00:10:00Z",
        "nodes": { "known": 1, "covered": 1, "failing": 0 } })
}

#[tokio::test]
async fn sends_no_header_but_the_token_of_the_report_audience() {
    let mut replica = CapturingReplica::start(200, &report()).await;
    let token = jwt(&json!([AUDIENCE]));
    let (polled, received) = replica.poll(&token).await;
    assert_eq!(polled.expect("a report").nodes.known, 1);
    let received = received.expect("a request");
    let mut lines: Vec<_> = received.trim_end().lines().map(str::to_ascii_lowercase).collect();
    lines.sort();
    let expected = [
        format!("authorization: bearer {}", token.to_ascii_lowercase()),
        "connection: close".to_owned(),
        "get /report http/1.1".to_owned(),
        "host: metrics-core.ns.svc".to_owned(),
    ];
    assert_eq!(lines, expected);
    assert!(received.contains(&token));
}

#[tokio::test]
async fn sends_nothing_if_the_token_is_not_for_the_report_alone() {
    let mut replica = CapturingReplica::start(200, &report()).await;
    let api = "https://kubernetes.default.svc";
    for token in [jwt(&json!([api])), jwt(&json!([AUDIENCE, api])), "opaque".to_owned(), String::new()] {
        let (polled, received) = replica.poll(&token).await;
        assert!(matches!(polled, Err(ReportError::Token(_))), "{polled:?}");
        assert_eq!(received, None);
    }
}

/// A metrics-core that does not know the audience returns 401. The operator has nothing else to send.
#[tokio::test]
async fn reports_401_and_sends_no_other_token() {
    let mut replica = CapturingReplica::start(401, &json!({})).await;
    let token = jwt(&json!(AUDIENCE));
    for _ in 0..2 {
        let (polled, received) = replica.poll(&token).await;
        assert_eq!(polled, Err(ReportError::Unauthorized));
        assert!(received.expect("a request").contains(&token));
    }
    let mut replica = CapturingReplica::start(403, &json!({})).await;
    assert_eq!(replica.poll(&token).await.0, Err(ReportError::Forbidden));
}
