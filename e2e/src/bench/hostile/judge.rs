//! The figures of each phase, and what must not happen in it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::attack::AttackCounts;
use super::clients::{Client, Sent};
use super::monitor::Second;
use super::phase::Phase;

/// The p99 of direct lists may be this many times that of the quiet time.
const MAX_SLOWDOWN: f64 = 3.0;
/// What metrics-core knows is older than this only if kube-apiserver fails: its watches end after 30 s.
pub(super) const OLD_S: f64 = 45.0;
/// The time within which an outage must be visible.
const NOTICED_S: f64 = 60.0;
/// After an outage kube-apiserver checks each APIService before it proxies again: a check takes up to 5 s and is repeated.
const GRACE: Duration = Duration::from_secs(10);
/// A probe of kube-apiserver counts for the requests around it.
const AROUND: Duration = Duration::from_secs(1);
/// The maximum number of different errors that are listed, and the maximum length of each.
const MAX_ERRORS: usize = 5;
const MAX_ERROR: usize = 200;

/// When a phase was, since the start of the run.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) phase: Phase,
    /// The beginning of the quiet time before it.
    pub(super) quiet: Duration,
    /// The beginning of the attack.
    pub(super) from: Duration,
    /// The end of the attack.
    pub(super) until: Duration,
    /// The end of the recovery from an outage.
    pub(super) recovered: Duration,
    /// What the attackers did.
    pub(super) attacks: BTreeMap<String, AttackCounts>,
}

/// The requests of one client in a phase.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ClientFigures {
    /// Number of requests.
    pub requests: usize,
    /// Of those, the failed ones.
    pub failed: usize,
    /// Of those, the ones that are allowed: kube-apiserver itself failed.
    pub excused: usize,
    /// Requests that were repeated on a new connection.
    pub repeated: usize,
    /// The median, in ms.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// The figures of a phase.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PhaseFigures {
    /// The phase.
    pub phase: Phase,
    /// The second of its begin, and of its end.
    pub seconds: (usize, usize),
    /// The most resident memory, MB.
    pub rss_mb: f64,
    /// The most memory that counted against the limit, MB.
    pub charged_mb: f64,
    /// CPU, percent of one CPU.
    pub cpu_percent: f64,
    /// Processes killed because of the limit.
    pub oom_kills: u64,
    /// Restarts.
    pub restarts: u32,
    /// p99 of the direct lists in the quiet time before, ms.
    pub quiet_p99_ms: f64,
    /// The requests by client.
    pub clients: Vec<(Client, ClientFigures)>,
    /// The time from the beginning of an outage until a metric showed it.
    pub noticed_s: Option<f64>,
    /// The time from the end of the outage until what metrics-core knows was new again.
    pub recovered_s: Option<f64>,
    /// What the attackers did.
    pub attacks: BTreeMap<String, AttackCounts>,
    /// What must not happen; empty if the phase passed.
    pub problems: Vec<String>,
}

/// Returns the figures of all phases.
pub(super) fn judge(spans: &[Span], sent: &[Sent], seconds: &[Second], limit_mb: f64) -> Vec<PhaseFigures> {
    let down = downtime(sent);
    let quiet = |span: &Span| direct_p99(sent, span.quiet, span.from);
    let all_quiet: Vec<f64> = spans.iter().flat_map(|span| direct(sent, span.quiet, span.from)).collect();
    let p99 = quantile(all_quiet, 0.99);
    spans.iter().map(|span| phase(span, sent, seconds, &down, (quiet(span), p99), limit_mb)).collect()
}

