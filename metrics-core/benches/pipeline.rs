//! Benchmarks decode, store and encode, and the physical limits to compare them with.
//!
//! `limits/memcpy` measures memory bandwidth, `limits/aes-128-gcm` the TLS cost of the bytes that are decoded.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hyper::body::Body as _;
use metrics_core::api::{Api, ApiConfig, request_info};
use metrics_core::ingest::decode::{DecodeOptions, ExpositionFormat, decode};
use metrics_core::ingest::discover::Node;
use metrics_core::ingest::store::{self, RequestTime, Store, StoreDirectory, Ticket};
use metrics_core::model::labels::Labels;
use metrics_core::model::rows::{ChangeQuery, Pick, RowKind, Rows};

const NODES: usize = 1000;
const PODS: usize = 30;
const NAMESPACES: usize = 100;
const CONTEXT: DecodeOptions = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 0 };
const CONTAINERS: [&str; 2] = ["application", "service-mesh-proxy"];
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn pod(node: usize, row: usize) -> (String, String) {
    let number = node * PODS + row;
    (format!("team-{:04}", number % NAMESPACES), format!("service-{:05}-5d4f8c7b9-{number:05x}", number / 15))
}

fn labels_of(app: &str) -> Labels {
    [("app.kubernetes.io/name", app), ("tier", "backend")].into_iter().collect()
}

/// Returns the body of a kubelet with 30 pods at second `at`.
fn body(node: usize, at: u64) -> String {
    let now = 1_782_909_296_000 + at * 1000;
    let mut text = String::new();
    let family = |text: &mut String, name: &str| {
        let _ = write!(text, "# HELP {name} [STABLE] Help for {name}\n# TYPE {name} gauge\n");
    };
    for (name, unit) in [
        ("container_cpu_usage_seconds_total", 0.1),
        ("container_memory_working_set_bytes", 1e6),
        ("container_start_time_seconds", 0.0),
        ("container_swap_usage_bytes", 0.0),
    ] {
        family(&mut text, name);
        for row in 0..PODS {
            let (namespace, pod) = pod(node, row);
            for container in CONTAINERS {
                let value = if name.contains("start") { 1.78e9 } else { unit * (at + 7) as f64 };
                let _ = writeln!(
                    text,
                    "{name}{{container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"}} {value} {now}"
                );
            }
        }
    }
    for (name, unit) in [("node_cpu_usage_seconds_total", 3.5), ("node_memory_working_set_bytes", 9e9)] {
        family(&mut text, name);
        let _ = writeln!(text, "{name} {} {now}", unit * (at + 7) as f64);
    }
    for (name, unit) in [("pod_cpu_usage_seconds_total", 0.2), ("pod_memory_working_set_bytes", 2e6)] {
        family(&mut text, name);
        for row in 0..PODS {
            let (namespace, pod) = pod(node, row);
            let value = unit * (at + 7) as f64;
            let _ = writeln!(text, "{name}{{namespace=\"{namespace}\",pod=\"{pod}\"}} {value} {now}");
        }
    }
    text
}

/// A cluster with samples in the store.
struct Cluster {
    store: Arc<Store>,
    tickets: Vec<Ticket>,
}

impl Cluster {
    fn new() -> Self {
        let directory = Arc::new(StoreDirectory::new());
        let store =
            Arc::new(Store::new(directory.clone(), store::StoreConfig::new(Duration::from_secs(3600))));
        directory.begin_node_list();
        directory.begin_pod_list();
        let mut tickets = Vec::new();
        for number in 0..NODES {
            let name = format!("node-{number:05}.example");
            let node = Node {
                name: name.as_str().into(),
                uid: name.as_str().into(),
                labels: [("kubernetes.io/hostname", name.as_str())].into_iter().collect(),
                addresses: Box::default(),
                identities: Box::default(),
                port: 10250,
                path: "/metrics/resource".into(),
                ready: true,
                cpu_millicores: 0,
            };
            directory.apply_node(node);
            tickets.push(store.insert_node(directory.nodes().get(&name).unwrap()));
            for row in 0..PODS {
                let (namespace, name) = pod(number, row);
                let app = name.split('-').take(2).collect::<Vec<_>>().join("-");
                directory.apply_pod(&namespace, &name, &format!("{number}-{row}"), labels_of(&app));
            }
        }
        directory.end_node_list();
        directory.end_pod_list();
        let cluster = Self { store, tickets };
        for at in [0, 15] {
            for node in 0..NODES {
                cluster.put(node, body(node, at).as_bytes());
            }
        }
        cluster
    }

    fn put(&self, node: usize, body: &[u8]) {
        let mut batch = self.store.begin_batch(self.tickets[node]).unwrap();
        decode(body, CONTEXT, &mut batch);
        let request = RequestTime { monotonic_ms: 1, unix_ns: 0 };
        self.store.put(self.tickets[node], batch, request).unwrap();
    }
}

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limits");
    let from = vec![7u8; 64 << 20];
    let mut to = vec![0u8; from.len()];
    group.throughput(Throughput::Bytes(from.len() as u64));
    group.bench_function("memcpy, 64 MB", |bencher| {
        bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&from)));
    });
    let plain = body(0, 15).into_bytes();
    group.throughput(Throughput::Bytes(plain.len() as u64));
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[3; 16]).unwrap());
    let nonce = || Nonce::assume_unique_for_key([1; 12]);
    // TLS records as Go writes them.
    let records: Vec<Vec<u8>> = plain
        .chunks(4096)
        .map(|piece| {
            let mut record = piece.to_vec();
            key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut record).unwrap();
            record
        })
        .collect();
    let mut buffer = Vec::new();
    group.bench_function("aes-128-gcm, a body in records of 4 kB", |bencher| {
        bencher.iter(|| {
            for record in &records {
                buffer.clear();
                buffer.extend_from_slice(record);
                black_box(key.open_in_place(nonce(), Aad::empty(), &mut buffer).unwrap());
            }
        });
    });
    group.finish();
}

