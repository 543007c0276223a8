//! The table of faults.

use std::fmt;
use std::time::Duration;

use super::{Fault, Outcome};
use crate::error::Error;

/// The faults that were injected, and the result of each.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    fault: &'static str,
    condition: &'static str,
    status: &'static str,
    reason: &'static str,
    object: &'static str,
    limit: Duration,
    cleared_limit: Duration,
    outcome: Result<Outcome, String>,
}

impl Table {
    /// Adds a fault.
    pub fn add(&mut self, fault: &Fault, outcome: Result<Outcome, Error>) {
        self.0.push(Row {
            fault: fault.name,
            condition: fault.condition,
            status: fault.status,
            reason: fault.reason,
            object: fault.object,
            limit: fault.limit,
            cleared_limit: fault.cleared_limit,
            outcome: outcome.map_err(|error| error.to_string()),
        });
    }

    /// Returns whether each fault was reported with the right cause and cleared, even late: on a busy machine the
    /// time proves nothing.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.0.iter().all(|row| row.outcome.is_ok())
    }

    /// Returns whether each fault was reported and cleared in time.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let in_time = |row: &Row, outcome: &Outcome| {
            outcome.reported.max(outcome.reported_by_doctor) <= row.limit
                && outcome.cleared <= row.cleared_limit
        };
        self.0.iter().all(|row| row.outcome.as_ref().is_ok_and(|outcome| in_time(row, outcome)))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| fault | condition | reason | object | reported after, s | by `doctor`, s | cleared, s |"
        )?;
        writeln!(f, "|---|---|---|---|---:|---:|---:|")?;
        for row in &self.0 {
            let seconds = |time: Duration, limit: Duration| {
                let late = if time > limit { " (late)" } else { "" };
                format!("{:.0}{late}", time.as_secs_f64())
            };
            let [reported, reported_by_doctor, cleared] = match &row.outcome {
                Ok(outcome) => [
                    seconds(outcome.reported, row.limit),
                    seconds(outcome.reported_by_doctor, row.limit),
                    seconds(outcome.cleared, row.cleared_limit),
                ],
                Err(_) => ["never", "", ""].map(str::to_owned),
            };
            writeln!(
                f,
                "| {} | {}={} | {} | {} | {reported} | {reported_by_doctor} | {cleared} |",
                row.fault, row.condition, row.status, row.reason, row.object
            )?;
        }
        for row in &self.0 {
            match &row.outcome {
                Ok(outcome) => writeln!(f, "\n{}:\n  {}", row.fault, outcome.message)?,
                Err(error) => writeln!(f, "\n{}: FAILED\n  {error}", row.fault)?,
            }
        }
        Ok(())
    }
}
