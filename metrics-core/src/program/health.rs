//! The checks of `/livez` and `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ingest::Ingest;
use super::liveness;
use super::readiness::Readiness;
use crate::server::authentication::trust::LiveTrust;
use crate::server::listen::health::Health;
use crate::server::tls::ServingCertificate;

/// Returns all checks.
pub(super) fn checks(
    ingest: &Ingest,
    max_scrape_pause: Duration,
    serving: &Arc<ServingCertificate>,
    trust: &Arc<LiveTrust>,
    shutting_down: &Arc<AtomicBool>,
    readiness: Arc<Readiness>,
) -> Health {
    let check = |passes: bool, message: &str| if passes { Ok(()) } else { Err(message.to_owned()) };
    let (nodes, pods) = (ingest.discovering.nodes.clone(), ingest.discovering.pods.clone());
    let scraping = ingest.scraping.clone();
    let (watches, findings) = (ingest.watches.clone(), ingest.findings.clone());
    let (directory, store) = (ingest.directory.clone(), ingest.store.clone());
    let (serving, trust, shutting_down) = (serving.clone(), trust.clone(), shutting_down.clone());
    Health::new()
        .live("discovery-loop", move || {
            check(!nodes.is_finished(), "the task that watches nodes has stopped")?;
            check(!pods.is_finished(), "the task that watches pods has stopped")?;
            liveness::watches(&watches)
        })
        .live("scrape-loop", move || {
            check(!scraping.is_finished(), "the task that scrapes kubelets has stopped")?;
            liveness::scrapes(&findings, max_scrape_pause)
        })
        .ready("directory-synced", move || {
            check(directory.synced(), "nodes and pods have not been listed yet")
        })
        .ready("rates-available", move || readiness.check(Instant::now(), &store.coverage()))
        .ready("serving-certificate", move || {
            check(serving.ready(), "the serving certificate has not been loaded yet")
        })
        .ready("authentication-config", move || {
            check(
                trust.ready(),
                "ConfigMap kube-system/extension-apiserver-authentication has not been read yet",
            )
        })
        .ready("shutdown", move || check(!shutting_down.load(Ordering::Relaxed), "process is shutting down"))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::task::JoinSet;

    use super::*;
    use crate::ingest::discover::{Heartbeats, Node};
    use crate::ingest::scrape::Findings;
    use crate::ingest::store::{Store, StoreConfig, StoreDirectory};
    use crate::program::ingest::Discovering;
    use crate::telemetry::Heartbeat;

    const INTERVAL: Duration = Duration::from_secs(15);
    const LONG: Duration = Duration::from_secs(3600);

    type Change = fn(&mut Process);

    struct Process {
        ingest: Ingest,
        shutting_down: Arc<AtomicBool>,
        _tasks: JoinSet<()>,
    }

    impl Process {
        fn new() -> Self {
            let mut tasks = JoinSet::new();
            let directory = Arc::new(StoreDirectory::new());
            let store = Arc::new(Store::new(directory.clone(), StoreConfig::new(INTERVAL)));
            directory.end_node_list();
            directory.end_pod_list();
            let ingest = Ingest {
                directory,
                store,
                findings: Findings::default(),
                watches: Heartbeats::default(),
                discovering: Discovering {
                    nodes: tasks.spawn(std::future::pending()),
                    pods: tasks.spawn(std::future::pending()),
                },
                scraping: tasks.spawn(std::future::pending()),
            };
            Self { ingest, shutting_down: Arc::default(), _tasks: tasks }
        }

        async fn get(&self, path: &str) -> (u16, String) {
            let serving = ServingCertificate::self_signed(false).unwrap();
            let (trust, pause) = (LiveTrust::new(false), liveness::max_scrape_pause(INTERVAL, INTERVAL));
            let readiness = Arc::new(Readiness::default());
            let health = checks(&self.ingest, pause, &serving, &trust, &self.shutting_down, readiness);
            let response = health.respond(path, None).unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }
    }

    #[tokio::test]
    async fn passes_while_all_loops_make_progress() {
        let process = Process::new();
        assert_eq!(process.get("/livez").await, (200, "ok".to_owned()));
        assert_eq!(process.get("/readyz").await, (200, "ok".to_owned()), "there is no node");
    }

    #[tokio::test]
    async fn is_not_live_when_a_loop_is_stuck_or_has_ended() {
        let stuck: [(&str, Change); 7] = [
            ("scrape-loop", |process| process.ingest.findings.loop_heartbeat = Heartbeat::of_age(LONG)),
            ("scrape-loop", |process| process.ingest.findings.scrape_heartbeat = Heartbeat::of_age(LONG)),
            ("discovery-loop", |process| process.ingest.watches.nodes = Heartbeat::of_age(LONG)),
            ("discovery-loop", |process| process.ingest.watches.pods = Heartbeat::of_age(LONG)),
            ("scrape-loop", |process| process.ingest.scraping.abort()),
            ("discovery-loop", |process| process.ingest.discovering.nodes.abort()),
            ("discovery-loop", |process| process.ingest.discovering.pods.abort()),
        ];
        for (at, (check, break_it)) in stuck.into_iter().enumerate() {
            let mut process = Process::new();
            break_it(&mut process);
            tokio::task::yield_now().await;
            assert_eq!(process.get("/livez").await.0, 500, "{at}");
            let mut failed = Vec::new();
            for name in ["scrape-loop", "discovery-loop"] {
                if process.get(&format!("/livez/{name}")).await.0 == 500 {
                    failed.push(name);
                }
            }
            assert_eq!(failed, [check], "{at}");
        }
    }

    #[tokio::test]
    async fn is_live_but_not_ready_without_rates_or_at_shutdown() {
        let process = Process::new();
        process.ingest.directory.apply_node(Node {
            name: "a".into(),
            uid: "1".into(),
            labels: crate::model::labels::Labels::default(),
            addresses: [].into(),
            identities: [].into(),
            port: 1,
            path: "/".into(),
            ready: true,
            cpu_millicores: 0,
        });
        let (status, why) = process.get("/readyz/rates-available").await;
        assert!(status == 500 && why.contains("no node has fresh rates"), "{why}");
        assert_eq!(process.get("/readyz").await.0, 500);
        assert_eq!(process.get("/livez").await.0, 200);
        let process = Process::new();
        process.shutting_down.store(true, Ordering::Relaxed);
        assert_eq!(process.get("/readyz").await.0, 500);
        assert_eq!(process.get("/livez").await.0, 200);
    }
}
