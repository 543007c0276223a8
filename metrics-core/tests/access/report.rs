//! The content of `/report`, and its authorization.

use crds::cause::{CredentialCause, HandshakeCause};
use crds::report::{PATH, RefusedCredentials, Report};
use metrics_core::server::listen::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::test_server::{Ca, Client, Port, port};

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
const JANE: &[(&str, &str)] = &[("X-Remote-User", "jane")];
const READER: &[(&str, &str)] = &[("Authorization", "Bearer good")];

async fn report(port: &Port) -> Report {
    let (code, text) = Client::default().get(port, PATH, READER).await;
    assert_eq!(code, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn refused(report: &Report, cause: CredentialCause) -> &RefusedCredentials {
    report.refused_credentials.iter().find(|refused| refused.cause == cause).unwrap()
}

#[tokio::test]
async fn requires_authorization() {
    let port = port(Limits::default()).await;
    let (code, text) = Client::default().get(&port, PATH, &[]).await;
    assert_eq!(code, 403);
    assert_eq!(text, "forbidden: User \"system:anonymous\" cannot list path \"/report\"");
    assert_eq!(Client::default().get(&port, PATH, &[("Authorization", "Bearer bad")]).await.0, 401);
    let report = report(&port).await;
    assert_eq!((report.nodes.known, report.scrapes.len()), (0, 0));
    let shown = Client::default().connect(&port).await.unwrap();
    let leaf = shown.get_ref().1.peer_certificates().unwrap()[0].clone();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &leaf);
    let digits: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(report.serving_certificate, Some(digits.concat()));
}

#[tokio::test]
async fn accepts_a_token_of_its_own_audience_that_opens_nothing_else() {
    let port = port(Limits::default()).await;
    let bound = [("Authorization", "Bearer bound")];
    for http2 in [true, false] {
        let client = Client { http2, ..Client::default() };
        assert_eq!(client.get(&port, PATH, &bound).await.0, 200);
        for path in [NODES, "/metrics", "/livez", "/%72eport", "//report", "/report/"] {
            assert_eq!(client.get(&port, path, &bound).await.0, 401, "{path}");
        }
        assert_eq!(client.get(&port, PATH, &bound).await.0, 200);
        assert_eq!(client.get(&port, NODES, READER).await.0, 200);
    }
}

#[tokio::test]
async fn reports_refused_certificates_with_name_issuer_and_client() {
    let (ours, theirs) = (Ca::named("front-proxy-ca"), Ca::named("another-ca"));
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(ours.front_proxy(&["front-proxy-client"]));
    for _ in 0..3 {
        assert_eq!(Client::with(ours.client("aggregator")).get(&port, NODES, JANE).await.0, 401);
    }
    for at in 0..5 {
        assert_eq!(Client::with(theirs.client(&format!("x{at}"))).get(&port, "/livez", &[]).await.0, 401);
    }
    assert_eq!(Client::default().get(&port, NODES, &[("Authorization", "Bearer top-secret")]).await.0, 401);
    let report = report(&port).await;
    let name = refused(&report, CredentialCause::CnNotAllowed);
    assert_eq!((name.count, name.examples.len()), (3, 1));
    let example = &name.examples[0];
    assert_eq!(example.common_name.as_deref(), Some("aggregator"));
    assert_eq!(example.issuer.as_deref(), Some("CN=front-proxy-ca"));
    assert_eq!((example.client.as_deref(), example.for_api), (Some("127.0.0.1"), true));
    assert!(example.message.contains("[\"front-proxy-client\"]"), "{}", example.message);
    assert!(example.last <= report.now && example.last >= report.started);
    let authority = refused(&report, CredentialCause::UnknownCa);
    let names: Vec<_> = authority.examples.iter().map(|example| example.common_name.clone()).collect();
    assert_eq!((authority.count, names), (5, ["x4", "x3", "x2"].map(|name| Some(name.to_owned())).to_vec()));
    assert!(!authority.examples[0].for_api);
    let token = refused(&report, CredentialCause::TokenRejected);
    assert_eq!((token.count, token.examples[0].common_name.clone()), (1, None));
    assert!(!serde_json::to_string(&report).unwrap().contains("top-secret"));
    assert_eq!((report.last_front_proxy_request, report.last_anonymous_request), (None, None));
}

#[tokio::test]
async fn distinguishes_an_accepted_front_proxy_from_one_without_certificate() {
    let ca = Ca::named("front-proxy-ca");
    let port = port(Limits::default()).await;
    port.trust.set_front_proxy(ca.front_proxy(&[]));
    assert_eq!(Client::default().get(&port, "/metrics", &[]).await.0, 200);
    assert_eq!(report(&port).await.last_anonymous_request, None, "only requests for the API count");
    assert_eq!(Client::default().get(&port, NODES, JANE).await.0, 403);
    let before = report(&port).await;
    assert!(before.last_anonymous_request.is_some() && before.last_front_proxy.is_none());
    assert_eq!(before.last_anonymous_client.as_deref(), Some("127.0.0.1"));
    assert_eq!(Client::with(ca.client("aggregator")).get(&port, NODES, JANE).await.0, 200);
    let after = report(&port).await;
    let proxy = after.last_front_proxy.unwrap();
    assert_eq!((proxy.common_name.as_str(), proxy.issuer.as_str()), ("aggregator", "CN=front-proxy-ca"));
    assert!(
        proxy.not_after > Some(after.now) && after.last_front_proxy_request >= after.last_anonymous_request
    );
    assert!(after.refused_credentials.is_empty());
}

#[tokio::test]
async fn reports_a_front_proxy_whose_headers_are_not_configured() {
    // Malformed request-header flags: no header is configured, and the CA is also that of clients.
    let ca = Ca::named("kubernetes-ca");
    let port = port(Limits::default()).await;
    let unread = metrics_core::server::authentication::trust::FrontProxy {
        username_headers: Vec::new(),
        ..ca.front_proxy(&[])
    };
    port.trust.set_front_proxy(unread);
    let proxy = Client::with(ca.client("aggregator"));
    assert_eq!(proxy.get(&port, NODES, JANE).await.0, 403, "anonymous");
    port.trust.set_client_ca(ca.anchors());
    assert_eq!(proxy.get(&port, NODES, JANE).await.0, 403, "the user aggregator");
    port.trust.set_client_ca(Ca::new().anchors());
    assert_eq!(proxy.get(&port, NODES, JANE).await.0, 401);
    let report = report(&port).await;
    assert_eq!(refused(&report, CredentialCause::NoUsername).count, 3);
    assert_eq!(report.last_anonymous_request, None, "it showed a certificate");
}

#[tokio::test]
async fn reports_failed_handshakes() {
    let port = port(Limits::default()).await;
    drop(TcpStream::connect(port.address).await.unwrap());
    for _ in 0..2 {
        let mut garbage = TcpStream::connect(port.address).await.unwrap();
        garbage.write_all(b"\0\0\0").await.unwrap();
    }
    let mut failed = Vec::new();
    for _ in 0..100 {
        failed = report(&port).await.failed_handshakes;
        if failed.iter().map(|failed| failed.count).sum::<u64>() == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    failed.sort_by_key(|failed| failed.cause);
    let counts: Vec<_> = failed.iter().map(|failed| (failed.cause, failed.count)).collect();
    assert_eq!(counts, [(HandshakeCause::Closed, 1), (HandshakeCause::NotTls, 2)]);
    assert_eq!(failed[0].client.as_deref(), Some("127.0.0.1"));
    assert!(failed[1].message.contains("something other than TLS"));
}
