use kube::api::{Api, ListParams};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use tokio::time::sleep;

use super::*;
use crate::cluster::fake_apiserver::FakeApiServer;

fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["metrics-core".to_owned()]).unwrap().self_signed(&key);
    (certificate.unwrap().pem(), key.serialize_pem())
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_presented_on_new_connections() {
    let directory = tempfile::tempdir().unwrap();
    let files = ["tls.crt", "tls.key"].map(|name| directory.path().join(name));
    let write = |(certificate, key): &(String, String)| {
        std::fs::write(&files[0], certificate).unwrap();
        std::fs::write(&files[1], key).unwrap();
    };
    write(&pair());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let identity = reload(files.clone(), &mut tls).unwrap();
    let presented = || tls.client_auth_cert_resolver.resolve(&[], &[]).unwrap().cert.clone();
    let (server, first) = (FakeApiServer::new(true), presented());
    let cluster = server.cluster();
    tokio::spawn(follow(identity, cluster.connections.clone()));
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(cluster.client().unwrap());
    let request = async || {
        sleep(FILES_INTERVAL * 2).await;
        nodes.list(&ListParams::default()).await.unwrap();
        server.connections()
    };
    assert_eq!((request().await, request().await), (1, 1), "nothing changed");
    // One of the files is replaced first.
    let next = pair();
    std::fs::write(&files[0], &next.0).unwrap();
    assert_eq!((request().await, presented() == first), (1, true), "the pair does not match");
    write(&next);
    assert_eq!((request().await, presented() == first), (2, false));
    assert_eq!(request().await, 2);
}

#[test]
fn an_unusable_certificate_is_refused_at_the_start() {
    let ((certificate, key), (_, other_key)) = (pair(), pair());
    assert!(parse(certificate.as_bytes(), key.as_bytes()).is_ok());
    for (certificate, key) in [(&*certificate, &*other_key), ("", &*key), (&*certificate, "")] {
        assert!(parse(certificate.as_bytes(), key.as_bytes()).is_err());
    }
}
