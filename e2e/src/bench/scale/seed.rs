//! The contents of etcd: written once, then cached as etcd's data directory.
//!
//! The objects are written to etcd directly, as kube-apiserver would store them in JSON, which it reads as well as
//! protobuf. This takes minutes instead of an hour. The cache is `~/.cache/metrics-pipeline/etcd`; its key is the
//! content.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::env::{self, Process};
use super::population::{Pod, Population, namespace_name, node_name, uid};
use crate::command;
use crate::digest::Sha256;
use crate::error::{Doing as _, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::cluster::{Layout, control_plane};
use crate::testbed::http::Connection;

/// Number of objects in one write.
const BATCH: usize = 200;

/// Starts etcd with the population in it.
pub(super) async fn filled_etcd(
    layout: &Layout,
    population: Population,
    programs: &Path,
    progress: &Progress,
) -> Result<Process> {
    let mut etcd = control_plane::etcd(layout, programs);
    etcd.arguments.push("--max-txn-ops=1000".into());
    etcd.arguments.push("--max-request-bytes=16777216".into());
    etcd.arguments.push("--quota-backend-bytes=8589934592".into());
    // An entry of its log has hundreds of objects, and all entries are in memory until the next snapshot.
    etcd.arguments.push("--snapshot-count=100".into());
    let data = layout.data.join("etcd");
    let kept = kept(population, programs);
    let began = Instant::now();
    let seconds = |began: Instant| format!("{:.1} s", began.elapsed().as_secs_f64());
    let what = format!("{} nodes and {} pods", population.nodes, population.pods());
    if kept.is_dir() {
        copy(&kept, &data)?;
        progress.say(format!("etcd with {what} copied from {} ({})", kept.display(), seconds(began)));
        return env::start(layout, &etcd);
    }
    let writing = env::start(layout, &etcd)?;
    write(population, progress).await?;
    writing.end()?;
    keep(&data, &kept)?;
    progress.say(format!("{what} written to etcd and cached in {} ({})", kept.display(), seconds(began)));
    env::start(layout, &etcd)
}

/// Returns the cached directory: another etcd or another population has another one.
fn kept(population: Population, programs: &Path) -> PathBuf {
    let digest = Sha256::default()
        .part(include_bytes!("population.rs"))
        .part(include_bytes!("seed.rs"))
        .part(programs.as_os_str().as_encoded_bytes())
        .hex();
    binaries::cache().join("etcd").join(format!("{}{}", prefix(population), &digest[..16]))
}

fn prefix(population: Population) -> String {
    format!("{}x{}-", population.nodes, population.pods_per_node)
}

/// Caches a data directory and removes older ones of the same size.
fn keep(data: &Path, kept: &Path) -> Result<()> {
    let (Some(directory), Some(name)) = (kept.parent(), kept.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(());
    };
    let prefix = &name[..=name.rfind('-').unwrap_or_default()];
    for old in fs::read_dir(directory).into_iter().flatten().flatten() {
        if old.file_name().to_string_lossy().starts_with(prefix) {
            let _ = fs::remove_dir_all(old.path());
        }
    }
    let unfinished = directory.join(format!("{prefix}copying"));
    fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
    copy(data, &unfinished)?;
    fs::rename(&unfinished, kept).doing(|| format!("keep {}", kept.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["-a", "--sparse=always", "--reflink=auto"]).arg(from).arg(to);
    command::output(&mut copy).map(drop)
}

/// Writes namespaces, nodes and pods through etcd's JSON gateway.
async fn write(population: Population, progress: &Progress) -> Result<()> {
    let namespaces = (0..population.namespaces()).map(|number| {
        let name = namespace_name(number);
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "uid": uid(4, number), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        (format!("/registry/namespaces/{name}"), object)
    });
    let nodes = (0..population.nodes)
        .map(|node| (format!("/registry/minions/{}", node_name(node)), population.node_object(node)));
    let pods = (0..population.pods()).map(Pod).map(|pod| {
        (format!("/registry/pods/{}/{}", pod.namespace(), pod.name()), population.pod_object(pod))
    });
    let objects = Mutex::new(namespaces.chain(nodes).chain(pods));
    let written = Mutex::new((0, Instant::now()));
    let writer = async || {
        let mut etcd = connect().await?;
        loop {
            let puts: Vec<Value> = objects
                .lock()
                .by_ref()
                .take(BATCH)
                .map(|(key, object)| {
                    let value = BASE64_STANDARD.encode(object.to_string());
                    json!({"requestPut": {"key": BASE64_STANDARD.encode(key), "value": value}})
                })
                .collect();
            if puts.is_empty() {
                return Ok(());
            }
            let count = puts.len();
            let response = etcd.post("/v3/kv/txn", json!({"success": puts}).to_string()).await?;
            response.ok()?;
            let mut written = written.lock();
            written.0 += count;
            if written.1.elapsed() > Duration::from_secs(8) {
                progress.say(format!("  … {} objects written", written.0));
                written.1 = Instant::now();
            }
        }
    };
    let (one, two, three) = tokio::join!(writer(), writer(), writer());
    one.and(two).and(three)
}

async fn connect() -> Result<Connection> {
    let began = Instant::now();
    loop {
        match Connection::plain(([127, 0, 0, 1], 2379).into()).await {
            Ok(etcd) => return Ok(etcd),
            Err(error) if began.elapsed() > Duration::from_secs(30) => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_by_population_and_etcd() {
        let of = |nodes, pods_per_node, programs: &str| {
            kept(Population { nodes, pods_per_node }, Path::new(programs))
        };
        assert_eq!(of(10, 30, "/a"), of(10, 30, "/a"));
        assert_ne!(of(10, 30, "/a"), of(10, 30, "/b"));
        assert_ne!(of(10, 30, "/a"), of(1, 30, "/a"));
        let name = of(10, 30, "/a");
        assert!(name.file_name().unwrap().to_str().unwrap().starts_with("10x30-"));
    }

    #[test]
    fn removes_an_older_directory_of_the_same_size() {
        let cache = tempfile();
        let data = cache.join("data");
        fs::create_dir_all(data.join("member")).unwrap();
        let directory = cache.join("etcd");
        for name in ["10x30-old", "110x30-other"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        keep(&data, &directory.join("10x30-new")).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["10x30-new", "110x30-other"]);
        assert!(directory.join("10x30-new/member").is_dir());
        fs::remove_dir_all(&cache).unwrap();
    }

    fn tempfile() -> PathBuf {
        let path = std::env::temp_dir().join(format!("scale-seed-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }
}
