//! The list of faults: how each is injected, what the conditions and `doctor` must report, within which time, and how it
//! is repaired.
//!
//! The scenarios and `cargo faults` use the same list. The faults of a group run one after the other
//! on the same cluster.

mod front_proxy;
mod kubelets;
mod path;
mod sample_kubelet;
mod samples;
mod table;

use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::cluster::{Cluster, FlagChange};
use crate::testbed::images::ProjectImages;
use crate::testbed::kubectl::Client;
use crate::testbed::pipeline;
use crate::testbed::plugin::Plugin;
use crate::wait;

pub use front_proxy::FRONT_PROXY;
pub use kubelets::KUBELETS;
pub use path::PATH;
pub use samples::SAMPLES;
pub use table::Table;

/// The usual limit for reporting a fault, and for clearing the report after the repair.
pub const LIMIT: Duration = Duration::from_secs(30);
/// The timeout of waits that have no limit of their own.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How much longer than a limit a wait lasts; the table shows by how much a fault exceeded it.
const GRACE: Duration = Duration::from_secs(90);

/// A change of the cluster: the injection of a fault, or its repair.
pub type Action = fn(&FaultEnv<'_>) -> Result<()>;

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
    pub contains: &'static [&'static str],
    /// Whether `Ready` must be False meanwhile.
    pub flips_ready: bool,
    /// The limit for reporting it, by a condition and by `doctor`.
    pub limit: Duration,
    /// The limit for clearing the report after the repair.
    pub cleared_limit: Duration,
    /// Injects the fault.
    pub inject: Action,
    /// Repairs it.
    pub repair: Action,
    /// Removes what the repair leaves behind.
    pub clean_up: Action,
}

/// The environment in which faults are injected.
pub struct FaultEnv<'a> {
    /// A client with the permissions of an administrator.
    pub client: Client,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The kubectl plugin.
    pub plugin: Plugin,
    /// Prints progress.
    pub progress: Progress,
    /// The fake kubelet, while there is one.
    kubelet: Mutex<Option<sample_kubelet::SampleKubelet>>,
}

