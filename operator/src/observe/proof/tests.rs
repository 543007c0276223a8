use super::*;
use crate::pki::{self, Pair, ServingPlan, ServingRequirements, StoredServing};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

const NAME: &str = "metrics-core.ns.svc";

fn plan() -> ServingPlan {
    let day = Duration::from_secs(24 * 60 * 60);
    let wanted = ServingRequirements {
        algorithm: crds::KeyAlgorithm::ECDSAP256,
        ca_validity: day,
        serving_validity: day,
        names: pki::service_names("metrics-core", "ns"),
        trust_delay: Duration::ZERO,
    };
    pki::serving::plan(&wanted, &StoredServing::default(), jiff::Timestamp::now()).expect("a plan")
}

fn pod(name: &str, address: &str, port: u16, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "uid": format!("uid-{name}") },
        "spec": { "containers": [{ "name": "metrics-core", "ports": [{ "name": "https", "containerPort": port }] }] },
        "status": {
            "phase": "Running", "podIP": address,
            "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
        },
    }))
    .expect("a pod")
}

/// Serves a certificate on a free port of a loopback address, for a few handshakes.
async fn serve(address: &str, port: u16, pair: &Pair) -> u16 {
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(pair.key.expose().as_bytes()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    let listener = tokio::net::TcpListener::bind((address, port)).await.expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            _ = acceptor.accept(stream).await;
        }
    });
    port
}

#[tokio::test]
async fn is_proven_when_every_replica_presents_the_certificate() {
    let (new, old) = (plan(), plan());
    let port = serve("127.0.0.1", 0, &new.serving).await;
    serve("127.0.0.2", port, &old.serving).await;
    let look = async |pods: &[Pod], name: &str| {
        let expected = ExpectedCertificate {
            server: name.to_owned(),
            certificate: new.serving_certificate.clone(),
            ca: new.ca_certificate.clone(),
        };
        read(pods, &expected).await
    };
    let good = [pod("a", "127.0.0.1", port, true)];
    let proof = look(&good, NAME).await;
    assert_eq!(proof.proven(&good), Some(&new.serving_certificate));

    // A pod that was created after the handshakes was not checked.
    let grown = [good[0].clone(), pod("b", "127.0.0.2", port, true)];
    assert_eq!(proof.lack(&grown).as_deref(), Some("pod b has not been checked yet"));
    for ready in [true, false] {
        let two = [good[0].clone(), pod("b", "127.0.0.2", port, ready)];
        let lack = look(&two, NAME).await.lack(&two);
        assert_eq!(lack.as_deref(), Some("pod b still serves another certificate"));
    }
    // One that can't be reached and gets no requests keeps nobody waiting; one that gets them does.
    let unready = [good[0].clone(), pod("c", "127.0.0.3", port, false)];
    assert!(look(&unready, NAME).await.proven(&unready).is_some());
    let ready = [good[0].clone(), pod("c", "127.0.0.3", port, true)];
    let lack = look(&ready, NAME).await.lack(&ready).expect("a lack");
    assert!(lack.starts_with("the serving certificate of pod c is unknown: 127.0.0.3"), "{lack}");
    assert_eq!(look(&[], NAME).await.lack(&[]).as_deref(), Some("no replica is ready"));
    // A pod of a previous rollout serves on another port.
    let moved = serve("127.0.0.4", 0, &new.serving).await;
    let both = [good[0].clone(), pod("d", "127.0.0.4", moved, true)];
    assert!(look(&both, NAME).await.proven(&both).is_some());
    // The right certificate under another name proves nothing.
    assert!(look(&good, "elsewhere.ns.svc").await.proven(&good).is_none());
}
