//! The figures of one server, and their measurement.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::as_f64;
use super::candidate::{Candidate, Running};
use super::env::BenchEnv;
use super::fleet::Stats;
use super::population::{Pod, Population, namespace_name, node_name};
use super::soak::{self, Soak};
use super::usage::{self, Memory};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::KubeletKind;

pub(super) const JSON: &str = "application/json";
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(super) const PODS: &str = "/apis/metrics.k8s.io/v1beta1/pods";
pub(super) const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
/// The timeout of a server that returns nothing.
const TIMEOUT: Duration = Duration::from_secs(600);

/// How to measure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Method {
    /// Number of nodes.
    pub nodes: u32,
    /// Pods on each node.
    pub pods_per_node: u32,
    /// The kind of all kubelets.
    pub kubelet: KubeletKind,
    /// The scrape interval in seconds.
    pub scrape_interval_s: u64,
    /// The number of scrape intervals over which scraping is measured.
    pub rounds: u32,
    /// The shares of failing nodes, in percent.
    pub faults: Vec<u32>,
    /// How long lists are requested while memory is recorded, in minutes; 0 turns this off.
    #[serde(default)]
    pub soak_minutes: u32,
    /// Whether lists of all pods are also requested with gzip.
    #[serde(default)]
    pub gzip: bool,
    /// How often each server is measured.
    pub repetitions: u32,
}

impl Method {
    /// Returns the nodes and their pods.
    #[must_use]
    pub fn population(&self) -> Population {
        Population { nodes: self.nodes, pods_per_node: self.pods_per_node }
    }
}

/// The figures of scraping over several intervals.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Scraping {
    /// The share of failing nodes, in percent.
    pub faults: u32,
    /// CPU of the server in millicores.
    pub millicores: f64,
    /// CPU of the fleet in millicores.
    pub fleet_millicores: f64,
    /// Memory of the server at the end.
    pub memory: Memory,
    /// Requests to kubelets per second.
    pub requests_per_s: f64,
    /// Bytes received per second.
    pub wire_bytes_per_s: f64,
    /// Connections opened during the measurement.
    pub connections: u64,
    /// The median age of the samples of healthy nodes' pods, in seconds.
    pub age_p50_s: f64,
    /// The 99th percentile of the same.
    pub age_p99_s: f64,
    /// Number of pods on healthy nodes in the last response.
    pub pods: usize,
}

/// The figures of one kind of request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Listing {
    /// The objects that are requested.
    pub what: String,
    /// The encoding.
    pub encoding: String,
    /// Number of requests.
    pub requests: usize,
    /// Size of the response in bytes.
    pub bytes: usize,
    /// The median time on the client, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of the same.
    pub p99_ms: f64,
    /// CPU of the server for one request in milliseconds, without what scraping used meanwhile.
    pub server_cpu_ms: f64,
}

/// All figures of one server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figures {
    /// The name of the server.
    pub name: String,
    /// The time until the first pod is served, in seconds from the start of the process.
    pub first_pod_s: f64,
    /// The time until all pods are served.
    pub all_pods_s: f64,
    /// The time until all nodes are served.
    pub all_nodes_s: f64,
    /// CPU until then, in seconds.
    pub start_cpu_s: f64,
    /// Scraping, first without failing nodes.
    pub scraping: Vec<Scraping>,
    /// The kinds of requests.
    pub listings: Vec<Listing>,
    /// Memory after the requests.
    pub memory_after_lists: Memory,
    /// Memory over a long time, if it is measured.
    #[serde(default)]
    pub soak: Option<Soak>,
}

/// Measures one server in the environment.
pub async fn measure(
    candidate: &Candidate,
    method: &Method,
    env: &mut BenchEnv,
    progress: &Progress,
) -> Result<Figures> {
    let interval = Duration::from_secs(method.scrape_interval_s);
    let population = method.population();
    let began = Instant::now();
    let mut server = candidate.start(env, interval)?;
    let pid = server.process.id();
    progress.say(format!("{} started (pid {pid}, fleet {})", candidate.name, env.fleet().id()));
    let first = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", namespace_name(0));
    let first_pod_s = await_items(&mut server, began, &first, 1).await?;
    let all_pods_s = await_items(&mut server, began, PODS, population.pods() as usize).await?;
    let all_nodes_s = await_items(&mut server, began, NODES, method.nodes as usize).await?;
    let start_cpu_s = usage::cpu(pid).as_secs_f64();
    progress.say(format!(
        "{}: first pod after {first_pod_s:.1} s, all pods {all_pods_s:.1} s, all nodes {all_nodes_s:.1} s",
        candidate.name
    ));
    // Nodes settle into their scrape slots; metrics-server has none.
    tokio::time::sleep(interval * 2).await;

    let mut scraping = vec![scrape(&mut server, method, 0, env, progress).await?];
    let quiet = scraping[0].millicores;
    let listings = lists(&mut server, quiet, population, method.gzip, progress).await?;
    let memory_after_lists = usage::memory(pid);
    let soak = match method.soak_minutes {
        0 => None,
        minutes => Some(soak::soak(&mut server, minutes, progress).await?),
    };
    for percent in &method.faults {
        env.fleet().fail(*percent)?;
        // Cached samples are served for a while, then the retry intervals have grown.
        tokio::time::sleep(interval * 5).await;
        scraping.push(scrape(&mut server, method, *percent, env, progress).await?);
    }
    env.fleet().fail(0)?;
    Ok(Figures {
        name: candidate.name.clone(),
        first_pod_s,
        all_pods_s,
        all_nodes_s,
        start_cpu_s,
        scraping,
        listings,
        memory_after_lists,
        soak,
    })
}