/// The times of a fault.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From the injection until a condition reported it.
    pub reported: Duration,
    /// From the injection until `doctor` reported it.
    pub reported_by_doctor: Duration,
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
    /// Returns a fault of the usual pipeline that makes `condition` and `Ready` False and that every test run injects.
    const fn new(
        condition: &'static str,
        name: &'static str,
        reason: &'static str,
        object: &'static str,
        contains: &'static [&'static str],
        (inject, repair): (Action, Action),
    ) -> Self {
        Self {
            name,
            short: true,
            pipeline: pipeline::NAME,
            condition,
            status: "False",
            reason,
            object,
            contains,
            flips_ready: true,
            limit: LIMIT,
            cleared_limit: LIMIT,
            inject,
            repair,
            clean_up: |_| Ok(()),
        }
    }

    /// Injects the fault, waits until a condition and `doctor` report it, repairs it, and waits until neither reports
    /// a problem.
    ///
    /// # Errors
    /// If they report something else; the error has what they reported.
    pub fn run(&self, env: &FaultEnv<'_>) -> Result<Outcome> {
        let injected = (self.inject)(env);
        let began = Instant::now();
        let reported = injected
            .and_then(|()| in_parallel(|| self.reported(env, began), || self.reported_by_doctor(env, began)));
        // The next fault starts with a repaired cluster, whatever happened.
        let repaired = (self.repair)(env);
        let began = Instant::now();
        let cleared = match (&reported, &repaired) {
            (Ok(_), Ok(())) => in_parallel(|| cleared(env, began), || doctor_settled(env, began)).map(Some),
            _ => Ok(None),
        };
        let cleaned_up = (self.clean_up)(env);
        let (((message, reported), reported_by_doctor), (), ()) = (reported?, repaired?, cleaned_up?);
        let (conditions, doctor) = cleared?.unwrap_or_default();
        let cleared = conditions.max(doctor);
        env.progress.say(format!(
            "{}: reported after {:.0} s, by doctor after {:.0} s, cleared after {:.0} s",
            self.name,
            reported.as_secs_f64(),
            reported_by_doctor.as_secs_f64(),
            cleared.as_secs_f64()
        ));
        Ok(Outcome { reported, reported_by_doctor, cleared, message })
    }

    /// Waits until a condition reports the fault; returns its message and the time.
    fn reported(&self, env: &FaultEnv<'_>, began: Instant) -> Result<(String, Duration)> {
        let what = format!("{}: {} is {} {}", self.name, self.condition, self.status, self.reason);
        wait::every(Duration::from_millis(500), self.limit + GRACE, &what, || {
            let object = env.client.get(&["mpl", self.pipeline])?;
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
    fn reported_by_doctor(&self, env: &FaultEnv<'_>, began: Instant) -> Result<Duration> {
        let expected = i32::from(self.status == "False");
        // A MetricsPipeline that is not served has a line of its own.
        let (title, start) = if self.pipeline == pipeline::NAME {
            (self.condition.to_owned(), format!("{}: ", self.reason))
        } else {
            (format!("MetricsPipeline {}", self.pipeline), String::new())
        };
        let what = format!("{}: doctor exits with {expected} and reports {title}", self.name);
        wait::every(Duration::from_secs(1), self.limit + GRACE, &what, || {
            let (code, tree) = env.plugin.doctor(&env.client)?;
            let checks = tree["children"].as_array().cloned().unwrap_or_default();
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
        let all = self.contains.iter().chain([&self.object]);
        all.copied().filter(|part| !message.contains(part)).collect()
    }
}

/// Waits until every condition is as expected and returns the time.
fn cleared(env: &FaultEnv<'_>, began: Instant) -> Result<Duration> {
    settled(&env.client).map(|()| began.elapsed())
}

/// Waits until `doctor` reports no problem and returns the time.
fn doctor_settled(env: &FaultEnv<'_>, began: Instant) -> Result<Duration> {
    wait::every(Duration::from_secs(1), TIMEOUT, "doctor reports no problem", || {
        let (code, tree) = env.plugin.doctor(&env.client)?;
        if code == 0 && tree["severity"] == "ok" {
            Ok(began.elapsed())
        } else {
            Err(format!("exit code {code}, {tree}").into())
        }
    })
}

/// Returns both results, or the first one's error before the second one's.
fn in_parallel<A, B: Send>(
    first: impl FnOnce() -> Result<A>,
    second: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        let second = second.join().unwrap_or_else(|_| Err(cannot_inject("a thread panicked")));
        Ok((first?, second?))
    })
}

impl<'a> FaultEnv<'a> {
    /// Builds the plugin and returns the environment of a cluster.
    pub fn new(cluster: &'a Cluster, progress: &Progress) -> Result<Self> {
        let plugin = Plugin::build(progress)?;
        Ok(Self {
            client: cluster.client(),
            cluster,
            plugin,
            progress: progress.clone(),
            kubelet: Mutex::default(),
        })
    }

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
    client.wait_for("kube-apiserver recreates its ConfigMap", TIMEOUT, |client| {
        client.get(&config_map)?;
        Ok(())
    })
}

/// Waits until every condition has its normal status and is as expected.
pub fn settled(client: &Client) -> Result<()> {
    wait::every(Duration::from_millis(500), TIMEOUT, "all conditions are as expected", || {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let conditions = pipeline::conditions(&object);
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let is_normal = |kind: &str, status: &str| match kind {
            "Reconciling" | "Stalled" => status == "False",
            _ => status == "True",
        };
        let other = conditions
            .iter()
            .find(|[kind, status, reason, _]| !is_normal(kind, status) || reason != "AsExpected");
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

/// Returns the error of a fault that could not be injected.
fn cannot_inject(why: impl Into<String>) -> Error {
    Error::Invalid(why.into())
}
