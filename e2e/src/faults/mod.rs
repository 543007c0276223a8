//! One list of faults: how each is brought about, what the conditions must say within 30 s, how it is healed.
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
use crate::images;
use crate::pipeline;
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
    /// What its message must hold: the object, the evidence, the remedy.
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
    /// What to say meanwhile.
    pub progress: Progress,
}

/// How a fault went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From when it was there until it was named.
    pub named: Duration,
    /// From when it was gone until all was as expected again.
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

/// Installs the pipeline and waits until it is Ready.
pub fn prepare(client: &Client, cluster: &Cluster, progress: &Progress) -> Result<()> {
    let built = images::project(progress)?;
    let helm = binaries::helm(progress)?;
    pipeline::load(cluster, &built)?;
    pipeline::install(client, &helm, &built)?;
    client.apply(&pipeline::manifest(pipeline::NAME, &json!({})))?;
    settled(client, PATIENCE)
}

impl Fault {
    /// Brings it about, waits until it is named, heals it, waits until all is as expected again.
    ///
    /// # Errors
    /// What the conditions said instead.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Outcome> {
        let injected = (self.inject)(bench);
        let began = Instant::now();
        let message = injected.and_then(|()| self.named(&bench.client));
        let named = began.elapsed();
        // Whatever happened, the next one begins with a whole cluster.
        let healed = (self.heal)(bench);
        let (message, ()) = (message?, healed?);
        let began = Instant::now();
        settled(&bench.client, PATIENCE)?;
        let cleared = began.elapsed();
        bench.progress.say(format!(
            "{}: named after {:.0} s, cleared after {:.0} s",
            self.name,
            named.as_secs_f64(),
            cleared.as_secs_f64()
        ));
        Ok(Outcome { named, cleared, message })
    }

    fn named(&self, client: &Client) -> Result<String> {
        let what = format!("{}: {} is {} {}", self.name, self.condition, self.status, self.reason);
        wait::every(Duration::from_millis(500), PATIENCE, &what, || {
            let object = client.get(&["mp", self.pipeline])?;
            let (status, reason, message) = condition(&object, self.condition);
            let missing: Vec<_> = self.says.iter().filter(|part| !message.contains(*part)).collect();
            let (ready, ..) = condition(&object, "Ready");
            let expected = if self.flips_ready { "False" } else { "True" };
            if status == self.status && reason == self.reason && missing.is_empty() && ready == expected {
                Ok(message)
            } else {
                Err(format!("Ready={ready}, {status} {reason}: {message} (missing: {missing:?})").into())
            }
        })
    }
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
fn settled(client: &Client, patience: Duration) -> Result<()> {
    wait::every(Duration::from_millis(500), patience, "all conditions are as expected", || {
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

/// Waits a moment, where something takes effect by itself.
fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// The error of a fault that could not be brought about.
fn impossible(why: impl Into<String>) -> Error {
    Error::Invalid(why.into())
}
