//! Runs the fuzz targets of `metrics-core/fuzz` for a limited time on stable Rust: from the seeds, with a fixed
//! random sequence, so that a failure is reproducible.
//!
//! `FUZZ_SECONDS=600 cargo test -p metrics-core --test fuzz -- --nocapture` runs each target for 600 s. An input
//! that fails is printed and written to the system's directory for temporary files. For coverage-guided runs see
//! `metrics-core/fuzz`.

#![allow(clippy::panic, clippy::unwrap_used)] // A target fails by panicking.
#![allow(clippy::print_stderr, clippy::print_stdout)] // Progress of manual runs.

mod mutate;
#[allow(unreachable_pub)] // The targets are pub for cargo-fuzz, which builds this file as a crate of its own.
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use mutate::Mutator;

/// The maximum length of an input; longer ones are truncated.
const LONGEST: usize = 8192;
/// The maximum number of inputs with a new outcome that are kept as a basis for others.
const CORPUS: usize = 2000;

/// Runs a target on its seeds and on mutations of them.
fn fuzz(name: &str, target: fn(&[u8]) -> u64, words: &[&str]) {
    fuzz_at_least(100, name, target, words);
}

/// Does the same and fails if there were not more runs than `least`: then most of them waited for something.
fn fuzz_at_least(least: u64, name: &str, target: fn(&[u8]) -> u64, words: &[&str]) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut seeds: Vec<_> = std::fs::read_dir(seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| std::fs::read(seed).unwrap()).collect();
    assert!(!corpus.is_empty());
    let mut outcomes: HashSet<u64> = corpus.iter().map(|seed| run(name, target, seed)).collect();
    run(name, target, &[]);

    let mut mutator = Mutator::new(0x6d65_7472_6963, words);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0_u64;
    while !runs.is_multiple_of(64) || Instant::now() < end {
        let mut input = mutator.next(&corpus);
        input.truncate(LONGEST);
        if outcomes.insert(run(name, target, &input)) && corpus.len() < CORPUS {
            corpus.push(input);
        }
        runs += 1;
    }
    println!("{name}: {runs} runs in {seconds} s, {} inputs with different outcomes", corpus.len());
    assert!(runs > least, "{name} is too slow to be fuzzed: {runs} runs in {seconds} s");
}

fn run(name: &str, target: fn(&[u8]) -> u64, input: &[u8]) -> u64 {
    catch_unwind(AssertUnwindSafe(|| target(input))).unwrap_or_else(|panic| {
        let place = std::env::temp_dir().join(format!("fuzz-{name}"));
        let kept = std::fs::write(&place, input).map_or_else(|error| error.to_string(), |()| "kept".into());
        eprintln!("{name} fails on this input ({}: {kept}):\n{}", place.display(), input.escape_ascii());
        resume_unwind(panic)
    })
}

#[test]
fn decode() {
    let words = [
        "container_cpu_usage_seconds_total{",
        "container_memory_working_set_bytes{",
        "container_start_time_seconds{",
        "container_swap_usage_bytes{",
        "node_cpu_usage_seconds_total ",
        "node_memory_working_set_bytes{} ",
        "container=\"",
        "namespace=\"",
        "pod=\"",
        "\\\"",
        "\\\\",
        "\\n",
        "\"} ",
        "\r\n",
        " # {trace=\"x\"} 1 1",
        "# EOF\n",
        "# TYPE x counter\n",
        "NaN",
        "+Inf",
        "-0",
        "1e308",
        "1e-400",
        "9223372036854775807",
        "18446744073709551616",
    ];
    fuzz("decode", targets::decode, &words);
}

#[test]
fn scrapes() {
    let words = [
        "\n%%\n",
        "container_cpu_usage_seconds_total{container=\"a\",namespace=\"n\",pod=\"p\"} ",
        "container_memory_working_set_bytes{container=\"a\",namespace=\"n\",pod=\"p\"} ",
        "container_start_time_seconds{container=\"a\",namespace=\"n\",pod=\"p\"} ",
        "node_cpu_usage_seconds_total ",
        "{container=\"a\",namespace=\"n\",pod=\"q\"} ",
        "{pod=\"p\",container=\"a\",namespace=\"n\"} ",
        "{container=\"a\",namespace=\"n\",pod=\"p\",x=\"y\"} ",
        "{container=\"a\\\"\",namespace=\"n\",pod=\"p\"} ",
        ",",
        "}",
        " 1 1764025738123\n",
        " 2 1764025753123\n",
        "# EOF\n",
        "resource_scrape_error 1\n",
    ];
    fuzz("scrapes", targets::scrapes, &words);
}

