//! The measured times as a table.

use std::fmt;

use crate::testbed::cluster::KubeletKind;

/// The times with one server and one kind of kubelet.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The server and its scrape interval.
    pub case: String,
    /// The kind of kubelet.
    pub kubelet: KubeletKind,
    /// Seconds from the load to the scaling decision, one for each step.
    pub seconds: Vec<f64>,
}

/// All measured times.
#[derive(Clone, Debug, Default)]
pub struct ReactionTimes(pub Vec<Measured>);

impl fmt::Display for ReactionTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| seconds from the load to the scaling decision | kubelet | steps | min | median | p95 | max |"
        )?;
        writeln!(f, "|---|---|---:|---:|---:|---:|---:|")?;
        for measured in &self.0 {
            let mut seconds = measured.seconds.clone();
            seconds.sort_by(f64::total_cmp);
            let at = |percent| percentile(&seconds, percent);
            writeln!(
                f,
                "| {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
                measured.case,
                measured.kubelet,
                seconds.len(),
                at(0),
                at(50),
                at(95),
                at(100)
            )?;
        }
        Ok(())
    }
}

/// Returns a percentile of sorted figures, by the nearest rank.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_median_and_95th_percentile() {
        let seconds = (1..=40).rev().map(f64::from).collect();
        let times = ReactionTimes(vec![Measured {
            case: "metrics-core, 15s".into(),
            kubelet: KubeletKind::OnDemand,
            seconds,
        }]);
        let text = times.to_string();
        assert!(
            text.ends_with("| metrics-core, 15s | on-demand | 40 | 1.0 | 20.0 | 38.0 | 40.0 |\n"),
            "{text}"
        );
        assert!(percentile(&[], 50).is_nan());
    }
}
