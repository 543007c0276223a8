//! The serving certificate, renewed.

use metrics_core::server::listen::Limits;

use crate::bench::{Client, port, serving_pair};

#[tokio::test]
async fn a_new_certificate_serves_new_handshakes_and_breaks_no_connection() {
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
    assert_eq!(standing.get("/livez", &[]).await.0, 200, "the connection stands");
    let (_, foreign) = serving_pair();
    assert!(port.serving.replace(certificate.as_bytes(), foreign.as_bytes()).is_err());
    assert_eq!(shown().await, after, "a broken pair changes nothing");
}