fn phase(
    span: &Span,
    sent: &[Sent],
    seconds: &[Second],
    down: &[(Duration, Duration)],
    (own_quiet, all_quiet): (f64, f64),
    limit_mb: f64,
) -> PhaseFigures {
    let at = |time: Duration| usize::try_from(time.as_secs()).unwrap_or_default().min(seconds.len());
    let (from, until) = (at(span.from), at(span.recovered));
    let during = &seconds[from..until];
    let most = |of: fn(&Second) -> f64| during.iter().map(of).fold(0.0, f64::max);
    let before = seconds[..from].last().copied().unwrap_or_default();
    let after = during.last().copied().unwrap_or(before);
    let mut figures = PhaseFigures {
        phase: span.phase,
        seconds: (from, until),
        rss_mb: most(|second| second.rss_mb),
        charged_mb: most(|second| second.charged_mb),
        cpu_percent: during.iter().map(|second| second.cpu_percent).sum::<f64>() / count(during.len().max(1)),
        oom_kills: after.oom_kills - before.oom_kills,
        restarts: after.restarts - before.restarts,
        quiet_p99_ms: own_quiet,
        clients: Vec::new(),
        noticed_s: None,
        recovered_s: None,
        attacks: span.attacks.clone(),
        problems: Vec::new(),
    };
    let mut problems = Vec::new();
    if figures.oom_kills > 0 {
        problems.push(format!("{} OOM kills", figures.oom_kills));
    }
    if figures.restarts > 0 {
        problems.push(format!("{} restarts", figures.restarts));
    }
    if figures.charged_mb > limit_mb {
        problems.push(format!("{:.1} MB of {limit_mb:.1}", figures.charged_mb));
    }
    for client in
        [Client::Direct, Client::Large, Client::Aggregated, Client::Livez, Client::Readyz, Client::Version]
    {
        let (of_client, errors) = client_figures(client, span, sent, down);
        // Without lists there is no quantile, which must not pass.
        let is_fast = of_client.p99_ms <= MAX_SLOWDOWN * all_quiet;
        if client == Client::Direct && !is_fast {
            problems.push(format!(
                "p99 of direct lists {:.1} ms, {:.1} times the {all_quiet:.1} ms of the quiet times",
                of_client.p99_ms,
                of_client.p99_ms / all_quiet
            ));
        }
        if !errors.is_empty() {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let name = serde_json::to_value(client).unwrap_or_default();
            let unexcused = of_client.failed - of_client.excused;
            problems.push(format!(
                "{unexcused} failed {}: {}",
                name.as_str().unwrap_or_default(),
                errors.join("; ")
            ));
        }
        figures.clients.push((client, of_client));
    }
    for (name, counts) in &span.attacks {
        if counts.opened == 0 {
            problems.push(format!("the attack {name} opened no connection"));
        }
    }
    if span.phase.outage().is_some() {
        (figures.noticed_s, figures.recovered_s) =
            (noticed(seconds, from, until), recovered(seconds, at(span.until)));
        match figures.noticed_s {
            Some(noticed_s) if noticed_s <= NOTICED_S => {}
            Some(noticed_s) => problems.push(format!("no metric shows the outage for {noticed_s:.0} s")),
            None => problems.push("no metric shows the outage".into()),
        }
        if figures.recovered_s.is_none() {
            problems.push("what metrics-core knows stays old after the outage".into());
        }
    }
    figures.problems = problems;
    figures
}

/// How often an error occurred.
struct ErrorCount {
    text: String,
    first: Duration,
    count: usize,
}

impl fmt::Display for ErrorCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, first, count } = self;
        write!(f, "{count} × {text}, first at {} s", first.as_secs())
    }
}

/// Returns the beginning of an error in one line; of a failed health check, what failed.
fn one_line(error: &str) -> String {
    let passed = |word: &&str| !word.starts_with("[+]") && *word != "ok";
    error.split_whitespace().filter(passed).collect::<Vec<_>>().join(" ").chars().take(MAX_ERROR).collect()
}

/// Returns the figures of a client from the beginning of the quiet time to the end of the recovery, and its first errors
/// that are not excused. Times are those of the attack alone.
fn client_figures(
    client: Client,
    span: &Span,
    sent: &[Sent],
    down: &[(Duration, Duration)],
) -> (ClientFigures, Vec<ErrorCount>) {
    let of_client = || sent.iter().filter(move |sent| sent.client == client);
    let all = of_client().filter(|sent| (span.quiet..span.recovered).contains(&sent.at));
    let (mut figures, mut errors) = (ClientFigures::default(), Vec::<ErrorCount>::new());
    for one in all {
        figures.requests += 1;
        figures.repeated += usize::from(one.repeated);
        let Some(error) = &one.error else { continue };
        figures.failed += 1;
        let is_excused = match client {
            Client::Version => true,
            Client::Aggregated => {
                down.iter().any(|(from, until)| *from <= one.at + one.took && one.at <= *until)
            }
            _ => false,
        };
        if is_excused {
            figures.excused += 1;
            continue;
        }
        let text = one_line(error);
        if let Some(known) = errors.iter_mut().find(|known| known.text == text) {
            known.count += 1;
        } else if errors.len() < MAX_ERRORS {
            errors.push(ErrorCount { text, first: one.at, count: 1 });
        }
    }
    let during = of_client().filter(|sent| (span.from..span.until).contains(&sent.at));
    let times: Vec<f64> = during.map(milliseconds).collect();
    figures.p50_ms = quantile(times.clone(), 0.5);
    figures.p99_ms = quantile(times.clone(), 0.99);
    figures.max_ms = times.into_iter().fold(0.0, f64::max);
    (figures, errors)
}

