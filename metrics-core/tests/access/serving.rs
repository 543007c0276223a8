//! Renewal of the serving certificate.

use metrics_core::server::listen::Limits;

use crate::test_server::{Client, port, serving_pair};

#[tokio::test]
async fn renewed_certificate_affects_only_new_handshakes() {
    let port = port(Limits::default()).await;
    let client = Client { http2: false, ..Client::default() };
    let shown = async || {
        let stream = client.connect(&port).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let mut standing = client.open(&port).await;
    let before = shown().await;
    let (certificate, key) = serving_pair();
    port.serving.replace(certificate.as_bytes(), key.as_bytes()).unwrap();
    let after = shown().await;
    assert_ne!(before, after);
    assert_eq!(standing.get("/livez", &[]).await.0, 200, "the connection stays open");
    let (_, foreign) = serving_pair();
    assert!(port.serving.replace(certificate.as_bytes(), foreign.as_bytes()).is_err());
    assert_eq!(shown().await, after, "an invalid pair changes nothing");
}
