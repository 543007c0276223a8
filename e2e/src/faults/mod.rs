//! The list of faults: how each is injected, what the conditions and `doctor` must report within 30 s, and how it is
//! repaired.
//!
//! The scenarios and `cargo run -p e2e --bin faults` use the same list. The faults of a group run one after the other
//! on the same cluster.

mod front_proxy;
mod kubelets;
mod path;
mod table;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::client::Client;
use crate::testbed::cluster::{Cluster, FlagChange};
use crate::testbed::images::ProjectImages;
use crate::testbed::pipeline;
use crate::testbed::plugin::Plugin;
use crate::wait;

pub use front_proxy::FRONT_PROXY;
pub use kubelets::KUBELETS;
pub use path::PATH;
pub use table::Table;

/// The limit for reporting a fault, and for clearing the report after the repair.
pub const LIMIT: Duration = Duration::from_secs(30);
/// The timeout of each wait; the table shows by how much a fault exceeded the limit.
const PATIENCE: Duration = Duration::from_secs(120);

/// A fault that is injected into a cluster whose pipeline is Ready.
pub struct Fault {
    /// A short description.
    pub name: &'static str,
    /// Whether every test run injects it, not only long ones.
    pub short: bool,
    /// The MetricsPipeline whose condition reports it.
    pub pipeline: &'static str,
    /// The type of the condition that must report it.
    pub condition: &'static str,
    /// Its status.
    pub status: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// The object that the message must name.
    pub object: &'static str,
    /// Further texts that the message must contain: evidence and remedy.
    pub says: &'static [&'static str],
    /// Whether `Ready` must be False meanwhile.
    pub flips_ready: bool,
    /// Injects the fault.
    pub inject: fn(&Bench<'_>) -> Result<()>,
    /// Repairs it.
    pub heal: fn(&Bench<'_>) -> Result<()>,
}

/// The environment in which faults are injected.
pub struct Bench<'a> {
    /// A client with the permissions of an administrator.
    pub client: Client,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The kubectl plugin.
    pub plugin: Plugin,
    /// Prints progress.
    pub progress: Progress,
}

/// The times of a fault.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From the injection until a condition reported it.
    pub named: Duration,
    /// From the injection until `doctor` reported it.
    pub by_doctor: Duration,
    /// From the repair until the conditions and `doctor` were as before.
    pub cleared: Duration,
    /// The condition's message.
    pub message: String,
}

/// Returns the changes to the flags of kube-apiserver: it connects to the pods through the Service's address, so that
/// a fault on its path does not affect the kubelet's probes.
#[must_use]
pub fn flags() -> Vec<FlagChange> {
    vec![FlagChange::set("enable-aggregator-routing", "false")]
}

/// Installs the pipeline from these images and waits until it is Ready.
pub fn prepare(client: &Client, cluster: &Cluster, built: &ProjectImages, progress: &Progress) -> Result<()> {
    let helm = binaries::helm(progress)?;
    pipeline::load(cluster, built)?;
    pipeline::install(client, &helm, built)?;
    client.apply(&pipeline::manifest(pipeline::NAME, &json!({})))?;
    settled(client)
}

