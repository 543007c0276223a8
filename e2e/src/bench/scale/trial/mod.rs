//! Trials of metrics-core on the fleet that pass or fail: a healthy cluster for hours, and kubelets whose responses are
//! wrong. The report must name each cause and no other one, and every row must be true.

mod causes;
mod churn;
mod injection;
mod rows;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::causes::{CauseLog, NamedCause, named};
use self::churn::Churn;
pub use self::injection::Injection;
use self::rows::RowCheck;
use super::candidate::Running;
use super::env::BenchEnv;
use super::measure::{JSON, Method, NODES, PODS, await_items};
use super::population::Population;
use super::seed::Etcd;
use super::{Plan, as_f64};
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::KubeletKind;

/// The time between two reads of the report.
const REPORTS: Duration = Duration::from_secs(5);
/// The time after which a pod must have metrics, whatever the scrape interval.
const MINUTE: Duration = Duration::from_secs(60);
/// The maximum number of problems of one kind in the outcome.
const MAX_PROBLEMS: usize = 20;

/// A trial.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trial {
    /// A healthy cluster with restarts, scale-ups and node churn, for this many minutes.
    Healthy(u32),
    /// One injection after the other.
    Inject(Vec<Injection>),
}

/// The outcome of a trial.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct TrialOutcome {
    /// What happened, as a table in Markdown.
    pub table: String,
    /// What must not happen; empty if the trial passed.
    pub problems: Vec<String>,
}

/// Runs a trial inside the network, with the first server of the plan.
pub async fn run(plan: &Plan, trial: &Trial, progress: &Progress) -> Result<TrialOutcome> {
    let method = &plan.method;
    let population = method.population();
    let candidate = plan.candidates.first().ok_or_else(|| Error::Invalid("no server".into()))?;
    let env = BenchEnv::start(&plan.name, population, method.kubelet, &plan.binaries, progress).await?;
    let began = Instant::now();
    let mut server = candidate.start(&env, Duration::from_secs(method.scrape_interval_s))?;
    progress.say(format!("{} started (pid {})", candidate.name, server.process.id()));
    let pods_s = await_items(&mut server, began, PODS, population.pods() as usize).await?;
    let nodes_s = await_items(&mut server, began, NODES, population.nodes as usize).await?;
    progress.say(format!("all pods after {pods_s:.1} s, all nodes after {nodes_s:.1} s"));
    let mut run = TrialRun { method: method.clone(), population, env, server, progress: progress.clone() };
    match trial {
        Trial::Healthy(minutes) => run.healthy(*minutes).await,
        Trial::Inject(injections) => run.injections(injections).await,
    }
}

/// What a trial works with.
struct TrialRun {
    method: Method,
    population: Population,
    env: BenchEnv,
    server: Running,
    progress: Progress,
}

impl TrialRun {
    fn interval(&self) -> Duration {
        Duration::from_secs(self.method.scrape_interval_s)
    }

    /// Returns the time after its start within which a container has a rate: the longest sample period, a scrape
    /// interval and 5 s for the response; at least a minute.
    fn first_rate(&self) -> Duration {
        let period = match self.method.kubelet {
            KubeletKind::Cached => Duration::from_secs(30),
            KubeletKind::OnDemand => self.interval(),
        };
        (period + self.interval() + Duration::from_secs(5)).max(MINUTE)
    }

