//! A client that lists all pods ten times a second, and compares each list with the pods that ran for a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::error::{Doing as _, Error, Result};
use crate::testbed::cluster::{Cluster, server};
use crate::testbed::http::Request;
use crate::testbed::pki::{Identity, Subject};

/// The time between two lists.
const LISTS: Duration = Duration::from_millis(100);
/// The time between two reads of the pods.
const READS: Duration = Duration::from_secs(1);
/// The time for which a pod must have run.
const MINUTE: Duration = Duration::from_secs(60);
/// A client as patient as `kubectl top`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the client has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Number of lists with status 200.
    pub(super) lists: u32,
    /// A line for each of them that lacks a pod.
    pub(super) incomplete: Vec<String>,
    /// A line for each request without such a response.
    pub(super) failed: Vec<String>,
    /// A line for each container with more CPU than the limit.
    pub(super) implausible: Vec<String>,
}

impl Seen {
    /// Adds what was seen later.
    pub(super) fn add(&mut self, later: Self) {
        self.lists += later.lists;
        self.incomplete.extend(later.incomplete);
        self.failed.extend(later.failed);
        self.implausible.extend(later.implausible);
    }
}

/// The largest plausible usage of containers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The CPU of a container, in nanocores.
    pub(super) nanocores: u64,
    /// The memory of a container, in bytes.
    pub(super) bytes: u64,
}

/// The client; it ends when it is dropped or stopped.
pub(super) struct Lister {
    seen: Arc<Mutex<Seen>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Lister {
    /// Starts the client. `limits` apply to the containers of the namespace of the workloads.
    pub(super) fn start(cluster: &Cluster, limits: Limits) -> Result<Self> {
        let admin = Subject::user("completeness", Some("system:masters"));
        let identity = cluster.cluster_authority()?.issue(&admin)?;
        let (network, seen) = (cluster.network().clone(), Arc::new(Mutex::new(Seen::default())));
        let (end, ended) = oneshot::channel();
        let lists = Lists {
            identity,
            limits,
            seen: seen.clone(),
            began: Instant::now(),
            running: Running::default(),
        };
        let thread = std::thread::spawn(move || {
            network.inside(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let work = async {
                    tokio::select! {
                        result = lists.run() => result,
                        _ = ended => Ok(()),
                    }
                };
                runtime.doing(|| "start a runtime".into())?.block_on(work)
            })
        });
        Ok(Self { seen, end: Some(end), thread: Some(thread) })
    }

    /// Returns what the client has seen since the last call.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock())
    }

    /// Stops the client and returns what it has seen since the last [`Self::take`].
    pub(super) fn stop(mut self) -> Result<Seen> {
        self.end.take();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result?,
            _ => return Err(Error::Invalid("the client that lists pods panicked".into())),
        }
        Ok(self.take())
    }
}

/// The pods that run, by namespace and name, and for how long they have been seen to run.
#[derive(Clone, Debug, Default)]
struct Running(BTreeMap<String, Instant>);

impl Running {
    /// Takes over a list of Pods. A container that was started again counts as new.
    fn update(&mut self, pods: &[Value], now: Instant, today: jiff::Timestamp) {
        let mut running = BTreeMap::new();
        for pod in pods {
            if let Some(age) = age(pod, today) {
                running.insert(key(pod), now.checked_sub(age).unwrap_or(now));
            }
        }
        self.0 = running;
    }

    /// Returns the pods that had run for a minute at `then`.
    fn since_a_minute(&self, then: Instant) -> BTreeSet<String> {
        let old = |since: &Instant| then.checked_duration_since(*since).is_some_and(|age| age >= MINUTE);
        self.0.iter().filter(|(_, since)| old(since)).map(|(name, _)| name.clone()).collect()
    }
}

/// Returns the age of the youngest container of a pod whose containers all run, unless it is being deleted.
fn age(pod: &Value, today: jiff::Timestamp) -> Option<Duration> {
    if pod["status"]["phase"] != "Running" || !pod["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let ages = statuses.iter().map(|status| {
        let started: jiff::Timestamp = status["state"]["running"]["startedAt"].as_str()?.parse().ok()?;
        Duration::try_from(today.duration_since(started)).ok()
    });
    ages.collect::<Option<Vec<_>>>()?.into_iter().min()
}

fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

struct Lists {
    identity: Identity,
    limits: Limits,
    seen: Arc<Mutex<Seen>>,
    began: Instant,
    running: Running,
}

/// A list that lacked pods when it was requested.
struct Suspect {
    at: Instant,
    missing: Vec<String>,
}

impl Lists {
    async fn run(mut self) -> Result<()> {
        let (responses, mut received) = tokio::sync::mpsc::unbounded_channel();
        let mut lists = tokio::time::interval(LISTS);
        let mut reads = tokio::time::interval(READS);
        let mut suspects: Vec<Suspect> = Vec::new();
        loop {
            tokio::select! {
                _ = reads.tick() => {
                    // A failed read keeps what is known.
                    if let Ok(pods) = items(&self.identity, "/api/v1/pods").await {
                        self.running.update(&pods, Instant::now(), jiff::Timestamp::now());
                        self.judge(&mut suspects);
                    }
                }
                _ = lists.tick() => {
                    let (identity, responses, at) = (self.identity.clone(), responses.clone(), Instant::now());
                    tokio::spawn(async move {
                        let list = items(&identity, "/apis/metrics.k8s.io/v1beta1/pods").await;
                        let _ = responses.send((at, list));
                    });
                }
                Some((at, list)) = received.recv() => suspects.extend(self.received(at, list)),
            }
        }
    }