fn ingest(criterion: &mut Criterion) {
    let cluster = Cluster::new();
    let bodies: Vec<String> = (0..2).map(|at| body(500, 30 + 15 * at)).collect();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(bodies[0].len() as u64));
    group.bench_function("a body of 30 pods", |bencher| {
        bencher.iter(|| {
            let mut batch = cluster.store.begin_batch(cluster.tickets[500]).unwrap();
            black_box(decode(bodies[0].as_bytes(), CONTEXT, &mut batch));
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements((PODS * CONTAINERS.len()) as u64));
    let mut turn = 0;
    group.bench_function("decode and write a node's snapshot, per container", |bencher| {
        bencher.iter(|| {
            turn ^= 1;
            cluster.put(500, bodies[turn].as_bytes());
        });
    });
    for (name, namespace, count) in [
        ("read all pods", None, NODES * PODS),
        ("read a namespace", Some("team-0007"), NODES * PODS / NAMESPACES),
    ] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (mut seen, mut after) = (0, None::<(String, String)>);
                loop {
                    let mut last = None;
                    let key = after.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
                    cluster.store.pods(namespace, key, &mut |_, _| Pick::Take, &mut |row| {
                        seen += 1;
                        last = Some((row.namespace.to_owned(), row.name.to_owned()));
                        if seen % 500 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    });
                    let Some(last) = last else { break };
                    after = Some(last);
                }
                assert_eq!(seen, count);
            });
        });
    }
    group.finish();
}

fn get(api: &Api, path: &str, accept: &str, accept_encoding: &str) -> usize {
    let request =
        http::Request::get(path).header("accept", accept).header("accept-encoding", accept_encoding);
    let request = request.body(()).unwrap().into_parts().0;
    let mut body = api.handle(&request, &request_info(&request.method, &request.uri)).into_body();
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = 0;
    loop {
        match Pin::new(&mut body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => bytes += black_box(frame.into_data().unwrap()).len(),
            Poll::Ready(_) => return bytes,
            Poll::Pending => {}
        }
    }
}

fn encode(criterion: &mut Criterion) {
    let api = Api::new(Cluster::new().store, ApiConfig::default());
    let base = "/apis/metrics.k8s.io/v1beta1";
    let mut group = criterion.benchmark_group("encode");
    for (what, path) in [
        ("all pods", format!("{base}/pods")),
        ("a namespace", format!("{base}/namespaces/team-0007/pods")),
        ("all nodes", format!("{base}/nodes")),
    ] {
        for (encoding, accept) in [("JSON", "application/json"), ("protobuf", PROTOBUF), ("Table", TABLE)] {
            let bytes = get(&api, &path, accept, "identity");
            assert!(bytes > 10_000, "{what}, {encoding}: {bytes}");
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(format!("{what}, {encoding}"), |bencher| {
                bencher.iter(|| get(&api, &path, accept, "identity"));
            });
            if what == "all pods" {
                let compressed = get(&api, &path, accept, "gzip");
                assert!(compressed * 5 < bytes, "{encoding}: {compressed} of {bytes} bytes");
                group.bench_function(format!("{what}, {encoding}, gzip"), |bencher| {
                    bencher.iter(|| get(&api, &path, accept, "gzip"));
                });
            }
        }
    }
    group.finish();
}

/// A client that follows the changes of one scrape of all nodes, by what it selects.
fn watch(criterion: &mut Criterion) {
    let cluster = Cluster::new();
    cluster.store.pods(None, None, &mut |_, _| Pick::Take, &mut |_| ControlFlow::Continue(()));
    let from = cluster.store.version();
    for node in 0..NODES {
        cluster.put(node, body(node, 30).as_bytes());
    }
    let mut group = criterion.benchmark_group("watch");
    group.throughput(Throughput::Elements((NODES * PODS) as u64));
    for (what, namespace, label, count) in [
        ("all pods", None, None, NODES * PODS),
        ("a namespace", Some("team-0007"), None, NODES * PODS / NAMESPACES),
        ("a label", None, Some(labels_of("service-00007")), 15),
    ] {
        group.bench_function(format!("changes of all nodes, {what}"), |bencher| {
            bencher.iter(|| {
                let (mut seen, mut next) = (0, from);
                loop {
                    let query = ChangeQuery {
                        kind: RowKind::Pods,
                        namespace,
                        name: None,
                        from: next,
                        new_from: from,
                        unknown_from: from,
                    };
                    let mut pick =
                        |_: (&str, &str), labels: &Labels| label.as_ref().is_none_or(|label| label == labels);
                    let progress = cluster.store.next_change(query, &mut pick, &mut |_| seen += 1).unwrap();
                    next = progress.until;
                    if !progress.more {
                        break;
                    }
                }
                assert_eq!(seen, count);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = limits, ingest, encode, watch
}
criterion_main!(all);
