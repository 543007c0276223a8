//! How long what was read before stays in use while a source can't be read. Pure.
//!
//! kube-apiserver sheds load (429), restarts (500, 503) and stalls. None of that is a state of the pipeline, so it must not
//! change a condition. An error that lasts belongs to the conditions that depend on the source.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Source;

/// How long the last state stays in use after errors that may pass.
const KEPT: Duration = Duration::from_secs(60);

/// The same after 403, which rarely passes by itself.
const KEPT_FORBIDDEN: Duration = Duration::from_secs(10);

/// A source whose requests time out is requested at this interval only, as each of them delays a round.
const HUNG_INTERVAL: Duration = Duration::from_secs(30);

/// A failed read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadFailure {
    /// Whether kube-apiserver returned 403.
    pub forbidden: bool,
    /// Whether no response came.
    pub hung: bool,
}

/// Since when a source can't be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Freshness {
    failing_since: Option<Instant>,
}

impl Freshness {
    /// Records a successful read.
    pub(super) fn succeeded(&mut self) {
        self.failing_since = None;
    }

    /// Records a failed read. Returns whether the last state stays in use.
    pub(super) fn failed(&mut self, failure: ReadFailure) -> bool {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        since.elapsed() < if failure.forbidden { KEPT_FORBIDDEN } else { KEPT }
    }
}

/// The sources that can't be read.
#[derive(Debug, Default)]
pub(super) struct FailingSources(BTreeMap<Source, (Freshness, Option<Instant>)>);

impl FailingSources {
    /// Whether a source should be requested now.
    pub(super) fn is_due(&self, source: Source) -> bool {
        let not_before = self.0.get(&source).and_then(|(_, not_before)| *not_before);
        not_before.is_none_or(|not_before| Instant::now() >= not_before)
    }

    /// Records a successful read.
    pub(super) fn succeeded(&mut self, source: Source) {
        self.0.remove(&source);
    }

    /// Records a failed read. Returns whether the last state stays in use.
    pub(super) fn failed(&mut self, source: Source, failure: ReadFailure) -> bool {
        let (freshness, not_before) = self.0.entry(source).or_default();
        *not_before = failure.hung.then(|| Instant::now() + HUNG_INTERVAL);
        freshness.failed(failure)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_last_state_is_kept_for_a_bounded_time() {
        let mut failing = FailingSources::default();
        let error = ReadFailure::default();
        assert!(failing.failed(Source::Pods, error));
        advance(Duration::from_secs(59)).await;
        assert!(failing.failed(Source::Pods, error));
        advance(SECOND).await;
        assert!(!failing.failed(Source::Pods, error));
        assert!(failing.failed(Source::Endpoints, error), "each source by itself");
        failing.succeeded(Source::Pods);
        assert!(failing.failed(Source::Pods, error), "counted from zero after a success");
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_permission_is_reported_sooner() {
        let mut freshness = Freshness::default();
        let forbidden = ReadFailure { forbidden: true, hung: false };
        assert!(freshness.failed(forbidden));
        advance(KEPT_FORBIDDEN).await;
        assert!(!freshness.failed(forbidden));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_is_requested_less_often() {
        let mut failing = FailingSources::default();
        failing.failed(Source::Pods, ReadFailure::default());
        assert!(failing.is_due(Source::Pods));
        failing.failed(Source::Pods, ReadFailure { hung: true, forbidden: false });
        assert!(!failing.is_due(Source::Pods));
        assert!(failing.is_due(Source::Endpoints));
        advance(HUNG_INTERVAL).await;
        assert!(failing.is_due(Source::Pods));
    }
}
