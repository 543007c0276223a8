//! Kubelets whose responses are wrong: injected, named by the report, and repaired.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};

use super::super::fleet::{Anomaly, Change};
use super::super::population::{Pod, node_name, uid};
use super::super::seed::Etcd;
use super::{MINUTE, Problems, TrialOutcome, TrialRun, seconds};
use crate::error::Result;

/// The time between two reads of the report and of the rows.
const READS: Duration = Duration::from_secs(3);
/// The limit for a cause that one response shows.
const ONE_RESPONSE: Duration = Duration::from_secs(30);
/// The limit for a cause that shows by what does not change.
const STANDSTILL: Duration = Duration::from_secs(120);
/// The limit for the end of a cause after the repair.
const RESOLVED: Duration = Duration::from_secs(180);
/// The longest time between two samples of a container that uses CPU.
const SAMPLE: Duration = Duration::from_secs(20);

/// An anomaly on a number of nodes.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Injection {
    /// The anomaly.
    pub anomaly: Anomaly,
    /// Number of nodes.
    pub nodes: u32,
}

impl FromStr for Injection {
    type Err = String;

    /// `KIND:COUNT`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, count) = text.split_once(':').ok_or("write KIND:COUNT, for example frozen:3")?;
        let anomaly = Anomaly::from_str(kind, false).map_err(|_| {
            let names = Anomaly::value_variants().iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("{kind:?} is not one of {}", names.join(", "))
        })?;
        match count.parse() {
            Ok(nodes @ 1..) => Ok(Self { anomaly, nodes }),
            _ => Err(format!("{count:?} is not a number of nodes")),
        }
    }
}

/// What the report and the rows must have while an anomaly lasts.
#[derive(Clone, Copy, Debug, Default)]
struct Expectation {
    /// The cause that the report must name.
    cause: Option<&'static str>,
    /// Causes that it may name.
    may: &'static [&'static str],
    /// Whether the first pods of the nodes have rows at the end; `None` if both is right.
    served: Option<bool>,
    /// Whether the cause shows by what does not change.
    standstill: bool,
}

/// Returns what is right for an anomaly.
fn expectation(anomaly: Anomaly) -> Expectation {
    let cause = |cause| Expectation { cause: Some(cause), ..Expectation::default() };
    match anomaly {
        Anomaly::DuplicateSeries => cause("duplicate_series"),
        Anomaly::MovingStart => Expectation { served: Some(true), ..Expectation::default() },
        Anomaly::Frozen => {
            Expectation { served: Some(false), standstill: true, ..cause("timestamps_stalled") }
        }
        // It is counted; whether one container is a cause is for metrics-core to decide.
        Anomaly::FrozenContainer => {
            Expectation { served: Some(false), may: &["timestamps_stalled"], ..Expectation::default() }
        }
        Anomaly::Zero => Expectation { served: Some(false), ..cause("zero_usage") },
        Anomaly::ScrapeError => {
            Expectation { may: &["no_containers", "pods_missing"], ..cause("resource_scrape_error") }
        }
        Anomaly::NoContainers => Expectation { may: &["pods_missing"], ..cause("no_containers") },
        Anomaly::MissingPod => Expectation { served: Some(false), standstill: true, ..cause("pods_missing") },
        Anomaly::ClockSkew => cause("clock_skew"),
        Anomaly::RestartStorm => Expectation::default(),
        Anomaly::ImplausibleJump => cause("implausible_usage"),
        Anomaly::SingleJump => Expectation { may: &["implausible_usage"], ..Expectation::default() },
        Anomaly::DuplicateAddress => cause("duplicate_address"),
    }
}

impl TrialRun {
    pub(super) async fn injections(&mut self, injections: &[Injection]) -> Result<TrialOutcome> {
        let mut outcome = TrialOutcome {
            table: "| injected | cause | named after | limit | nodes | resolved after | rows compared | wrong rows |\n\
                    |---|---|---:|---:|---:|---:|---:|---:|\n"
                .into(),
            problems: Vec::new(),
        };
        let before = self.causes().await?;
        if !before.is_empty() {
            outcome.problems.push(format!("causes before the first injection: {before:?}"));
        }
        for injection in injections {
            self.inject(*injection, &mut outcome).await?;
        }
        Ok(outcome)
    }