impl Fault {
    /// Injects the fault, waits until a condition and `doctor` report it, repairs it, and waits until neither reports
    /// a problem.
    ///
    /// # Errors
    /// If they report something else; the error has what they reported.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Outcome> {
        let injected = (self.inject)(bench);
        let began = Instant::now();
        let named = injected
            .and_then(|()| side_by_side(|| self.named(bench, began), || self.named_by_doctor(bench, began)));
        // The next fault starts with a repaired cluster, whatever happened.
        let healed = (self.heal)(bench);
        let (((message, named), by_doctor), ()) = (named?, healed?);
        let began = Instant::now();
        let cleared = side_by_side(|| cleared(bench, began), || green(bench, began));
        let (conditions, doctor) = cleared?;
        let cleared = conditions.max(doctor);
        bench.progress.say(format!(
            "{}: named after {:.0} s, by doctor after {:.0} s, cleared after {:.0} s",
            self.name,
            named.as_secs_f64(),
            by_doctor.as_secs_f64(),
            cleared.as_secs_f64()
        ));
        Ok(Outcome { named, by_doctor, cleared, message })
    }

    /// Waits until a condition reports the fault; returns its message and the time.
    fn named(&self, bench: &Bench<'_>, began: Instant) -> Result<(String, Duration)> {
        let what = format!("{}: {} is {} {}", self.name, self.condition, self.status, self.reason);
        wait::every(Duration::from_millis(500), PATIENCE, &what, || {
            let object = bench.client.get(&["mp", self.pipeline])?;
            let (status, reason, message) = condition(&object, self.condition);
            let missing = self.missing(&message);
            let (ready, ..) = condition(&object, "Ready");
            let expected = if self.flips_ready { "False" } else { "True" };
            if status == self.status && reason == self.reason && missing.is_empty() && ready == expected {
                Ok((message, began.elapsed()))
            } else {
                Err(format!("Ready={ready}, {status} {reason}: {message} (missing: {missing:?})").into())
            }
        })
    }

    /// Waits until `doctor` reports the same and returns the time. A fault makes it exit with 1, a warning does not.
    fn named_by_doctor(&self, bench: &Bench<'_>, began: Instant) -> Result<Duration> {
        let expected = i32::from(self.status == "False");
        // A MetricsPipeline that is not served has a line of its own.
        let (title, start) = if self.pipeline == pipeline::NAME {
            (self.condition.to_owned(), format!("{}: ", self.reason))
        } else {
            (format!("MetricsPipeline {}", self.pipeline), String::new())
        };
        let what = format!("{}: doctor ends with {expected} and tells of {title}", self.name);
        wait::every(Duration::from_secs(1), PATIENCE, &what, || {
            let (code, tree) = bench.plugin.doctor(&bench.client)?;
            let checks = tree["parts"].as_array().cloned().unwrap_or_default();
            let check =
                checks.iter().find(|check| check["title"] == title.as_str()).cloned().unwrap_or_default();
            let text = check["text"].as_str().unwrap_or_default();
            let missing = self.missing(text);
            if code == expected && text.starts_with(&start) && missing.is_empty() {
                Ok(began.elapsed())
            } else {
                Err(format!("exit code {code}, {check} (missing: {missing:?})").into())
            }
        })
    }

    /// Returns the texts that a message should contain and does not.
    fn missing(&self, message: &str) -> Vec<&'static str> {
        let all = self.says.iter().chain([&self.object]);
        all.copied().filter(|part| !message.contains(part)).collect()
    }
}

/// Waits until every condition is as expected and returns the time.
fn cleared(bench: &Bench<'_>, began: Instant) -> Result<Duration> {
    settled(&bench.client).map(|()| began.elapsed())
}

/// Waits until `doctor` reports no problem and returns the time.
fn green(bench: &Bench<'_>, began: Instant) -> Result<Duration> {
    wait::every(Duration::from_secs(1), PATIENCE, "doctor finds nothing", || {
        let (code, tree) = bench.plugin.doctor(&bench.client)?;
        if code == 0 && tree["mark"] == "good" {
            Ok(began.elapsed())
        } else {
            Err(format!("exit code {code}, {tree}").into())
        }
    })
}

/// Returns both results, or the first one's error before the second one's.
fn side_by_side<A, B: Send>(
    first: impl FnOnce() -> Result<A>,
    second: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        let second = second.join().unwrap_or_else(|_| Err(impossible("a thread panicked")));
        Ok((first?, second?))
    })
}

impl Bench<'_> {
    /// Restarts kube-apiserver with these additional flags and lets it recreate its ConfigMap.
    fn front_proxy(&self, changes: &[FlagChange]) -> Result<()> {
        let changes = [&flags()[..], changes].concat();
        self.cluster.restart_apiserver_with(&changes, &self.progress.clone().quiet())?;
        renew(&self.client)
    }
}

/// Deletes the ConfigMap, to which kube-apiserver only adds, and waits until it exists again.
fn renew(client: &Client) -> Result<()> {
    let config_map = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
    client.delete(&config_map)?;
    client.wait_for("kube-apiserver writes its ConfigMap anew", PATIENCE, |client| {
        client.get(&config_map)?;
        Ok(())
    })
}

/// Waits until every condition is True and as expected.
pub fn settled(client: &Client) -> Result<()> {
    wait::every(Duration::from_millis(500), PATIENCE, "all conditions are as expected", || {
        let object = client.get(&["mp", pipeline::NAME])?;
        let conditions = pipeline::conditions(&object);
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let other =
            conditions.iter().find(|[_, status, reason, _]| status != "True" || reason != "AsExpected");
        match other {
            _ if conditions.is_empty() || !current => Err("no conditions yet".into()),
            Some(other) => Err(other.join(" ").into()),
            None => Ok(()),
        }
    })
}

fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let found = pipeline::conditions(object).into_iter().find(|[name, ..]| name == kind);
    found.map_or_else(Default::default, |[_, status, reason, message]| (status, reason, message))
}

/// Waits for a change that takes effect by itself.
fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// Returns the error of a fault that could not be injected.
fn impossible(why: impl Into<String>) -> Error {
    Error::Invalid(why.into())
}
