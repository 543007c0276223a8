//! Attempts to bypass authentication, which must all fail, and the requests that must succeed.

use metrics_core::server::authentication::Anchors;
use metrics_core::server::listen::Limits;
use rcgen::{DnType, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::sign::CertifiedKey;

use crate::test_server::{Ca, Client, Port, port};

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
const JANE: &[(&str, &str)] = &[("X-Remote-User", "jane"), ("X-Remote-Group", "dev")];

/// Starts a server that trusts the first CA for front proxies named `aggregator` and the second for clients.
async fn trusting(proxies: &Ca, clients: &Ca) -> Port {
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(proxies.front_proxy(&["aggregator"]));
    port.trust.set_client_ca(clients.anchors());
    port
}

#[tokio::test]
async fn accepts_headers_only_with_the_front_proxy_certificate() {
    let (proxies, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let port = trusting(&proxies, &clients).await;
    let aged = |from, to| {
        proxies.client_but("aggregator", move |params| {
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        })
    };
    let certificates: Vec<(&str, Option<CertifiedKey>)> = vec![
        ("none", None),
        ("of an unknown CA with the right name", Some(strangers.client("aggregator"))),
        ("of a client CA with the right name", Some(clients.client("aggregator"))),
        ("expired", Some(aged(2000, 2001))),
        ("not valid yet", Some(aged(3000, 3001))),
        (
            "for servers",
            Some(proxies.client_but("aggregator", |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })),
        ),
        ("of another name", Some(proxies.client("Aggregator"))),
        ("of a name with a suffix", Some(proxies.client("aggregator2"))),
        ("of a name with a zero byte", Some(proxies.client("aggregator\0x"))),
        ("of no name", Some(proxies.client(""))),
        (
            "with the name as organization",
            Some(proxies.client_but("other", |params| {
                params.distinguished_name.push(DnType::OrganizationName, "aggregator");
            })),
        ),
    ];
    for (what, certificate) in certificates {
        let certificate = certificate.map(std::sync::Arc::new);
        for http2 in [true, false] {
            let client = Client { certificate: certificate.clone(), http2, ..Client::default() };
            let (code, text) = client.get(&port, NODES, JANE).await;
            assert!([401, 403].contains(&code), "{what}: {code} {text}");
            assert!(!text.contains("User \"jane\""), "{what}: taken for jane: {text}");
        }
    }
    assert_eq!(Client::with(proxies.client("aggregator")).get(&port, NODES, JANE).await.0, 200);
}

#[tokio::test]
async fn ignores_variants_of_identity_headers() {
    let (proxies, clients) = (Ca::new(), Ca::new());
    let port = trusting(&proxies, &clients).await;
    let proxy = Client::with(proxies.client("aggregator"));
    let attempts: &[&[(&str, &str)]] = &[
        &[("X_Remote_User", "jane")],
        &[("X-Remote-Users", "jane")],
        &[("X-Remote-User", ""), ("X-Remote-Group", "system:masters")],
        &[("X-Remote-Group", "system:masters")],
        &[("X-Remote-Uid", "jane")],
        &[("X-Remote-Extra-User", "jane")],
        &[("X-Remote-User", "john"), ("X-Remote-User", "jane")],
        &[("X-Remote-User", "jane,")],
        &[("X-Remote-User", "Jane")],
        &[("X-Remote-User", "john"), ("Impersonate-User", "jane")],
        &[("X-Remote-User", "jane"), ("Impersonate-User", "jane")],
        &[("X-Remote-User", "jane"), ("Impersonate-Extra-Scopes", "all")],
        &[("Authorization", "Bearer")],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Bearer Good")],
        &[("Authorization", "Token good")],
        &[("Authorization", "good")],
        &[("Authorization", "Bearer bad"), ("Authorization", "Bearer good")],
        &[("Proxy-Authorization", "Bearer good")],
        &[("X-Forwarded-User", "jane"), ("X-Forwarded-Client-Cert", "By=aggregator")],
    ];
    for headers in attempts {
        for client in [&proxy, &Client::default()] {
            let (code, text) = client.get(&port, NODES, headers).await;
            assert!([401, 403].contains(&code), "{headers:?}: {code} {text}");
        }
    }
}

#[tokio::test]
async fn reviews_all_attributes_of_a_user() {
    let (proxies, clients) = (Ca::new(), Ca::new());
    let port = trusting(&proxies, &clients).await;
    let mut proxy = Client::with(proxies.client("aggregator")).open(&port).await;
    let whole: &[(&str, &str)] = &[
        ("X-Remote-User", "whole"),
        ("X-Remote-Group", "dev"),
        ("x-remote-group", "ops"),
        ("X-Remote-Uid", "7-a"),
        ("X-Remote-Extra-Scopes%2fAll", "a"),
        ("X-Remote-Extra-Scopes%2fall", "b, c"),
        ("X-Remote-Extra-Other", "x"),
    ];
    let (code, text) = proxy.get(NODES, whole).await;
    assert_eq!(code, 200, "{text}");
    // A cached decision is not used for another user.
    for left_out in 1..whole.len() {
        let others: Vec<_> =
            whole.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, header)| *header).collect();
        assert_eq!(proxy.get(NODES, &others).await.0, 403, "without {:?}", whole[left_out]);
    }
    assert_eq!(proxy.get(NODES, &[whole, &[("X-Remote-Group", "more")]].concat()).await.0, 403);
    assert_eq!(proxy.get(NODES, whole).await.0, 200);
}