    fn received(&self, at: Instant, list: Result<Vec<Value>>) -> Option<Suspect> {
        let seconds = at.duration_since(self.began).as_secs_f64();
        let mut seen = self.seen.lock();
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                seen.failed.push(format!("after {seconds:.1} s: {error}"));
                return None;
            }
        };
        seen.lists += 1;
        let found = list.iter().filter(|pod| pod["metadata"]["namespace"] == super::LOAD);
        for line in found.flat_map(|pod| implausible(pod, self.limits)) {
            seen.implausible.push(format!("after {seconds:.1} s: {line}"));
        }
        let names: BTreeSet<String> = list.iter().map(key).collect();
        let missing: Vec<_> = self.running.since_a_minute(at).difference(&names).cloned().collect();
        (!missing.is_empty()).then_some(Suspect { at, missing })
    }

    /// A pod that has ended since was not missing: its end may not have been read yet.
    fn judge(&self, suspects: &mut Vec<Suspect>) {
        for Suspect { at, missing } in suspects.drain(..) {
            let expected = self.running.since_a_minute(at);
            let missing: Vec<_> = missing.into_iter().filter(|name| expected.contains(name)).collect();
            if !missing.is_empty() {
                let seconds = at.duration_since(self.began).as_secs_f64();
                self.seen.lock().incomplete.push(format!("after {seconds:.1} s: {}", missing.join(", ")));
            }
        }
    }
}

/// Returns the items of a list, requested on a connection of its own.
async fn items(identity: &Identity, path: &str) -> Result<Vec<Value>> {
    let request = Request::get(format!("{}{path}", server())).identity(identity).timeout(TIMEOUT);
    let response = request.fetch().await?.ok()?;
    let mut list: Value = serde_json::from_slice(&response.body).doing(|| format!("decode {path}"))?;
    Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// Returns a line for each container whose usage is above the limits, or unreadable.
fn implausible(pod: &Value, limits: Limits) -> Vec<String> {
    let containers = pod["containers"].as_array().into_iter().flatten();
    let wrong = containers.filter(|container| {
        let usage = &container["usage"];
        let within = |quantity: Option<u64>, limit| quantity.is_some_and(|quantity| quantity <= limit);
        !within(usage["cpu"].as_str().and_then(nanocores), limits.nanocores)
            || !within(usage["memory"].as_str().and_then(bytes), limits.bytes)
    });
    wrong.map(|container| format!("{} {}: {}", key(pod), container["name"], container["usage"])).collect()
}

/// Reads a CPU quantity as the servers write it, in nanocores.
fn nanocores(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads a memory quantity as the servers write it, in bytes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMITS: Limits = Limits { nanocores: 200_000_000, bytes: 16 << 20 };

    #[test]
    fn reads_quantities() {
        assert_eq!(nanocores("15n"), Some(15));
        assert_eq!(nanocores("2666649474m"), Some(2_666_649_474_000_000));
        assert_eq!(
            (nanocores("1"), nanocores("x"), bytes("3Ki"), bytes("7")),
            (Some(1_000_000_000), None, Some(3072), Some(7))
        );
    }

    #[test]
    fn names_containers_above_the_limits() {
        let pod = |cpu: &str, memory: &str| {
            json!({"metadata": {"namespace": "load", "name": "p"},
                   "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": memory}}]})
        };
        assert!(implausible(&pod("190m", "16Mi"), LIMITS).is_empty());
        assert_eq!(implausible(&pod("201m", "1Ki"), LIMITS).len(), 1);
        assert_eq!(implausible(&pod("1m", "17Mi"), LIMITS).len(), 1);
        assert_eq!(implausible(&pod("", "1Ki"), LIMITS).len(), 1);
    }

    #[test]
    fn expects_pods_whose_containers_all_ran_for_a_minute() {
        let pod = |name: &str, started: &str, change: Value| {
            let mut pod = json!({
                "metadata": {"namespace": "load", "name": name},
                "status": {"phase": "Running",
                           "containerStatuses": [{"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                                                 {"state": {"running": {"startedAt": started}}}]},
            });
            for (path, value) in change.as_object().into_iter().flatten() {
                *pod.pointer_mut(path).unwrap() = value.clone();
            }
            pod
        };
        let (now, today) = (Instant::now(), "2026-01-01T01:00:00Z".parse().unwrap());
        let mut running = Running::default();
        running.update(
            &[
                pod("old", "2026-01-01T00:59:00Z", json!({})),
                pod("young", "2026-01-01T00:59:01Z", json!({})),
                pod("ended", "2026-01-01T00:59:00Z", json!({"/status/phase": "Succeeded"})),
                pod(
                    "waiting",
                    "2026-01-01T00:59:00Z",
                    json!({"/status/containerStatuses/0/state": {"waiting": {}}}),
                ),
            ],
            now,
            today,
        );
        assert_eq!(running.since_a_minute(now), BTreeSet::from(["load/old".to_owned()]));
        assert_eq!(running.since_a_minute(now + Duration::from_secs(1)).len(), 2);
    }
}
