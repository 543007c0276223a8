//! A full run of the scraper.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crds::cause::ScrapeCause;

use super::{BODY, FakeKubelet, TestCa, node, ok, response};
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

/// A running scraper with an empty directory.
struct FullRun {
    directory: Arc<StoreDirectory>,
    store: Arc<Store>,
    metrics: ScrapeMetrics,
    findings: Findings,
    running: tokio::task::JoinHandle<()>,
    _files: tempfile::TempDir,
}

impl FullRun {
    fn start(ca: &TestCa, scrape_interval: Duration) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (ca_file, token) = (files.path().join("ca.crt"), files.path().join("token"));
        std::fs::write(&ca_file, &ca.pem).unwrap();
        std::fs::write(&token, "secret").unwrap();
        let directory = Arc::new(StoreDirectory::new());
        let store = Arc::new(Store::new(directory.clone(), store::StoreConfig::new(scrape_interval)));
        let (metrics, findings) = (ScrapeMetrics::default(), Findings::new(scrape_interval));
        let config = ScrapeConfig {
            scrape_interval,
            timeout: Duration::from_secs(1),
            tls: KubeletTls::Verify { ca: ca_file.into() },
            credentials: Credentials::Token(token.into()),
        };
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
        Self { directory, store, metrics, findings, running, _files: files }
    }
}

#[tokio::test]
async fn scrapes_from_the_addition_of_a_node_to_its_deletion() {
    let ca = TestCa::new();
    let kubelet = live_kubelet(&ca).await;
    let FullRun { directory, store, metrics, findings, running, _files } =
        FullRun::start(&ca, Duration::from_secs(15));
    let failures = &findings.failures;
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

/// With this interval, a failing node is retried after 5 s.
#[tokio::test]
async fn scrapes_a_failing_node_at_once_when_its_cause_may_be_gone() {
    let ca = TestCa::new();
    let works = Arc::new(AtomicBool::new(false));
    let state = works.clone();
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), move |_| {
        if state.load(Ordering::Relaxed) { ok(BODY) } else { response("500 Oh", "", b"") }
    })
    .await;
    let run = FullRun::start(&ca, Duration::from_secs(600));
    let port = kubelet.address.port();
    let repaired = Node { name: "repaired".into(), ready: false, ..node(port, &["127.0.0.1"]) };
    let moved = Node { name: "moved".into(), ..node(port, &["127.0.0.2"]) };
    let (port_changed, path_changed) = (
        Node { name: "port".into(), ..node(1, &["127.0.0.1"]) },
        Node { name: "path".into(), path: "/x".into(), ..node(port, &["127.0.0.1"]) },
    );
    for node in [&repaired, &moved, &port_changed, &path_changed] {
        run.directory.apply_node(node.clone());
    }
    run.directory.end_node_list();
    run.directory.end_pod_list();
    let failing = || run.findings.failures.list().iter().map(|failed| failed.nodes).sum::<usize>();
    let started = Instant::now();
    while failing() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(started.elapsed() < Duration::from_secs(3));
    }
    works.store(true, Ordering::Relaxed);
    run.directory.apply_node(Node { ready: true, ..repaired });
    run.directory.apply_node(Node { addresses: node(port, &["127.0.0.1"]).addresses, ..moved });
    run.directory.apply_node(Node { port, ..port_changed });
    run.directory.apply_node(Node { path: "/metrics/resource".into(), ..path_changed });
    let changed = Instant::now();
    while failing() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(changed.elapsed() < Duration::from_secs(3), "{:?}", run.findings.failures.list());
    }
    run.running.abort();
}

#[tokio::test]
async fn bounds_rates_by_the_capacity_that_the_node_has_now() {
    let ca = TestCa::new();
    // 2 cores.
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), |_| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let cpu = now as f64 / 500.0;
        ok(&format!("node_cpu_usage_seconds_total {cpu} {now}\nnode_memory_working_set_bytes 1 {now}\n"))
    })
    .await;
    let run = FullRun::start(&ca, Duration::from_secs(1));
    let with = |cpu_millicores| Node { cpu_millicores, ..node(kubelet.address.port(), &["127.0.0.1"]) };
    run.directory.apply_node(with(1000));
    run.directory.end_node_list();
    run.directory.end_pod_list();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(run.store.node("worker-1", &mut |_| {}), Lookup::Unmeasured);
    run.directory.apply_node(with(2000));
    let started = Instant::now();
    while run.store.node("worker-1", &mut |_| {}) != Lookup::Found {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    run.running.abort();
}

#[tokio::test]
async fn reports_two_nodes_with_one_address_but_not_with_one_path_each() {
    let ca = TestCa::new();
    let kubelet = live_kubelet(&ca).await;
    let run = FullRun::start(&ca, Duration::from_secs(2));
    let named = |name: &str, path: &str, hosts: &[&str]| Node {
        name: name.into(),
        uid: name.into(),
        path: path.into(),
        ..node(kubelet.address.port(), hosts)
    };
    let own_path = |at| format!("/metrics/nodes/{at}/metrics/resource");
    for at in 0..3 {
        // As KWOK does.
        run.directory.apply_node(named(&format!("kwok-{at}"), &own_path(at), &["127.0.0.1"]));
    }
    run.directory.apply_node(named("a", "/metrics/resource", &["127.0.0.1"]));
    // The first address fails, and the second one is that of "a".
    run.directory.apply_node(named("b", "/metrics/resource", &["127.0.0.9", "127.0.0.1"]));
    run.directory.end_node_list();
    run.directory.end_pod_list();
    let started = Instant::now();
    let mut list = run.findings.samples.list();
    while list.iter().all(|issues| issues.nodes < 2) && started.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        list = run.findings.samples.list();
    }
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!((list[0].cause.as_str(), list[0].nodes), ("duplicate_address", 2), "{list:?}");
    let messages: Vec<_> = list[0].examples.iter().map(|e| (e.node.as_str(), e.message.as_str())).collect();
    let endpoint = format!("127.0.0.1:{}/metrics/resource", kubelet.address.port());
    let message = |other: &str| format!("Node {other} has the same address, port and path ({endpoint})");
    assert_eq!(messages, [("a", message("b").as_str()), ("b", message("a").as_str())]);
    run.directory.delete_node("b");
    while run.findings.samples.list().iter().any(|issues| issues.nodes > 1) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(started.elapsed() < Duration::from_secs(40));
    }
    assert_eq!(run.findings.samples.list()[0].examples[0].node, "a", "held for a while");
    run.running.abort();
}
