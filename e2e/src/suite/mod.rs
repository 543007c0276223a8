//! Scenarios: what runs on which cluster, side by side where it can, with a dump when it fails.
//!
//! A [`Suite`] holds groups of scenarios. Each [`Group`] shares one cluster, brought up when the first of its
//! scenarios runs and taken down at the end. Scenarios that disturb a cluster have it for themselves meanwhile.
//! With `E2E_KUBECONFIG` set, those that need no more than an API run on that cluster; the others are ignored,
//! with the reason.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use parking_lot::{Mutex, RwLock};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::client::Client;
use crate::testbed::cluster::{COMPONENTS, Cluster, ClusterSpec, FlagChange, tail};
use crate::testbed::images;

/// How many scenarios run side by side: they mostly wait.
const SIDE_BY_SIDE: usize = 6;

/// How many groups have their turn at the same time. One whose scenarios need the cluster alone keeps one thread busy.
const LANES: usize = 5;

/// What stands before the cause in the report of a failure.
const CAUSE: &str = "\n--- ";

/// So much of the cause is told again at the end, in characters.
const IN_A_LINE: usize = 600;

/// Fails the scenario unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::suite::failed(format!($($message)+)));
        }
    };
}

/// The error of a scenario whose check failed.
#[must_use]
pub fn failed(message: String) -> Error {
    Error::Invalid(message)
}

/// What a scenario needs of its cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Needs {
    /// An API and a node; shares the cluster with others and leaves it as it was.
    Cluster,
    /// A cluster that we started (kubelet, logs, certificates at hand); shares it with others.
    OurCluster,
    /// The same, and nobody else on it meanwhile: it kills components or changes flags, and repairs that after.
    Alone,
}

/// A cluster that scenarios share.
pub struct Group {
    name: &'static str,
    flags: Vec<FlagChange>,
    prepare: Option<fn(&Stand) -> Result<()>>,
    state: Mutex<State>,
    in_use: RwLock<()>,
    /// How many of its scenarios are still to run; with the last one its cluster goes.
    left: AtomicUsize,
}

enum State {
    Fresh,
    Up(Arc<Cluster>),
    Broken(String),
}

/// Where a scenario stands: its cluster and what it is called.
pub struct Stand {
    /// The administrator's client.
    pub client: Client,
    /// The cluster, if it is ours.
    pub cluster: Option<Arc<Cluster>>,
    /// A namespace for this scenario alone; made on first use of [`Stand::namespace`].
    namespace: String,
    /// Whether long runs were asked for.
    pub long: bool,
    /// What to say meanwhile.
    pub progress: Progress,
}

type Body = fn(&Stand) -> Result<()>;

/// All scenarios and how they are to run.
pub struct Suite {
    arguments: Arguments,
    long: bool,
    external: Option<Client>,
    groups: Vec<Arc<Group>>,
    /// Each with the name of its group.
    trials: Vec<(&'static str, Trial)>,
    /// What failed and why, in a line each.
    failures: Arc<Mutex<Vec<String>>>,
    progress: Progress,
}

impl Suite {
    /// Reads the command line (that of libtest, and `--long`; or `E2E_LONG=1`) and `E2E_KUBECONFIG`.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn from_env() -> Result<Self> {
        let (long, rest): (Vec<_>, Vec<_>) = std::env::args().partition(|argument| argument == "--long");
        let mut arguments = Arguments::from_iter(rest);
        arguments.test_threads = arguments.test_threads.or(Some(SIDE_BY_SIDE));
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let long = !long.is_empty() || set("E2E_LONG").is_some();
        let progress = Progress::default();
        let external = set("E2E_KUBECONFIG").map(PathBuf::from);
        let listing = arguments.list;
        let external = match external {
            Some(kubeconfig) if !listing => {
                let kubectl = binaries::kubernetes(&progress)?.join("kubectl");
                Some(Client::new(kubectl, kubeconfig, None))
            }
            _ => None,
        };
        if external.is_none() && !listing {
            crate::testbed::requirements::check(&progress)?;
            Cluster::reap(&progress)?;
        }
        let (groups, trials, failures) = (Vec::new(), Vec::new(), Arc::default());
        Ok(Self { arguments, long, external, groups, trials, failures, progress })
    }

    /// A group that shares a cluster.
    pub fn group(&mut self, name: &'static str) -> Arc<Group> {
        self.group_with(name, Vec::new(), None)
    }

    /// A group whose cluster has other flags for kube-apiserver, or is prepared once after it is up.
    pub fn group_with(
        &mut self,
        name: &'static str,
        flags: Vec<FlagChange>,
        prepare: Option<fn(&Stand) -> Result<()>>,
    ) -> Arc<Group> {
        let (state, in_use) = (Mutex::new(State::Fresh), RwLock::new(()));
        let group = Arc::new(Group { name, flags, prepare, state, in_use, left: AtomicUsize::new(0) });
        self.groups.push(Arc::clone(&group));
        group
    }

