//! The cost of a settled operator.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use e2e::suite::{TestEnv, failed};
use e2e::testbed::pipeline;
use e2e::{Result, check};
use serde_json::Value;

use super::operator;

/// The time for which the operator is measured.
const WATCHED: Duration = Duration::from_secs(300);
/// The time until everything settles after Ready: the HPA's new replicas, caches, first renewals.
const SETTLING: Duration = Duration::from_secs(20);

const MAX_RSS_KIB: u64 = 30 * 1024;
const MAX_MILLICORES: f64 = 2.0;

/// No writes except Lease renewals, counted in the API server's audit log; little memory and CPU of the process.
pub(super) fn settled_operator_sends_no_writes(env: &TestEnv) -> Result<()> {
    let [_, _, uid] = operator(&env.client)?;
    let pid = process(&uid)?;
    thread::sleep(SETTLING);
    let log = env.own_cluster()?.layout().audit_log();
    let offset = fs::metadata(&log).map_err(|error| failed(format!("{}: {error}", log.display())))?.len();
    let (cpu, began) = (cpu_seconds(pid)?, Instant::now());
    let mut peak = 0;
    while began.elapsed() < WATCHED {
        thread::sleep(Duration::from_secs(5));
        peak = peak.max(rss_kib(pid)?);
    }
    let millicores = (cpu_seconds(pid)? - cpu) / began.elapsed().as_secs_f64() * 1000.0;
    let text = fs::read(&log).map_err(|error| failed(format!("{}: {error}", log.display())))?;
    let after = String::from_utf8_lossy(text.get(usize::try_from(offset).unwrap_or(0)..).unwrap_or_default())
        .into_owned();
    let user = format!("system:serviceaccount:{}:metrics-pipeline", pipeline::NAMESPACE);
    let mut reads = 0;
    let mut renewals = 0;
    let mut writes = Vec::new();
    for event in after.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let by = event["user"]["username"].as_str().unwrap_or_default();
        if !by.starts_with(&user) || event["stage"] != "ResponseComplete" {
            continue;
        }
        match event["verb"].as_str().unwrap_or_default() {
            "get" | "list" | "watch" => reads += 1,
            _ if event["objectRef"]["resource"] == "leases" => renewals += 1,
            verb => writes.push(format!("{verb} {}", event["requestURI"])),
        }
    }
    env.progress.say(format!(
        "the settled operator in {} s: {} writes, {renewals} Lease renewals, {reads} reads; RSS {peak} KiB at most, \
         {millicores:.2} millicores",
        WATCHED.as_secs(),
        writes.len(),
    ));
    check!(writes.is_empty(), "it wrote: {}", writes.join(", "));
    check!(renewals > 10, "only {renewals} Lease renewals: is this the operator's account?");
    check!(peak < MAX_RSS_KIB, "RSS {peak} KiB");
    check!(millicores < MAX_MILLICORES, "{millicores:.2} millicores");
    Ok(())
}

/// Returns the process of a pod's container, by the pod's UID in its cgroup.
fn process(uid: &str) -> Result<u32> {
    let matching = |directory: &Path| -> Option<u32> {
        let pid = directory.file_name()?.to_str()?.parse().ok()?;
        let cgroup = fs::read_to_string(directory.join("cgroup")).ok()?;
        let name = fs::read_to_string(directory.join("comm")).ok()?;
        (cgroup.contains(uid) && name.starts_with("metrics-pipe")).then_some(pid)
    };
    let directories = fs::read_dir("/proc").map_err(|error| failed(format!("/proc: {error}")))?;
    let found = directories.into_iter().find_map(|entry| matching(&entry.ok()?.path()));
    found.ok_or_else(|| failed(format!("no process of pod {uid}")))
}

fn rss_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|error| failed(format!("the operator ended: {error}")))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| failed(format!("no VmRSS in {status}")))
}

/// Returns user and system time; the clock tick is 100 Hz on every Linux that Rust supports.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(|error| failed(format!("the operator ended: {error}")))?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(f64::from(user + system) / 100.0),
        _ => Err(failed(format!("unreadable: {stat}"))),
    }
}
