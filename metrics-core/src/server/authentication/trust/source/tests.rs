use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{CONFIG_MAP, LiveTrust, follow_config_map};
use crate::cluster::fake_apiserver::FakeApiServer;

fn ca() -> String {
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

#[tokio::test(start_paused = true)]
async fn reads_a_new_ca_after_connections_became_half_open() {
    for server in FakeApiServer::both() {
        let publish = || {
            server.create("ConfigMap", "kube-system", CONFIG_MAP, json!({"data": {"client-ca-file": ca()}}));
        };
        publish();
        let trust = LiveTrust::new(true);
        let followed = tokio::spawn(follow_config_map(server.cluster().client().unwrap(), trust.clone()));
        sleep(Duration::from_secs(100)).await;
        let before = trust.load();
        assert!(trust.ready() && before.client_ca.is_some());
        server.freeze_connections();
        publish();
        let start = Instant::now();
        while trust.load().client_ca == before.client_ca {
            sleep(Duration::from_millis(100)).await;
            assert!(start.elapsed() <= Duration::from_secs(60));
        }
        followed.abort();
    }
}