    /// Adds a scenario to a group.
    pub fn add(&mut self, group: &Arc<Group>, name: &'static str, needs: Needs, body: Body) {
        let group = Arc::clone(group);
        let (external, long, progress) = (self.external.clone(), self.long, self.progress.clone());
        let title = format!("{}::{name}", group.name);
        if selected(&self.arguments, &title) {
            group.left.fetch_add(1, Ordering::Relaxed);
        }
        let of = group.name;
        let failures = Arc::clone(&self.failures);
        let trial = Trial::ignorable_test(title, move || {
            let outcome = match external {
                Some(_) if needs != Needs::Cluster => {
                    return Ok(Completion::ignored_with(
                        "needs a cluster of our own; E2E_KUBECONFIG names another",
                    ));
                }
                Some(client) => Stand::new(client, None, name, long, progress).run(body),
                None => {
                    let outcome = group.run(name, needs, body, long, &progress);
                    // A cluster that nobody needs any more costs the others time.
                    if group.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                        group.down(&progress);
                    }
                    outcome
                }
            };
            if let Err(failed) = &outcome {
                failures.lock().push(format!("{of}::{name}: {}", in_a_line(failed)));
            }
            outcome.map(|()| Completion::Completed)
        });
        self.trials.push((of, trial));
    }

    /// Runs them all, and takes the clusters down.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let conclusion = libtest_mimic::run(&self.arguments, in_lanes(self.trials));
        for group in &self.groups {
            group.down(&self.progress);
        }
        // Again at the end, where people look first.
        for failure in self.failures.lock().iter() {
            self.progress.say(failure);
        }
        conclusion.exit_code()
    }
}

/// The cause of a failure, which comes last in its report, cut to a line.
fn in_a_line(failed: &Failed) -> String {
    let report = failed.message().unwrap_or("panicked");
    let cause = report.rsplit_once(CAUSE).map_or(report, |(_, cause)| cause);
    cause.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(IN_A_LINE).collect()
}

/// The order in which the trials begin. Threads take them one after the other, and one that waits until a cluster is free
/// is lost to all others; so those that begin about the same time are of different groups, the longest groups first.
fn in_lanes<T>(trials: Vec<(&'static str, T)>) -> Vec<T> {
    let mut groups: Vec<(&str, Vec<T>)> = Vec::new();
    for (name, trial) in trials {
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, of_group)) => of_group.push(trial),
            None => groups.push((name, vec![trial])),
        }
    }
    groups.sort_by_key(|(_, of_group)| std::cmp::Reverse(of_group.len()));
    let mut lanes: [Vec<T>; LANES] = std::array::from_fn(|_| Vec::new());
    for (_, of_group) in groups {
        if let Some(shortest) = lanes.iter_mut().min_by_key(|lane| lane.len()) {
            shortest.extend(of_group);
        }
    }
    let mut lanes = lanes.map(Vec::into_iter);
    let longest = lanes.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    (0..longest).flat_map(|_| lanes.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>()).collect()
}

/// Whether the command line asks for a scenario, by libtest's rules.
fn selected(arguments: &Arguments, title: &str) -> bool {
    let matches = |filter: &String| if arguments.exact { title == filter } else { title.contains(filter) };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}

impl Group {
    fn run(
        &self,
        name: &str,
        needs: Needs,
        body: Body,
        long: bool,
        progress: &Progress,
    ) -> Result<(), Failed> {
        // One scenario that needs the cluster alone waits for the others, and they for it.
        let (mut _shared, mut _alone) = (None, None);
        if needs == Needs::Alone {
            _alone = Some(self.in_use.write());
        } else {
            _shared = Some(self.in_use.read());
        }
        let cluster = self.cluster(long, progress)?;
        let stand = Stand::new(cluster.client(), Some(cluster), name, long, progress.clone());
        stand.run(body)
    }

    fn cluster(&self, long: bool, progress: &Progress) -> Result<Arc<Cluster>, Failed> {
        let mut state = self.state.lock();
        match &*state {
            State::Up(cluster) => return Ok(Arc::clone(cluster)),
            State::Broken(why) => return Err(format!("the group's cluster is not up: {why}").into()),
            State::Fresh => {}
        }
        let name = self.cluster_name();
        let progress = progress.prefixed(self.name);
        let spec = ClusterSpec::new(&name).apiserver_flags(self.flags.clone()).owned_by_this_process();
        let up = progress.step("cluster up", |_| {
            let cluster = Arc::new(Cluster::up(&spec, &progress.clone().quiet())?);
            cluster.load(&images::busybox()?)?;
            if let Some(prepare) = self.prepare {
                let client = cluster.client();
                let held = Some(Arc::clone(&cluster));
                Stand::new(client, held, "prepare", long, progress.clone()).run(prepare).map_err(
                    |failed| {
                        Error::Invalid(
                            failed.message().unwrap_or("the group's preparation failed").to_owned(),
                        )
                    },
                )?;
            }
            Ok(cluster)
        });
        match up {
            Ok(cluster) => {
                *state = State::Up(Arc::clone(&cluster));
                Ok(cluster)
            }
            Err(error) => {
                *state = State::Broken(error.to_string());
                Err(error.to_string().into())
            }
        }
    }

