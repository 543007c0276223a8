//! The figures as tables in Markdown.

use std::fmt::Write as _;

use clap::ValueEnum as _;

use super::clients::Client;
use super::judge::ClientFigures;
use super::monitor::megabytes;
use super::{HostileOutcome, HostilePlan, PhaseFigures};
use crate::bench::scale::Conditions;

/// Returns a whole page: conditions, verdict, chart, tables and what each phase does.
#[must_use]
pub fn page(plan: &HostilePlan, conditions: &Conditions, outcome: &HostileOutcome, chart: &str) -> String {
    let problems: usize = outcome.phases.iter().map(|phase| phase.problems.len()).sum();
    let verdict = match problems {
        0 => "All phases passed.".to_owned(),
        count => format!("**{count} problems.**"),
    };
    let mut text = format!(
        "# metrics-core under attack: {} nodes, {} pods, {} minutes\n\n{}\nWritten by the command. {verdict}\n\n\
         ![memory, lists and discovery over time]({chart})\n\n{}",
        plan.nodes,
        plan.nodes * plan.pods_per_node,
        outcome.seconds.len() / 60,
        conditions.list(),
        table(plan, outcome)
    );
    text.push_str("\n## Phases\n\n| phase | what happens |\n|---|---|\n");
    for phase in &plan.phases {
        let help = phase.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        let _ = writeln!(text, "| {phase} | {} |", help.unwrap_or_default());
    }
    let _ = write!(
        text,
        "\n## Method\n\n\
         - metrics-core runs in a cgroup with the limit that the nanny chooses for this cluster ({} MiB), without swap, on a CPU of its own; \
         everything else shares the others. It is started again when it ends, or when its liveness probe fails for 30 s.\n\
         - Direct lists: the pods of a namespace, ten a second over ten connections, each replaced after 20 lists. The client has a certificate of \
         group system:masters, whose authorization needs no review. Times are from when a list is due; after 5 s it has failed. Large \
         lists: all pods every 10 s, repeated after 429 as client-go does. Aggregated lists: the same as direct ones through a real \
         kube-apiserver. Probes: `/livez` and `/readyz` over new connections each second, 2 s at most.\n\
         - A phase fails with any OOM kill, restart, failed direct or large list, or failed probe; if the p99 of direct lists exceeds three \
         times that of all quiet times; if an aggregated list fails while `/version` of kube-apiserver works (and has worked for 10 s); \
         if no metric shows an outage within 60 s (`metrics_core_discovery_age_seconds` above 45 s, or \
         `metrics_core_apiserver_connections_replaced_total` growing); if what metrics-core knows is not new 90 s after it.\n\
         - Failures count from the quiet time before a phase to the end of the recovery after it.\n",
        plan.limit >> 20
    );
    text
}

/// Returns the tables and the problems.
#[must_use]
pub fn table(plan: &HostilePlan, outcome: &HostileOutcome) -> String {
    let limit_mb = megabytes(plan.limit);
    let mut text = format!(
        "| phase | s | RSS, MB | of {limit_mb:.0} MB charged, MB | CPU, % | OOM kills, restarts | outage visible after, s | known again after, s | |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---|\n"
    );
    let optional = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.0}"));
    for phase in &outcome.phases {
        let verdict = if phase.problems.is_empty() { "passed" } else { "failed" };
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.0} | {}, {} | {} | {} | {verdict} |",
            phase.phase,
            phase.seconds.1 - phase.seconds.0,
            phase.rss_mb,
            phase.charged_mb,
            phase.cpu_percent,
            phase.oom_kills,
            phase.restarts,
            optional(phase.noticed_s),
            optional(phase.recovered_s),
        );
    }
    text.push_str(
        "\n| phase | direct: lists | failed | repeated | p50, ms | p99, ms | quiet p99, ms | longest, ms | large: failed | aggregated: failed \
         | of those while kube-apiserver fails | probes: failed |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for phase in &outcome.phases {
        let of = |client| figures_of(phase, client);
        let (direct, aggregated) = (of(Client::Direct), of(Client::Aggregated));
        let (livez, readyz) = (of(Client::Livez), of(Client::Readyz));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {} of {} | {} of {} | {} | {} of {} |",
            phase.phase,
            direct.requests,
            direct.failed,
            direct.repeated,
            direct.p50_ms,
            direct.p99_ms,
            phase.quiet_p99_ms,
            direct.max_ms,
            of(Client::Large).failed,
            of(Client::Large).requests,
            aggregated.failed,
            aggregated.requests,
            aggregated.excused,
            livez.failed + readyz.failed,
            livez.requests + readyz.requests,
        );
    }
    text.push_str("\n| phase | attack | connections opened | closed by metrics-core | failed to open | most open |\n|---|---|---:|---:|---:|---:|\n");
    for phase in &outcome.phases {
        for (attack, counts) in &phase.attacks {
            let _ = writeln!(
                text,
                "| {} | {attack} | {} | {} | {} | {} |",
                phase.phase, counts.opened, counts.closed, counts.failed, counts.most_open
            );
        }
    }
    let mut problems = String::new();
    for phase in &outcome.phases {
        for problem in &phase.problems {
            let _ = writeln!(problems, "- {}: {problem}", phase.phase);
        }
    }
    if !problems.is_empty() {
        let _ = write!(text, "\nProblems:\n\n{problems}");
    }
    text
}

/// Returns one line about a phase, for progress.
pub(super) fn line(phase: &PhaseFigures) -> String {
    let direct = figures_of(phase, Client::Direct);
    let attacks: Vec<_> =
        phase.attacks.iter().map(|(name, counts)| format!("{name} {} open", counts.most_open)).collect();
    format!(
        "{}: {:.1} MB charged, direct p99 {:.1} ms (quiet {:.1}); {}; problems: {}",
        phase.phase,
        phase.charged_mb,
        direct.p99_ms,
        phase.quiet_p99_ms,
        attacks.join(", "),
        if phase.problems.is_empty() { "none".to_owned() } else { phase.problems.join(" | ") }
    )
}

fn figures_of(phase: &PhaseFigures, client: Client) -> ClientFigures {
    let found = phase.clients.iter().find(|(of, _)| *of == client);
    found.map(|(_, figures)| figures.clone()).unwrap_or_default()
}