#[test]
fn store() {
    fuzz("store", targets::store, &["\x07\0\x01", "\x07\0\x03", "\0\0\0", "\x03\0\0", "\x01\0\0"]);
}

#[test]
fn request_info() {
    let words = [
        "GET\n",
        "HEAD\n",
        "DELETE\n",
        "/apis/metrics.k8s.io/v1beta1",
        "/apis/metrics.k8s.io/v1",
        "/api/v1",
        "/namespaces/",
        "/a",
        "/pods",
        "/nodes",
        "/n1",
        "/x",
        "/watch",
        "/proxy",
        "/status",
        "?fieldSelector=metadata.name%3Dx",
        "&fieldSelector=metadata.namespace%3Db",
        "?watch=1",
        "%2f",
        "%2e%2e",
        "/../",
        "//",
        "/./",
        ";",
        "%00",
        "%",
        "/livez",
        "\napplication/json",
    ];
    fuzz("request_info", targets::request_attributes, &words);
}

#[test]
fn session() {
    let words = [
        "\0",
        "\x01",
        "\x03",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.0 200 \r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: ",
        "Content-Encoding: gzip\r\n",
        "Connection: close\r\n",
        "\r\n\r\n",
        "0\r\n\r\n",
        "ffffffffffffffff\r\n",
    ];
    // Each run has two TLS handshakes.
    fuzz_at_least(50, "session", targets::session, &words);
}

#[test]
fn response() {
    let words = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 301 \r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: ",
        "Content-Encoding: gzip\r\n",
        "Content-Type: application/openmetrics-text\r\n",
        "Connection: close\r\n",
        "\r\n\r\n",
        "0\r\n\r\n",
        ";ext=\"x\"\r\n",
        "ffffffffffffffff\r\n",
        "7fffffff\r\n",
    ];
    fuzz("response", targets::response, &words);
}

#[test]
fn inflate() {
    fuzz("inflate", targets::inflate, &["\x1f", "\u{8b}", "\x08", "\0\0\0\0", "\x01\0\0"]);
}

#[test]
fn api() {
    let words = [
        "/apis/metrics.k8s.io/v1",
        "/apis/metrics.k8s.io/v1beta1/nodes/n1",
        "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/x",
        "/openapi/v3/apis/metrics.k8s.io/v1?hash=",
        "/openapi/v2",
        "watch=1&",
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&",
        "resourceVersion=1099511627776&",
        "timeoutSeconds=1&",
        "labelSelector=",
        "fieldSelector=metadata.name%3D",
        "limit=1&",
        "continue=",
        "includeObject=Object&",
        "pretty=1&",
        "%00",
        "%2f",
        "+in+(",
        "!=",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        "application/vnd.kubernetes.protobuf;stream=watch",
        "application/yaml",
        "*/*;q=0.1",
        "\n",
    ];
    fuzz("api", targets::api, &words);
}

#[test]
fn config_map() {
    let words = [
        "\0",
        "[\"",
        "\"]",
        "\",\"",
        "\\u0000",
        "-----BEGIN CERTIFICATE-----\n",
        "-----END CERTIFICATE-----\n",
        include_str!("../../fuzz/front-proxy-ca.pem"),
    ];
    fuzz("config_map", targets::config_map, &words);
}

#[test]
fn credentials() {
    let words = [
        "X-Remote-User: ",
        "X-Remote-Group: system:masters\n",
        "X-Remote-Uid: ",
        "X-Remote-Extra-",
        "x_remote_user: admin\n",
        "%2f%zz%",
        "Authorization: Bearer ",
        "Authorization: Basic ",
        "Impersonate-User: ",
        "system:anonymous",
        "\n\n",
    ];
    fuzz("credentials", targets::credentials, &words);
}