    /// Test runs side by side must not share a cluster.
    fn cluster_name(&self) -> String {
        format!("t{}-{}", std::process::id(), self.name)
    }

    fn down(&self, progress: &Progress) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Fresh);
        if !matches!(before, State::Fresh)
            && let Err(error) = Cluster::down(&self.cluster_name(), &progress.clone().quiet())
        {
            progress.say(format!("{error}"));
        }
    }
}

impl Stand {
    fn new(
        client: Client,
        cluster: Option<Arc<Cluster>>,
        name: &str,
        long: bool,
        progress: Progress,
    ) -> Self {
        let namespace = format!("e2e-{}", name.replace('_', "-"));
        Self { client, cluster, namespace, long, progress }
    }

    /// The cluster, for scenarios that need one of ours.
    pub fn ours(&self) -> Result<&Cluster> {
        self.cluster
            .as_deref()
            .ok_or_else(|| Error::Invalid("this scenario needs a cluster of our own".into()))
    }

    /// This scenario's namespace; made when it is not there.
    pub fn namespace(&self) -> Result<&str> {
        let manifest = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{{\"name\":\"{}\"}}}}",
            self.namespace
        );
        self.client.apply(&manifest)?;
        // Pods are refused until the namespace has its account.
        self.client.wait_for("the namespace's default account", Duration::from_secs(30), |client| {
            client.run(&["-n", &self.namespace, "get", "serviceaccount", "default"])?;
            Ok(())
        })?;
        Ok(&self.namespace)
    }

    fn run(&self, body: Body) -> Result<(), Failed> {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(self)));
        let message = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panicked".into())),
        };
        // The cause comes last: of a long report, the end is what people see.
        let dumped = message.map(|message| {
            self.progress.say(format!("{} failed: {message}", self.namespace));
            format!("{}{CAUSE}{message}", self.dump())
        });
        let _ = self.client.delete(&["namespace", &self.namespace, "--wait=false"]);
        dumped.map_or(Ok(()), |message| Err(message.into()))
    }

    /// Writes down what may explain a failure; where it is, and the most telling of it.
    fn dump(&self) -> String {
        let directory = failures().join(&self.namespace);
        let _ = fs::remove_dir_all(&directory);
        if let Err(error) = fs::create_dir_all(&directory) {
            return format!("(no dump: {error})");
        }
        let mut told = String::new();
        for (file, arguments, shown) in [
            ("pods.txt", &["get", "pods", "-A", "-o", "wide"] as &[&str], true),
            ("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"], true),
            ("apiservices.txt", &["get", "apiservices"], false),
            ("apiservices.yaml", &["get", "apiservices", "-o", "yaml"], false),
            ("pipelines.yaml", &["get", "metricspipelines", "-o", "yaml", "--ignore-not-found"], true),
            ("nodes.yaml", &["get", "nodes", "-o", "yaml"], false),
            (
                "workloads.yaml",
                &["get", "deployments,replicasets,pods,services,endpointslices", "-A", "-o", "yaml"],
                false,
            ),
        ] {
            let text = self.client.run(arguments).unwrap_or_else(|error| error.to_string());
            let _ = fs::write(directory.join(file), &text);
            if shown {
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(25)..].join("\n");
                let _ = writeln!(told, "--- kubectl {}\n{last}", arguments.join(" "));
            }
        }
        self.dump_pod_logs(&directory);
        if let Some(cluster) = &self.cluster {
            for component in COMPONENTS {
                let log = tail(&cluster.layout().log(component), 300);
                let _ = fs::write(directory.join(format!("{component}.log")), log);
            }
        }
        format!("{told}--- more in {}", directory.display())
    }

    fn dump_pod_logs(&self, directory: &Path) {
        let pods = self.client.get(&["pods", "-A"]).unwrap_or_default();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let (Some(namespace), Some(name)) =
                (pod["metadata"]["namespace"].as_str(), pod["metadata"]["name"].as_str())
            else {
                continue;
            };
            for previous in [false, true] {
                let option = format!("--previous={previous}");
                let log = ["-n", namespace, "logs", name, "--all-containers", "--tail=300", &option];
                if let Ok(log) = self.client.run(&log) {
                    let file = if previous { "previous.log" } else { "log" };
                    let _ = fs::write(directory.join(format!("{namespace}.{name}.{file}")), log);
                }
            }
        }
    }
}

/// Where dumps go: `target/e2e-failures`.
fn failures() -> PathBuf {
    images::target().join("e2e-failures")
}

#[cfg(test)]
mod tests {
    use super::in_lanes;

    #[test]
    fn neighbours_are_of_different_groups() {
        let names = ["a", "a", "a", "a", "b", "c", "c", "d", "d", "d", "e", "f"];
        let order = in_lanes(names.into_iter().map(|name| (name, name)).collect());
        assert_eq!(order.concat(), "adcbeadcfada");
    }
}
