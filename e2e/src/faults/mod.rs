//! One list of faults: how each is brought about, what the conditions and `doctor` must say within 30 s, how it is
//! healed.
//!
//! The scenarios and `cargo run -p e2e --bin faults` run the same list. Those of a group share one cluster, one
//! after the other.

mod front_proxy;
mod kubelets;
mod path;
mod table;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::{Cluster, FlagChange};
use crate::error::{Error, Result};
use crate::images::ProjectImages;
use crate::pipeline;
use crate::plugin::Plugin;
use crate::progress::Progress;
use crate::{binaries, wait};

pub use front_proxy::FRONT_PROXY;
pub use kubelets::KUBELETS;
pub use path::PATH;
pub use table::Table;

/// How long a fault may take to be named, and to be cleared after it is healed.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How long a fault is waited for, so that the table tells by how much it was too late.
const PATIENCE: Duration = Duration::from_secs(120);

/// A fault that is brought about on a cluster with a pipeline that is Ready.
pub struct Fault {
    /// In a few words.
    pub name: &'static str,
    /// Whether it is brought about in every run of the tests, not only in long ones.
    pub short: bool,
    /// Of which MetricsPipeline the condition is.
    pub pipeline: &'static str,
    /// The condition that must name it.
    pub condition: &'static str,
    /// Its status.
    pub status: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// What is to blame, as its message must name it.
    pub object: &'static str,
    /// What else its message must hold: the evidence, the remedy.
    pub says: &'static [&'static str],
    /// Whether `Ready` must not hold meanwhile.
    pub flips_ready: bool,
    /// Brings it about.
    pub inject: fn(&Bench<'_>) -> Result<()>,
    /// Takes it away.
    pub heal: fn(&Bench<'_>) -> Result<()>,
}

/// Where faults are brought about.
pub struct Bench<'a> {
    /// The administrator's client.
    pub client: Client,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The kubectl plugin.
    pub plugin: Plugin,
    /// What to say meanwhile.
    pub progress: Progress,
}

/// How a fault went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From when it was there until a condition named it.
    pub named: Duration,
    /// The same of `doctor`.
    pub by_doctor: Duration,
    /// From when it was gone until all was as expected again, for the conditions and for `doctor`.
    pub cleared: Duration,
    /// The condition's message.
    pub message: String,
}

/// What the cluster's kube-apiserver is started with: it reaches the pods by the Service's address, so that what
/// keeps it away does not keep the kubelet's probes away.
#[must_use]
pub fn flags() -> Vec<FlagChange> {
    vec![FlagChange::set("enable-aggregator-routing", "false")]
}

/// Installs the pipeline of these images and waits until it is Ready.
pub fn prepare(client: &Client, cluster: &Cluster, built: &ProjectImages, progress: &Progress) -> Result<()> {
    let helm = binaries::helm(progress)?;
    pipeline::load(cluster, built)?;
    pipeline::install(client, &helm, built)?;
    client.apply(&pipeline::manifest(pipeline::NAME, &json!({})))?;
    settled(client)
}

impl Fault {
    /// Brings it about, waits until it is named by the conditions and by `doctor`, heals it, waits until both say that
    /// all is as expected again.
    ///
    /// # Errors
    /// What they said instead.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Outcome> {
        let injected = (self.inject)(bench);
        let began = Instant::now();
        let named = injected
            .and_then(|()| side_by_side(|| self.named(bench, began), || self.named_by_doctor(bench, began)));
        // Whatever happened, the next one begins with a whole cluster.
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

    /// The condition's message, and how long it took.
    fn named(&self, bench: &Bench<'_>, began: Instant) -> Result<(String, Duration)> {
        let what = format!("{}: {} is {} {}", self.name, self.condition, self.status, self.reason);
        wait::every(Duration::from_millis(500), PATIENCE, &what, || {
            let object = bench.client.get(&["mpl", self.pipeline])?;
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

    /// How long it took until `doctor` told the same. A fault makes it end with 1, a warning does not.
    fn named_by_doctor(&self, bench: &Bench<'_>, began: Instant) -> Result<Duration> {
        let expected = i32::from(self.status == "False");
        // A MetricsPipeline that is not served is a line of its own.
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

    /// What a message should say and does not.
    fn missing(&self, message: &str) -> Vec<&'static str> {
        let all = self.says.iter().chain([&self.object]);
        all.copied().filter(|part| !message.contains(part)).collect()
    }
}

/// How long it took until every condition was as expected.
fn cleared(bench: &Bench<'_>, began: Instant) -> Result<Duration> {
    settled(&bench.client).map(|()| began.elapsed())
}

/// How long it took until `doctor` found nothing.
fn green(bench: &Bench<'_>, began: Instant) -> Result<Duration> {
    wait::every(Duration::from_secs(1), PATIENCE, "doctor finds nothing", || {
        let (code, tree) = bench.plugin.doctor(&bench.client)?;
        if code == 0 && tree["severity"] == "good" {
            Ok(began.elapsed())
        } else {
            Err(format!("exit code {code}, {tree}").into())
        }
    })
}

/// Both, and the first's error before the second's.
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
    /// Starts kube-apiserver with these flags besides, and has it write its ConfigMap anew.
    fn front_proxy(&self, changes: &[FlagChange]) -> Result<()> {
        let changes = [&flags()[..], changes].concat();
        self.cluster.restart_apiserver_with(&changes, &self.progress.clone().quiet())?;
        renew(&self.client)
    }
}

/// Deletes the ConfigMap, which kube-apiserver only adds to, and waits until it is there again.
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
        let object = client.get(&["mpl", pipeline::NAME])?;
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

/// Waits a moment, where something takes effect by itself.
fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// The error of a fault that could not be brought about.
fn impossible(why: impl Into<String>) -> Error {
    Error::Invalid(why.into())
}
