//! The table of faults.

use std::fmt;
use std::time::Duration;

use super::{Fault, LIMIT, Outcome};
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
        let in_time = |outcome: &Outcome| {
            outcome.reported.max(outcome.reported_by_doctor).max(outcome.cleared) <= LIMIT
        };
        self.0.iter().all(|row| row.outcome.as_ref().is_ok_and(in_time))
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
            let seconds = |time: Duration| {
                let late = if time > LIMIT { " (late)" } else { "" };
                format!("{:.0}{late}", time.as_secs_f64())
            };
            let [reported, reported_by_doctor, cleared] = match &row.outcome {
                Ok(outcome) => [outcome.reported, outcome.reported_by_doctor, outcome.cleared].map(seconds),
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
