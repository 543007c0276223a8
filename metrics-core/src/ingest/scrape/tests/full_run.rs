//! A full run of the scraper.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::cause::ScrapeCause;

use super::{FakeKubelet, TestCa, node, ok};
use crate::ingest::discover::Node;
use crate::ingest::scrape::{Credentials, Findings, KubeletTls, ScrapeConfig, ScrapeMetrics};
use crate::ingest::store::{self, Store, StoreDirectory};
use crate::model::labels::Labels;
use crate::model::rows::{Lookup, Rows};

/// A kubelet that samples its containers at each request, its node every 10 s.
async fn live_kubelet(ca: &TestCa) -> FakeKubelet {
    FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), |_| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let node = now - now % 10_000;
        // 250 millicores.
        let (cpu, of_node) = (now as f64 / 4000.0, node as f64 / 1000.0);
        ok(&format!(
            "container_cpu_usage_seconds_total{{container=\"c\",namespace=\"n\",pod=\"p\"}} {cpu} {now}\n\
             container_memory_working_set_bytes{{container=\"c\",namespace=\"n\",pod=\"p\"}} 4096 {now}\n\
             node_cpu_usage_seconds_total {of_node} {node}\nnode_memory_working_set_bytes 1 {node}\n"
        ))
    })
    .await
}

#[tokio::test]
async fn scrapes_from_the_addition_of_a_node_to_its_deletion() {
    let ca = TestCa::new();
    let kubelet = live_kubelet(&ca).await;
    let files = tempfile::tempdir().unwrap();
    let (ca_file, token) = (files.path().join("ca.crt"), files.path().join("token"));
    std::fs::write(&ca_file, &ca.pem).unwrap();
    std::fs::write(&token, "secret").unwrap();
    let directory = Arc::new(StoreDirectory::new());
    let scrape_interval = Duration::from_secs(15);
    let store = Arc::new(Store::new(directory.clone(), store::StoreConfig::new(scrape_interval)));
    let metrics = ScrapeMetrics::default();
    let config = ScrapeConfig {
        scrape_interval,
        timeout: Duration::from_secs(1),
        tls: KubeletTls::Verify { ca_file },
        credentials: Credentials::TokenFile(token),
    };
    let findings = Findings::default();
    let failures = &findings.failures;
    let run = crate::ingest::scrape::run(
        config,
        directory.clone(),
        store.clone(),
        metrics.clone(),
        findings.clone(),
    );
    let running = tokio::spawn(run);
    directory.begin_node_list();
    directory.begin_pod_list();
    directory.apply_pod("n", "p", "u", Labels::default());
    directory.apply_node(node(kubelet.address.port(), &["127.0.0.1"]));
    directory.apply_node(Node { name: "dead".into(), ..node(kubelet.address.port(), &["127.0.0.2"]) });
    directory.end_node_list();
    directory.end_pod_list();
    let started = Instant::now();
    let mut millicores = 0;
    let mut found = Lookup::Absent;
    while found != Lookup::Found && started.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        found =
            store.pod("n", "p", &mut |row| millicores = row.containers[0].usage.cpu_nanocores / 1_000_000);
    }
    assert_eq!(found, Lookup::Found);
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    assert!((245..=255).contains(&millicores), "{millicores}");
    let coverage = store.coverage();
    assert!(coverage.is_nearly_complete() && !coverage.is_empty(), "{coverage:?}");
    // The first scrape was at the start, the last one has just ended.
    let (loop_age, scrape_age) = (findings.loop_heartbeat.age(), findings.scrape_heartbeat.age());
    let recent = started.elapsed().saturating_sub(Duration::from_secs(1));
    assert!(loop_age <= recent && scrape_age <= recent, "{loop_age:?} {scrape_age:?} {recent:?}");
    let failed = failures.list();
    assert_eq!((failed.len(), failed[0].cause, failed[0].nodes), (1, ScrapeCause::ConnectionRefused, 1));
    let example = &failed[0].examples[0];
    assert_eq!(example.node, "dead");
    assert_eq!(example.address, Some(format!("127.0.0.2:{}", kubelet.address.port())));
    assert_eq!((store.coverage().nodes_served, store.coverage().nodes), (1, 2));
    while store.node("worker-1", &mut |_| {}) != Lookup::Found && started.elapsed() < Duration::from_secs(15)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() < Duration::from_millis(11_500), "{:?}", started.elapsed());
    let text = || {
        let mut registry = prometheus_client::registry::Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let count = |series: &str| -> u32 {
        let text = text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    };
    // The dead node is retried every 5 s, for about 10 s by now.
    let failed = count("metrics_server_scrape_failures_total{reason=\"connection_refused\"}");
    assert!((1..=3).contains(&failed), "{}", text());
    assert_eq!(count("metrics_server_kubelet_request_total{success=\"false\"}"), failed);
    assert!(text().contains("kubelet_last_request_time_seconds{node=\"worker-1\"}"), "{}", text());
    assert_eq!(kubelet.connections(), 1);
    directory.delete_node("worker-1");
    directory.delete_node("dead");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!text().contains("node=\""), "series of deleted nodes are removed: {}", text());
    assert_eq!(store.pod("n", "p", &mut |_| {}), Lookup::Unmeasured);
    assert_eq!(store.coverage().nodes, 0);
    assert!(failures.list().is_empty(), "a deleted node does not fail");
    let age = findings.scrape_heartbeat.age();
    assert!(age < Duration::from_secs(1), "nothing to scrape is no lack of progress: {age:?}");
    running.abort();
}
