//! Authentication and authorization of requests.

use metrics_core::server::listen::Limits;
use rustls::sign::CertifiedKey;

use crate::test_server::{Ca, Client, port};

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
const JANE: &[(&str, &str)] = &[("X-Remote-User", "jane"), ("X-Remote-Group", "dev")];
const FORGED: &[(&str, &str)] = &[("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")];

#[tokio::test]
async fn returns_401_for_a_certificate_of_an_unknown_ca() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(ours.front_proxy(&[]));
    port.trust.set_client_ca(ours.anchors());
    for (http2, tls13) in [(true, true), (true, false), (false, true), (false, false)] {
        let client = Client { http2, tls13, ..Client::with(theirs.client("aggregator")) };
        assert_eq!(client.get(&port, NODES, JANE).await, (401, "Unauthorized".into()), "{http2} {tls13}");
    }
}

#[tokio::test]
async fn returns_403_for_headers_without_the_front_proxy_certificate() {
    let ca = Ca::new();
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(ca.front_proxy(&[]));
    let expected = "nodes.metrics.k8s.io is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \
                    \"metrics.k8s.io\" at the cluster scope";
    for http2 in [true, false] {
        let client = Client { http2, ..Client::default() };
        assert_eq!(client.get(&port, NODES, FORGED).await, (403, expected.into()));
    }
}

#[tokio::test]
async fn authenticates_by_headers_if_the_common_name_is_allowed() {
    let ca = Ca::new();
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(ca.front_proxy(&["aggregator"]));
    let proxy = Client::with(ca.client("aggregator"));
    let (code, forwarded) = proxy.get(&port, NODES, JANE).await;
    assert_eq!(code, 200);
    assert!(!forwarded.contains("x-remote") && !forwarded.contains("jane"), "{forwarded}");
    assert_eq!(
        proxy.get(&port, NODES, FORGED).await.0,
        200,
        "the front proxy is trusted to authenticate users"
    );
    assert_eq!(Client::with(ca.client("other")).get(&port, NODES, JANE).await.0, 401);
    assert_eq!(
        Client::with(ca.client("aggregator")).get(&port, NODES, &[]).await.0,
        403,
        "no user, so anonymous"
    );
    assert_eq!(
        proxy.get(&port, NODES, &[("X-Remote-User", "broken")]).await.0,
        500,
        "a failed review never allows"
    );
}

#[tokio::test]
async fn refuses_a_certificate_without_its_private_key() {
    let ca = Ca::new();
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(ca.front_proxy(&[]));
    let stolen = CertifiedKey::new(ca.client("aggregator").cert, Ca::new().client("thief").key);
    for tls13 in [true, false] {
        let client = Client { tls13, http2: false, ..Client::with(stolen.clone()) };
        // In TLS 1.3 the client completes the handshake before the server verifies its certificate.
        if client.connect(&port).await.is_ok() {
            let mut connection = client.open(&port).await;
            assert!(connection.try_get(NODES, FORGED).await.is_err());
        }
    }
    let (_, metrics) = Client::default().get(&port, "/metrics", &[]).await;
    assert!(
        metrics.contains("metrics_core_tls_handshakes_total{outcome=\"client_certificate\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn applies_changed_names_to_open_connections() {
    let ca = Ca::new();
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(ca.front_proxy(&["aggregator"]));
    let mut connection = Client { http2: false, ..Client::with(ca.client("aggregator")) }.open(&port).await;
    assert_eq!(connection.get(NODES, JANE).await.0, 200);
    port.trust.set_front_proxy(ca.front_proxy(&["front-proxy-client"]));
    assert_eq!(connection.get(NODES, JANE).await.0, 401);
    port.trust.set_front_proxy(ca.front_proxy(&["aggregator"]));
    assert_eq!(connection.get(NODES, JANE).await.0, 200);
}

#[tokio::test]
async fn authenticates_by_client_certificate_and_token() {
    let (proxies, clients) = (Ca::new(), Ca::new());
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(proxies.front_proxy(&[]));
    port.trust.set_client_ca(clients.anchors());
    let jane = Client::with(clients.client("jane"));
    assert_eq!(jane.get(&port, NODES, &[]).await.0, 200);
    assert_eq!(Client::with(clients.client("john")).get(&port, NODES, FORGED).await.0, 403);
    let anyone = Client::default();
    let (code, forwarded) = anyone.get(&port, NODES, &[("Authorization", "Bearer good")]).await;
    assert_eq!(code, 200);
    assert!(!forwarded.contains("good"), "{forwarded}");
    assert_eq!(anyone.get(&port, NODES, &[("Authorization", "Bearer bad")]).await.0, 401);
    assert_eq!(anyone.get(&port, NODES, &[("Authorization", "Basic good")]).await.0, 403);
    let stranger = Client::with(Ca::new().client("x"));
    assert_eq!(
        stranger.get(&port, NODES, &[("Authorization", "Bearer good")]).await.0,
        200,
        "one success is enough"
    );
    let impersonating = [("Authorization", "Bearer good"), ("Impersonate-User", "admin")];
    assert_eq!(anyone.get(&port, NODES, &impersonating).await.0, 403);
}

#[tokio::test]
async fn counts_refused_credentials_by_reason() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(ours.front_proxy(&["aggregator"]));
    port.trust.set_client_ca(Ca::new().anchors());
    Client::with(theirs.client("aggregator")).get(&port, NODES, JANE).await;
    Client::with(ours.client("other")).get(&port, NODES, JANE).await;
    let silent = Client::with(ours.client("aggregator")).get(&port, NODES, &[]).await;
    assert_eq!(silent.0, 401, "as client certificate it is of an unknown CA");
    Client::default().get(&port, NODES, &[("Authorization", "Bearer bad")]).await;
    let (_, metrics) = Client::default().get(&port, "/metrics", &[]).await;
    for reason in ["unknown_ca", "cn_not_allowed", "no_username", "token_rejected"] {
        let series = format!("metrics_core_refused_credentials_total{{reason=\"{reason}\"}} 1\n");
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
    assert!(metrics.contains("apiserver_request_total{verb=\"LIST\",group=\"metrics.k8s.io\",version=\"\",resource=\"nodes\",scope=\"cluster\",code=\"401\"} 4\n"), "{metrics}");
}