    async fn inject(
        &mut self,
        Injection { anomaly, nodes }: Injection,
        outcome: &mut TrialOutcome,
    ) -> Result<()> {
        let nodes = nodes.min(self.population.nodes);
        let affected: Vec<u32> = (0..nodes).map(|at| at * (self.population.nodes / nodes)).collect();
        let expected = expectation(anomaly);
        let name = format!("{anomaly}:{nodes}");
        let mut found = Problems::default();
        self.progress.say(format!("{name}: injected"));
        self.change(anomaly, &affected, true).await?;
        let began = Instant::now();
        let (limit, grace) = self.limit(expected);
        let mut named: Option<(Duration, u64)> = None;
        let mut rows = 0;
        // Without a cause, for as long as one with a cause would last at most.
        let mut end = limit + grace + MINUTE;
        let served = loop {
            tokio::time::sleep(READS).await;
            let at = began.elapsed();
            for one in self.causes().await? {
                let cause = one.name.strip_prefix("samples/").unwrap_or(&one.name).to_owned();
                if Some(cause.as_str()) == expected.cause {
                    if named.is_none() {
                        self.progress.say(format!("{name}: {} after {}", one.name, seconds(at)));
                        // The last good samples are served for three intervals, at least a minute.
                        end = end.min(at + limit.max(MINUTE).max(self.interval() * 3) + self.interval() * 2);
                    }
                    let (_, most) = named.get_or_insert((at, 0));
                    *most = one.nodes.max(*most);
                } else if !expected.may.contains(&cause.as_str()) {
                    found.add("reports with another cause", [format!("after {}: {one:?}", seconds(at))]);
                }
            }
            let (check, _) = self.rows().await?;
            rows += check.rows;
            found
                .add("wrong rows", check.wrong.iter().map(|wrong| format!("after {}: {wrong}", seconds(at))));
            if at >= end {
                break check.pods;
            }
        };
        self.judge(&affected, expected, (limit, grace), named, &served, &mut found);
        self.change(anomaly, &affected, false).await?;
        let resolved = self.resolved(&mut found).await?;
        // The next injection must not see what this one left.
        tokio::time::sleep(self.interval() * 2 + SAMPLE).await;
        let (at, most) = named.map_or((String::new(), 0), |(at, most)| (seconds(at), most));
        let (cause, wrong) = (expected.cause.unwrap_or("none"), found.count("wrong rows"));
        let limit = expected.cause.map_or_else(String::new, |_| seconds(limit));
        let _ = writeln!(
            outcome.table,
            "| {name} | {cause} | {at} | {limit} | {most} | {resolved} | {rows} | {wrong} |"
        );
        outcome.problems.extend(found.lines().into_iter().map(|line| format!("{name}: {line}")));
        Ok(())
    }

    /// Returns the limit for naming a cause, and the time that its first sample may take.
    fn limit(&self, expected: Expectation) -> (Duration, Duration) {
        let interval = self.interval();
        let limit =
            if expected.standstill { STANDSTILL.max(interval * 4) } else { ONE_RESPONSE.max(interval * 2) };
        (limit, interval + SAMPLE)
    }

    fn judge(
        &self,
        affected: &[u32],
        expected: Expectation,
        (limit, grace): (Duration, Duration),
        named: Option<(Duration, u64)>,
        served: &HashSet<Pod>,
        found: &mut Problems,
    ) {
        match (expected.cause, named) {
            (Some(cause), None) => found.add("causes not named", [cause.to_owned()]),
            (Some(cause), Some((at, _))) if at > limit + grace => {
                found.add("causes named late", [format!("{cause}: {}", seconds(at))]);
            }
            (Some(cause), Some((_, nodes))) if nodes < affected.len() as u64 => {
                found.add("causes with too few nodes", [format!("{cause}: {nodes} of {}", affected.len())]);
            }
            _ => {}
        }
        let first = |node: &&u32| served.contains(&Pod(**node));
        let count = affected.iter().filter(first).count();
        match expected.served {
            Some(true) if count < affected.len() => {
                found.add("pods that are not served", [format!("{count} of {} are", affected.len())]);
            }
            Some(false) if count > 0 => {
                found.add("pods that must not be served", [format!("{count} of {} are", affected.len())]);
            }
            _ => {}
        }
        let affected: HashSet<u32> = affected.iter().copied().collect();
        let others = (0..self.population.pods()).map(Pod);
        let missing =
            others.filter(|pod| !affected.contains(&self.population.node_of(*pod)) && !served.contains(pod));
        found.add("pods of other nodes that are not served", missing.map(Pod::name));
    }

    /// Injects the anomaly, or repairs it.
    async fn change(&mut self, anomaly: Anomaly, nodes: &[u32], inject: bool) -> Result<()> {
        if anomaly != Anomaly::DuplicateAddress {
            let change = Change::Inject { anomaly: inject.then_some(anomaly) };
            return nodes.iter().try_for_each(|node| self.env.fleet().change(*node, &change));
        }
        let mut etcd = Etcd::connect().await?;
        for node in nodes {
            let name = format!("twin-of-{}", node_name(*node));
            let key = format!("/registry/minions/{name}");
            if !inject {
                etcd.delete(&key).await?;
                continue;
            }
            let mut twin = self.population.node_object(*node);
            twin["metadata"]["name"] = name.into();
            twin["metadata"]["uid"] = uid(6, *node).into();
            etcd.put(&key, &twin).await?;
        }
        Ok(())
    }

    /// Waits until the report names no cause; returns the time.
    async fn resolved(&mut self, found: &mut Problems) -> Result<String> {
        let began = Instant::now();
        loop {
            let causes = self.causes().await?;
            if causes.is_empty() {
                return Ok(seconds(began.elapsed()));
            }
            if began.elapsed() > RESOLVED {
                found.add("causes that remain after the repair", causes.iter().map(|one| format!("{one:?}")));
                return Ok("not".into());
            }
            tokio::time::sleep(READS).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_kind_and_count() {
        for anomaly in Anomaly::value_variants() {
            let parsed: Injection = format!("{anomaly}:12").parse().unwrap();
            assert_eq!((parsed.anomaly, parsed.nodes), (*anomaly, 12));
        }
        for text in ["frozen", "frozen:0", "frozen:x", "melted:1"] {
            assert!(text.parse::<Injection>().is_err(), "{text}");
        }
        assert!("melted:1".parse::<Injection>().unwrap_err().contains("duplicate-series"));
    }
}
