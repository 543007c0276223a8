//! The results as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::fault::KINDS;
use super::journey::Journey;
use super::run::{Baseline, Outcome};

/// The results of all runs.
#[derive(Debug, Default)]
pub struct Results {
    pub(super) baselines: BTreeMap<Journey, Baseline>,
    pub(super) outcomes: Vec<Outcome>,
    /// Violations of undisturbed runs, and errors of the test itself.
    pub(super) problems: Vec<String>,
    /// The number of runs of the whole list, of which [`Self::outcomes`] may be a sample.
    pub(super) listed: usize,
}

/// The runs of one cell.
#[derive(Default)]
struct Cell {
    runs: usize,
    not_reached: usize,
    violations: usize,
}

impl Results {
    /// Whether no rule was broken.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.outcomes.iter().all(|outcome| outcome.violations.is_empty())
    }

    /// Returns the tables: runs and violations by journey and fault, and the slowest run of each fault.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "| journey | writes | undisturbed | {} |", KINDS.join(" | "));
        let _ = writeln!(text, "|---|---|---|{}", "---|".repeat(KINDS.len()));
        for (journey, baseline) in &self.baselines {
            let cells = KINDS.map(|kind| cell(&self.cell(*journey, kind)));
            let took = baseline.took.as_secs_f64();
            let _ = writeln!(
                text,
                "| {journey} | {} | {took:.1} s | {} |",
                baseline.writes.len(),
                cells.join(" | ")
            );
        }
        let slowest = KINDS.map(|kind| {
            let of_kind = self.outcomes.iter().filter(|outcome| outcome.fault.kind() == Some(kind));
            let longest = of_kind.map(|outcome| outcome.took).max();
            longest
                .map_or_else(|| "-".to_owned(), |longest| format!("{:.1} s", Duration::as_secs_f64(&longest)))
        });
        let _ = writeln!(text, "| slowest | | | {} |", slowest.join(" | "));
        text
    }

    /// Returns each violation with the run that shows it again.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let of_runs = self.outcomes.iter().flat_map(|outcome| {
            let run = format!("{}, {}", outcome.journey, outcome.fault);
            outcome.violations.iter().map(move |violation| format!("{run}: {violation}"))
        });
        self.problems.iter().cloned().chain(of_runs).collect()
    }

    /// Returns how many runs were made, and how many of them did not reach their fault.
    #[must_use]
    pub fn summary(&self) -> String {
        let not_reached = self.outcomes.iter().filter(|outcome| !outcome.reached).count();
        let bad = self.outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).count();
        format!(
            "{} of {} runs; {bad} with a violation; {not_reached} did not reach their fault",
            self.outcomes.len(),
            self.listed
        )
    }

    fn cell(&self, journey: Journey, kind: &str) -> Cell {
        let mut cell = Cell::default();
        for outcome in &self.outcomes {
            if outcome.journey == journey && outcome.fault.kind() == Some(kind) {
                cell.runs += 1;
                cell.not_reached += usize::from(!outcome.reached);
                cell.violations += usize::from(!outcome.violations.is_empty());
            }
        }
        cell
    }
}

fn cell(cell: &Cell) -> String {
    if cell.runs == 0 {
        return "-".to_owned();
    }
    let reached = cell.runs - cell.not_reached;
    let violations =
        if cell.violations == 0 { String::new() } else { format!(", **{} bad**", cell.violations) };
    if cell.not_reached == 0 {
        format!("{reached}{violations}")
    } else {
        format!("{reached} of {}{violations}", cell.runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_faults::fault::Fault;

    #[test]
    fn counts_runs_and_violations_of_each_cell() {
        let outcome = |number, reached, violations: &[&str]| Outcome {
            journey: Journey::Install,
            fault: Fault::KillAfter(number),
            reached,
            took: Duration::from_secs(2),
            violations: violations.iter().map(|text| (*text).to_owned()).collect(),
        };
        let baseline = Baseline {
            writes: vec![String::new(); 3],
            requests: std::collections::BTreeSet::new(),
            cas: 1,
            inventory: BTreeMap::new(),
            took: Duration::from_secs(1),
        };
        let mut results = Results { listed: 9, ..Results::default() };
        results.baselines.insert(Journey::Install, baseline);
        results.outcomes =
            vec![outcome(1, true, &[]), outcome(2, true, &["two CAs"]), outcome(3, false, &[])];
        let tables = results.tables();
        assert!(tables.contains("| install | 3 | 1.0 s | - | 2 of 3, **1 bad** | -"), "{tables}");
        assert!(!results.is_good());
        assert_eq!(results.violations(), ["install, kill after write 2: two CAs"]);
        assert!(results.summary().starts_with("3 of 9 runs; 1 with a violation; 1 did not"));
    }
}
