//! The runner of the scenarios in `tests/scenarios`.
//!
//! A [`Suite`] holds groups of scenarios. The scenarios of a [`Group`] share one cluster ([`group`]), run in parallel
//! where they can ([`order`]), and get a namespace of their own ([`TestEnv`]). A scenario that disturbs its cluster has
//! it alone meanwhile. A failure leaves a dump ([`dump`]). With `E2E_KUBECONFIG` set, scenarios that need only an API run
//! on that cluster; the others are ignored, with the reason.

mod dump;
mod env;
mod group;
mod order;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::{Cluster, FlagChange};
use crate::testbed::kubectl::Client;
use crate::testbed::{binaries, requirements};

pub use env::TestEnv;
pub use group::Group;

/// The number of scenarios that run in parallel; they mostly wait.
const THREADS: usize = 6;

/// The length at which the summary of a failure is cut, in characters.
const SUMMARY: usize = 600;

/// Fails the scenario unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::suite::failed(format!($($message)+)));
        }
    };
}

/// Returns the error of a scenario whose check failed.
#[must_use]
pub fn failed(message: String) -> Error {
    Error::Invalid(message)
}

/// What a scenario needs of its cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Needs {
    /// An API and a node. It shares the cluster with other scenarios and leaves no change in it.
    Cluster,
    /// A cluster that this crate started (it uses the kubelet, logs or certificates). It shares the cluster.
    OurCluster,
    /// As `OurCluster`, without other scenarios at the same time: it kills components or changes flags, and repairs them
    /// afterwards.
    Alone,
}

type Body = fn(&TestEnv) -> Result<()>;

/// All scenarios, and how to run them.
pub struct Suite {
    arguments: Arguments,
    long: bool,
    external: Option<Client>,
    groups: Vec<Arc<Group>>,
    /// The scenarios, each with the name of its group.
    trials: Vec<(&'static str, Trial)>,
    /// A summary of each failure, in one line.
    failures: Arc<Mutex<Vec<String>>>,
    progress: Progress,
}

impl Suite {
    /// Reads the command line (libtest's, and `--long`), `E2E_LONG` and `E2E_KUBECONFIG`.
    ///
    /// # Errors
    /// If this machine lacks a requirement.
    pub fn from_env() -> Result<Self> {
        let (long, rest): (Vec<_>, Vec<_>) = std::env::args().partition(|argument| argument == "--long");
        let mut arguments = Arguments::from_iter(rest);
        arguments.test_threads = arguments.test_threads.or(Some(THREADS));
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
            requirements::check(&progress)?;
            Cluster::reap(&progress)?;
        }
        let (groups, trials, failures) = (Vec::new(), Vec::new(), Arc::default());
        Ok(Self { arguments, long, external, groups, trials, failures, progress })
    }

    /// Adds a group of scenarios that share a cluster.
    pub fn group(&mut self, name: &'static str) -> Arc<Group> {
        self.group_with(name, Vec::new(), None)
    }

    /// Adds a group whose cluster has other flags of kube-apiserver, or is prepared once after its start.
    pub fn group_with(
        &mut self,
        name: &'static str,
        flags: Vec<FlagChange>,
        prepare: Option<fn(&TestEnv) -> Result<()>>,
    ) -> Arc<Group> {
        let group = Arc::new(Group::new(name, flags, prepare));
        self.groups.push(Arc::clone(&group));
        group
    }

    /// Adds a scenario to a group.
    pub fn add(&mut self, group: &Arc<Group>, name: &'static str, needs: Needs, body: Body) {
        let group = Arc::clone(group);
        let (external, long, progress) = (self.external.clone(), self.long, self.progress.clone());
        let title = format!("{}::{name}", group.name());
        if selected(&self.arguments, &title) {
            group.remaining.fetch_add(1, Ordering::Relaxed);
        }
        let of = group.name();
        let failures = Arc::clone(&self.failures);
        let trial = Trial::ignorable_test(title, move || {
            let outcome = match external {
                Some(_) if needs != Needs::Cluster => {
                    return Ok(Completion::ignored_with(
                        "needs a cluster that this test starts; E2E_KUBECONFIG names another one",
                    ));
                }
                Some(client) => TestEnv::new(client, None, name, long, progress).run(body),
                None => {
                    let outcome = group.run(name, needs, body, long, &progress);
                    // A cluster that is no longer needed takes CPU from the others.
                    if group.remaining.fetch_sub(1, Ordering::Relaxed) == 1 {
                        group.down(&progress);
                    }
                    outcome
                }
            };
            if let Err(failed) = &outcome {
                failures.lock().push(format!("{of}::{name}: {}", summary(failed)));
            }
            outcome.map(|()| Completion::Completed)
        });
        self.trials.push((of, trial));
    }

    /// Runs all scenarios and takes the clusters down.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let conclusion = libtest_mimic::run(&self.arguments, order::in_lanes(self.trials));
        for group in &self.groups {
            group.down(&self.progress);
        }
        // Readers look at the end of the output first.
        for failure in self.failures.lock().iter() {
            self.progress.say(failure);
        }
        conclusion.exit_code()
    }
}

/// Returns the cause of a failure, which its report has last, in one line.
fn summary(failed: &Failed) -> String {
    let report = failed.message().unwrap_or("panicked");
    let cause = report.rsplit_once(dump::CAUSE).map_or(report, |(_, cause)| cause);
    cause.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SUMMARY).collect()
}

/// Returns whether the command line selects a scenario, by libtest's rules.
fn selected(arguments: &Arguments, title: &str) -> bool {
    let matches = |filter: &String| if arguments.exact { title == filter } else { title.contains(filter) };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}