/// Returns the seconds from `began` until a list has `count` items.
pub(super) async fn await_items(
    server: &mut Running,
    began: Instant,
    path: &str,
    count: usize,
) -> Result<f64> {
    let mut seen = "nothing".to_owned();
    while began.elapsed() < TIMEOUT {
        server.process.check()?;
        let response = match server.connect().await {
            Ok(mut http) => http.get(path, JSON).await,
            Err(error) => Err(error),
        };
        let received = began.elapsed().as_secs_f64();
        match response {
            Ok(response) if response.status == 200 => {
                let items = timestamps(&response.body).count();
                if items >= count {
                    return Ok(received);
                }
                seen = format!("{items} items");
            }
            Ok(response) => seen = format!("status {}", response.status),
            Err(error) => seen = error.to_string(),
        }
        // Long lists are expensive for metrics-server and would delay its first response.
        let pause = if count > 1 { 1000 } else { 200 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    Err(Error::Timeout { what: format!("{count} items of {path}"), after: TIMEOUT, last: seen })
}

async fn scrape(
    server: &mut Running,
    method: &Method,
    faults: u32,
    env: &mut BenchEnv,
    progress: &Progress,
) -> Result<Scraping> {
    let interval = Duration::from_secs(method.scrape_interval_s);
    let (pid, fleet) = (server.process.id(), env.fleet().id());
    let before = (Instant::now(), usage::cpu(pid), usage::cpu(fleet), env.fleet().stats()?);
    tokio::time::sleep(interval * method.rounds).await;
    let elapsed = before.0.elapsed().as_secs_f64();
    let millicores =
        |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() / elapsed * 1000.0;
    let (cpu, fleet_cpu) = (millicores(usage::cpu(pid), before.1), millicores(usage::cpu(fleet), before.2));
    let (memory, stats) = (usage::memory(pid), env.fleet().stats()?);
    server.process.check()?;
    let delta = |of: fn(&Stats) -> u64| of(&stats) - of(&before.3);
    let (ages, pods) = ages(server, interval, env).await?;
    let scraping = Scraping {
        faults,
        millicores: cpu,
        fleet_millicores: fleet_cpu,
        memory,
        requests_per_s: as_f64(delta(|stats| stats.requests)) / elapsed,
        wire_bytes_per_s: as_f64(delta(|stats| stats.wire_bytes)) / elapsed,
        connections: delta(|stats| stats.connections),
        age_p50_s: quantile(&ages, 0.5),
        age_p99_s: quantile(&ages, 0.99),
        pods,
    };
    progress.say(format!(
        "{faults} % failing: {cpu:.1} millicores (fleet {fleet_cpu:.1}), {:.1} MB, ages {:.1} s and {:.1} s",
        memory.rss_mb, scraping.age_p50_s, scraping.age_p99_s
    ));
    Ok(scraping)
}

/// Returns the sorted ages of the samples of healthy nodes' pods, and the number of such pods in the last response.
async fn ages(server: &Running, interval: Duration, env: &mut BenchEnv) -> Result<(Vec<f64>, usize)> {
    const POLLS: u32 = 7;
    let mut http = server.connect().await?;
    let (mut ages, mut pods) = (Vec::new(), 0);
    for _ in 0..POLLS {
        let response = http.get(PODS, JSON).await?.ok()?;
        let now = Timestamp::now().as_duration().as_secs_f64();
        pods = 0;
        for (name, time) in timestamps(&response.body) {
            if Pod::of_name(name).is_some_and(|pod| env.fleet().is_healthy(pod)) {
                pods += 1;
                ages.push(now - time);
            }
        }
        tokio::time::sleep(interval / POLLS).await;
    }
    ages.sort_by(f64::total_cmp);
    Ok((ages, pods))
}

/// Returns the name and timestamp of each item of a compact JSON list.
fn timestamps(body: &[u8]) -> impl Iterator<Item = (&[u8], f64)> {
    const NAME: &[u8] = b"\"metadata\":{\"name\":\"";
    const TIME: &[u8] = b"\"timestamp\":\"";
    let mut rest = body;
    std::iter::from_fn(move || {
        let at = find(rest, NAME)? + NAME.len();
        let name = &rest[at..];
        let name = &name[..name.iter().position(|byte| *byte == b'"')?];
        rest = &rest[at..];
        let at = find(rest, TIME)? + TIME.len();
        let time: Timestamp = std::str::from_utf8(rest.get(at..at + 20)?).ok()?.parse().ok()?;
        rest = &rest[at..];
        Some((name, time.as_duration().as_secs_f64()))
    })
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    let first = *pattern.first()?;
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|byte| *byte == first)?;
        if text[at..].starts_with(pattern) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// The minimum duration of each kind of request. All nodes of a scrape slot are scraped at the same time, once a
/// second; shorter measurements would contain this CPU for few requests, or for none.
const MIN_DURATION: Duration = Duration::from_secs(3);

async fn lists(
    server: &mut Running,
    quiet_millicores: f64,
    population: Population,
    gzip: bool,
    progress: &Progress,
) -> Result<Vec<Listing>> {
    let pod = Pod(0);
    let namespace = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", pod.namespace());
    let selector = format!("{namespace}?labelSelector=app.kubernetes.io%2Fname%3D{}", pod.deployment());
    let few = if population.pods() > 60_000 { 8 } else { 20 };
    let requests = [
        ("all pods", PODS.to_owned(), few),
        ("namespace + selector", selector, 300),
        ("all nodes", NODES.to_owned(), 100),
        ("one pod", format!("{namespace}/{}", pod.name()), 500),
        ("one node", format!("{NODES}/{}", node_name(0)), 500),
    ];
    let mut listings = Vec::new();
    let mut http = server.connect().await?;
    for (what, path, count) in &requests {
        let mut counts = Vec::new();
        let mut encodings = vec![("JSON", JSON, ""), ("protobuf", PROTOBUF, "")];
        if gzip && path == PODS {
            encodings.extend([("JSON, gzip", JSON, "gzip"), ("protobuf, gzip", PROTOBUF, "gzip")]);
        }
        for (encoding, accept, compression) in encodings {
            let first = http.get_compressed(path, accept, compression).await?.ok()?;
            // Neither server compresses a short list.
            if first.header("content-encoding").unwrap_or_default() != compression {
                continue;
            }
            let mut bytes = first.body.len();
            http.reuse(first);
            let pid = server.process.id();
            let (began, before) = (Instant::now(), usage::cpu_of_threads(pid));
            let mut times = Vec::with_capacity(*count);
            while times.len() < *count || began.elapsed() < MIN_DURATION {
                let response = http.get_compressed(path, accept, compression).await?.ok()?;
                bytes = response.body.len();
                times.push(response.took.as_secs_f64() * 1000.0);
                http.reuse(response);
            }
            let cpu = (usage::cpu_of_threads(pid).saturating_sub(before)).as_secs_f64() * 1000.0;
            let cpu = cpu - quiet_millicores * began.elapsed().as_secs_f64();
            times.sort_by(f64::total_cmp);
            counts.push(times.len());
            listings.push(Listing {
                what: (*what).into(),
                encoding: encoding.into(),
                requests: times.len(),
                bytes,
                p50_ms: quantile(&times, 0.5),
                p99_ms: quantile(&times, 0.99),
                server_cpu_ms: cpu.max(0.0) / as_f64(times.len() as u64),
            });
            server.process.check()?;
        }
        progress.say(format!("{what}: {counts:?} requests, as JSON and protobuf, without and with gzip"));
    }
    Ok(listings)
}

/// Returns the quantile of sorted figures, by the nearest rank.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn quantile(ordered: &[f64], part: f64) -> f64 {
    let at = (as_f64(ordered.len().saturating_sub(1) as u64) * part).round() as usize;
    ordered.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_items_in_compact_json() {
        let body = br#"{"kind":"L","metadata":{},"items":[{"metadata":{"name":"a-b","labels":{"x":"y"}},"timestamp":"1970-01-01T00:00:07Z"},{"metadata":{"name":"c"},"timestamp":"1970-01-01T00:00:08Z"}]}"#;
        assert_eq!(timestamps(body).collect::<Vec<_>>(), [(&b"a-b"[..], 7.0), (b"c", 8.0)]);
    }

    #[test]
    fn returns_measured_figures_as_quantiles() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.5).to_bits(), 2.0_f64.to_bits());
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.99).to_bits(), 3.0_f64.to_bits());
        assert!(quantile(&[], 0.5).is_nan());
    }
}
