//! The run as a plot: memory against its limit, lists, failures and the age of discovery over time.

use super::monitor::megabytes;
use super::{HostileOutcome, HostilePlan};
use crate::bench::scale::Conditions;
use crate::plot::panels::{Line, Panel, Panels};

const BLUE: &str = "#1b6ca8";
const RED: &str = "#dc2626";
const GREY: &str = "#9aa3ab";

/// Renders the plot as SVG.
#[must_use]
pub fn svg(plan: &HostilePlan, conditions: &Conditions, outcome: &HostileOutcome) -> String {
    let seconds = &outcome.seconds;
    let column = |of: fn(&super::Second) -> f64| seconds.iter().map(of).collect::<Vec<f64>>();
    let limit = vec![megabytes(plan.limit); seconds.len()];
    let (rss, charged) = (column(|second| second.rss_mb), column(|second| second.charged_mb));
    let (cpu, age) = (column(|second| second.cpu_percent), column(|second| second.age_s.unwrap_or_default()));
    let connections = column(|second| second.connections.unwrap_or_default());
    let changes: Vec<usize> =
        outcome.phases.iter().flat_map(|phase| [phase.seconds.0, phase.seconds.1]).collect();
    let line = |color, values| Line { color, values, has_steps: false };
    let panel =
        |name, note: &str, unit, lines| Panel { name, note: note.to_owned(), unit, lines, changes: &changes };
    let title = format!(
        "metrics-core at {} nodes under attack; red lines: begin and end of a phase ({})",
        plan.nodes, conditions.date
    );
    let plot = Panels {
        title: &title,
        panels: vec![
            panel(
                "memory",
                "RSS, charged, limit (red)",
                " MB",
                vec![
                    line(GREY, &charged),
                    line(BLUE, &rss),
                    Line { color: RED, values: &limit, has_steps: true },
                ],
            ),
            panel("CPU", "of one CPU", " %", vec![line(BLUE, &cpu)]),
            panel("connections", "open at metrics-core", "", vec![line(BLUE, &connections)]),
            panel("direct lists", "p99 of each second", " ms", vec![line(BLUE, &outcome.direct_p99_ms)]),
            panel(
                "failed requests",
                "direct (red), aggregated",
                " /s",
                vec![line(GREY, &outcome.failed.1), line(RED, &outcome.failed.0)],
            ),
            panel("discovery", "age", " s", vec![line(BLUE, &age)]),
        ],
        end: format!("{} min", seconds.len() / 60),
    };
    plot.svg()
}
