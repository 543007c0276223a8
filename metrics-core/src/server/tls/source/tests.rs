use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{ServingCertificate, from_secret};
use crate::cluster::fake_apiserver::FakeApiServer;

#[tokio::test(start_paused = true)]
async fn serves_a_renewed_certificate_after_connections_became_half_open() {
    for server in FakeApiServer::both() {
        let renew = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key);
            let (certificate, key) = (certificate.unwrap().pem(), key.serialize_pem());
            let data = json!({"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key)});
            server.create("Secret", "n", "serving", json!({ "data": data }));
        };
        renew();
        let serving = ServingCertificate::self_signed(true).unwrap();
        let (client, served) = (server.cluster().client().unwrap(), serving.clone());
        let followed = tokio::spawn(async move { from_secret(client, "n", "serving", served).await });
        sleep(Duration::from_secs(100)).await;
        let before = serving.fingerprint();
        assert!(serving.ready());
        server.freeze_connections();
        renew();
        let start = Instant::now();
        while serving.fingerprint() == before {
            sleep(Duration::from_millis(100)).await;
            assert!(start.elapsed() <= Duration::from_secs(60));
        }
        followed.abort();
    }
}