#[tokio::test]
async fn trusts_each_ca_of_a_bundle_until_it_is_removed() {
    let (old, new, clients, more) = (Ca::new(), Ca::new(), Ca::new(), Ca::new());
    let port = trusting(&old, &clients).await;
    let bundle = |a: &Ca, b: &Ca| Anchors::from_pem(format!("{}{}", a.pem, b.pem).as_bytes()).unwrap();
    let mut front_proxy = old.front_proxy(&["aggregator"]);
    front_proxy.anchors = bundle(&old, &new);
    port.trust.set_front_proxy(front_proxy);
    port.trust.set_client_ca(bundle(&clients, &more));
    let mut standing = Vec::new();
    for ca in [&old, &new] {
        let mut connection =
            Client { http2: false, ..Client::with(ca.client("aggregator")) }.open(&port).await;
        assert_eq!(connection.get(NODES, JANE).await.0, 200);
        standing.push(connection);
    }
    for ca in [&clients, &more] {
        let mut connection = Client { http2: false, ..Client::with(ca.client("jane")) }.open(&port).await;
        assert_eq!(connection.get(NODES, &[]).await.0, 200);
        standing.push(connection);
    }
    port.trust.set_front_proxy(new.front_proxy(&["aggregator"]));
    port.trust.set_client_ca(more.anchors());
    for (connection, (headers, code)) in
        standing.iter_mut().zip([(JANE, 401), (JANE, 200), (&[], 401), (&[], 200)])
    {
        assert_eq!(connection.get(NODES, headers).await.0, code);
    }
    // One CA for both purposes: the front proxy comes first, other clients are authenticated as clients.
    port.trust.set_client_ca(new.anchors());
    assert_eq!(Client::with(new.client("aggregator")).get(&port, NODES, JANE).await.0, 200);
    assert_eq!(Client::with(new.client("aggregator")).get(&port, NODES, &[]).await.0, 403);
    assert_eq!(Client::with(new.client("jane")).get(&port, NODES, JANE).await.0, 200, "as client jane");
    assert_eq!(Client::with(new.client("john")).get(&port, NODES, JANE).await.0, 403);
}

#[tokio::test]
async fn allows_only_the_exact_always_allowed_paths() {
    let (proxies, clients) = (Ca::new(), Ca::new());
    let port = trusting(&proxies, &clients).await;
    for path in ["/livez", "/livez?verbose", "/metrics"] {
        assert_eq!(Client::default().get(&port, path, &[]).await.0, 200, "{path}");
    }
    for path in [
        "/livez/",
        "/livez/ping",
        "/Livez",
        "/livez%2f",
        "//livez",
        "/livez;x",
        "/readyz",
        "/livez/../apis/metrics.k8s.io/v1beta1/nodes",
        "/metrics/../version",
        "/apis/metrics.k8s.io/v1beta1/nodes?/livez",
        "/apis/metrics.k8s.io/v1beta1/nodes/../../../../livez",
        "/apis/livez",
        "/version",
        "/",
    ] {
        for http2 in [true, false] {
            let code = Client { http2, ..Client::default() }.get(&port, path, &[]).await.0;
            assert_eq!(code, 403, "{path}");
        }
    }
    // A refused credential is not treated as anonymous on any path.
    for path in ["/livez", NODES] {
        let code = Client::default().get(&port, path, &[("Authorization", "Bearer bad")]).await.0;
        assert_eq!(code, 401, "{path}");
    }
}