/// Returns the times in which kube-apiserver itself failed, each with the grace after it.
fn downtime(sent: &[Sent]) -> Vec<(Duration, Duration)> {
    let failed = sent.iter().filter(|sent| sent.client == Client::Version && sent.error.is_some());
    failed.map(|probe| (probe.at.saturating_sub(AROUND), probe.at + probe.took + AROUND + GRACE)).collect()
}

/// Returns the seconds from `from` to the first second in which a metric shows that kube-apiserver does not respond.
fn noticed(seconds: &[Second], from: usize, until: usize) -> Option<f64> {
    let replaced = seconds[..from].iter().rev().find_map(|second| second.connections_replaced);
    let shows = |second: &Second| {
        second.age_s.is_some_and(|age| age > OLD_S)
            || second.connections_replaced.zip(replaced).is_some_and(|(now, before)| now > before)
    };
    seconds[from..until].iter().position(shows).map(count)
}

/// Returns the seconds from `from` to the first second in which what metrics-core knows is new.
fn recovered(seconds: &[Second], from: usize) -> Option<f64> {
    let is_new = |second: &Second| second.age_s.is_some_and(|age| age < OLD_S);
    seconds.get(from..)?.iter().position(is_new).map(count)
}

/// Returns the p99 of the direct lists in each second of a run, in ms.
pub(super) fn per_second(sent: &[Sent], seconds: usize) -> Vec<f64> {
    let mut all = vec![Vec::new(); seconds];
    for one in sent.iter().filter(|sent| sent.client == Client::Direct) {
        if let Some(second) = usize::try_from(one.at.as_secs()).ok().and_then(|at| all.get_mut(at)) {
            second.push(milliseconds(one));
        }
    }
    let p99 = |times: Vec<f64>| if times.is_empty() { 0.0 } else { quantile(times, 0.99) };
    all.into_iter().map(p99).collect()
}

/// Returns the failed requests in each second of a run: of direct clients and probes, and of aggregated ones.
pub(super) fn failed_per_second(sent: &[Sent], seconds: usize) -> (Vec<f64>, Vec<f64>) {
    let mut failed = (vec![0.0; seconds], vec![0.0; seconds]);
    for one in sent.iter().filter(|sent| sent.error.is_some()) {
        let of = match one.client {
            Client::Version => continue,
            Client::Aggregated => &mut failed.1,
            Client::Direct | Client::Large | Client::Livez | Client::Readyz => &mut failed.0,
        };
        if let Some(second) = usize::try_from(one.at.as_secs()).ok().and_then(|at| of.get_mut(at)) {
            *second += 1.0;
        }
    }
    failed
}

fn direct(sent: &[Sent], from: Duration, until: Duration) -> impl Iterator<Item = f64> {
    let of =
        sent.iter().filter(move |sent| sent.client == Client::Direct && (from..until).contains(&sent.at));
    of.map(milliseconds)
}

fn direct_p99(sent: &[Sent], from: Duration, until: Duration) -> f64 {
    quantile(direct(sent, from, until).collect(), 0.99)
}

fn milliseconds(sent: &Sent) -> f64 {
    sent.took.as_secs_f64() * 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "a figure")]
fn count(count: usize) -> f64 {
    count as f64
}

/// Returns the quantile by the nearest rank.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below a length")]
fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (count(values.len().saturating_sub(1)) * part).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests;