    async fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.server.process.check()?;
        Ok(self.server.connect().await?.get(path, JSON).await?.ok()?.body)
    }

    /// Returns the causes that the report names.
    async fn causes(&mut self) -> Result<Vec<NamedCause>> {
        let body = self.get("/report").await?;
        let report: Value = serde_json::from_slice(&body).doing(|| "decode the report".into())?;
        Ok(named(&report))
    }

    /// Lists all pods and nodes, and compares them with the model.
    async fn rows(&mut self) -> Result<(RowCheck, usize)> {
        let mut check = RowCheck::default();
        check.pods(&self.get(PODS).await?)?;
        let nodes = check.nodes(&self.get(NODES).await?, self.population)?;
        Ok((check, nodes))
    }

    async fn healthy(&mut self, minutes: u32) -> Result<TrialOutcome> {
        let mut etcd = Etcd::connect().await?;
        let began = Instant::now();
        let mut churn = Churn::new(self.population, began);
        let (mut causes, mut found) = (CauseLog::default(), Problems::default());
        let (mut lists, mut rows, mut missing) = (0u32, 0, 0);
        let (mut next_report, mut next_list, mut minute) = (began, began, 0);
        let end = Duration::from_secs(60) * minutes;
        while began.elapsed() < end {
            churn.tick(self.env.fleet(), &mut etcd).await?;
            if next_report <= Instant::now() {
                next_report += REPORTS;
                causes.add(began.elapsed(), &self.causes().await?);
            }
            if next_list <= Instant::now() {
                next_list += self.interval();
                let requested = Instant::now();
                let (check, nodes) = self.rows().await?;
                lists += 1;
                rows += check.rows;
                let at = began.elapsed().as_secs();
                found.add("wrong rows", check.wrong.iter().map(|wrong| format!("after {at} s: {wrong}")));
                let absent = churn.running_for(self.first_rate(), requested);
                let absent: Vec<_> = absent.filter(|pod| !check.pods.contains(pod)).collect();
                missing += absent.len();
                let lines = absent
                    .iter()
                    .map(|pod| format!("after {at} s: {} on node {:?}", pod.name(), churn.node_of(*pod)));
                found.add("pods without metrics although they run long enough", lines);
                if nodes > churn.nodes() {
                    found.add("surplus nodes", [format!("after {at} s: {nodes} of {}", churn.nodes())]);
                }
            }
            if began.elapsed().as_secs() / 60 > minute {
                minute = began.elapsed().as_secs() / 60;
                let causes = causes.lines().len();
                self.progress.say(format!(
                    "minute {minute} of {minutes}: {:?}; {rows} rows, {} wrong, {missing} missing, {causes} causes",
                    churn.counts,
                    found.count("wrong rows")
                ));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        found.add("causes", causes.lines());
        let counts = churn.counts;
        let mut table = self.head();
        for (what, count) in [
            ("minutes", u64::from(minutes)),
            ("containers restarted", counts.restarts.into()),
            ("pods added", counts.pods_added.into()),
            ("pods removed", counts.pods_removed.into()),
            ("nodes added", counts.nodes_added.into()),
            ("nodes removed", counts.nodes_removed.into()),
            ("lists", lists.into()),
            ("rows compared", rows),
            ("wrong rows", found.count("wrong rows")),
            ("pods missing that run long enough", missing as u64),
            ("causes in reports", found.count("causes")),
        ] {
            let _ = writeln!(table, "| {what} | {count} |");
        }
        Ok(TrialOutcome { table, problems: found.lines() })
    }

    fn head(&self) -> String {
        format!(
            "| {} nodes, {} pods, {} kubelets, scraped every {} s | |\n|---|---:|\n",
            self.population.nodes,
            self.population.pods(),
            self.method.kubelet,
            self.method.scrape_interval_s
        )
    }
}

/// Problems by kind; each kind keeps the first ones.
#[derive(Debug, Default)]
struct Problems(Vec<(&'static str, u64, Vec<String>)>);

impl Problems {
    fn add(&mut self, kind: &'static str, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            match self.0.iter_mut().find(|(known, ..)| *known == kind) {
                Some((_, count, kept)) => {
                    *count += 1;
                    if kept.len() < MAX_PROBLEMS {
                        kept.push(line);
                    }
                }
                None => self.0.push((kind, 1, vec![line])),
            }
        }
    }

    fn count(&self, kind: &str) -> u64 {
        self.0.iter().find(|(known, ..)| *known == kind).map_or(0, |(_, count, _)| *count)
    }

    fn lines(&self) -> Vec<String> {
        let line = |(kind, count, lines): &(&str, u64, Vec<String>)| {
            format!("{count} {kind}:\n  {}", lines.join("\n  "))
        };
        self.0.iter().map(line).collect()
    }
}

/// Returns seconds for a table.
fn seconds(time: Duration) -> String {
    format!("{:.0} s", as_f64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_problems_and_counts_all() {
        let mut problems = Problems::default();
        problems.add("things", (0..30).map(|number| number.to_string()));
        assert_eq!((problems.count("things"), problems.count("none")), (30, 0));
        let lines = problems.lines();
        assert!(
            lines.len() == 1 && lines[0].starts_with("30 things:\n  0\n") && lines[0].ends_with("\n  19")
        );
    }
}
