//! Liveness: whether a restart can repair the process.
//!
//! A restart loses the samples. So neither slow or failing kubelets nor an absent kube-apiserver fail these checks, only
//! a loop that makes no progress at all: each scrape and each request of a watch ends, whatever the other side does.

use std::time::Duration;

use crate::ingest::{discover, scrape};

/// The maximum time between two rounds of the scrape loop, which waits for nothing that is slow. It is long because a
/// process may be stopped or starved for a while.
const MAX_LOOP_PAUSE: Duration = Duration::from_secs(120);
/// The maximum silence of a watch. Each of its steps has a timeout of half a minute or less (`cluster::deadlines`), and
/// retries pause for less. It is long because a process may be stopped or starved for a while.
const MAX_WATCH_SILENCE: Duration = Duration::from_secs(5 * 60);

/// Returns the maximum time between the ends of two scrapes if there are nodes. A node is scraped once per interval, a
/// failing one at least once per interval or 15 s, with jitter, and after a timeout.
pub(super) fn max_scrape_pause(scrape_interval: Duration, timeout: Duration) -> Duration {
    scrape_interval * 4 + timeout * 2 + Duration::from_secs(60)
}

/// Checks the scrape loop.
pub(super) fn scrapes(findings: &scrape::Findings, max_scrape_pause: Duration) -> Result<(), String> {
    progress("the scrape loop has not run", findings.loop_heartbeat.age(), MAX_LOOP_PAUSE)?;
    progress("no scrape has ended", findings.scrape_heartbeat.age(), max_scrape_pause)
}

/// Checks the watches.
pub(super) fn watches(heartbeats: &discover::Heartbeats) -> Result<(), String> {
    progress("the watch of nodes has made no progress", heartbeats.nodes.age(), MAX_WATCH_SILENCE)?;
    progress("the watch of pods has made no progress", heartbeats.pods.age(), MAX_WATCH_SILENCE)
}

fn progress(problem: &str, age: Duration, max: Duration) -> Result<(), String> {
    if age <= max {
        return Ok(());
    }
    Err(format!("{problem} for {} s; the limit is {} s", age.as_secs(), max.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn fails_if_a_heartbeat_is_too_old() {
        let limit = Duration::from_secs(120);
        assert_eq!(progress("x", limit, limit), Ok(()));
        let error = progress("the scrape loop has not run", limit + Duration::from_secs(1), limit);
        assert_eq!(error, Err("the scrape loop has not run for 121 s; the limit is 120 s".to_owned()));
    }

    #[test]
    fn passes_at_the_start() {
        assert_eq!(scrapes(&scrape::Findings::default(), max_scrape_pause(TIMEOUT, TIMEOUT)), Ok(()));
        assert_eq!(watches(&discover::Heartbeats::default()), Ok(()));
    }

    /// The longest pause between two ends of scrapes is that of a single node whose scrapes time out.
    #[test]
    fn tolerates_slow_and_failing_kubelets_at_each_interval() {
        for interval_s in [1, 15, 60, 3600] {
            let interval = Duration::from_secs(interval_s);
            let retry = interval.max(Duration::from_secs(15)) * 5 / 4 + TIMEOUT;
            assert!(max_scrape_pause(interval, TIMEOUT) >= retry * 2, "{interval_s}");
        }
    }
}
