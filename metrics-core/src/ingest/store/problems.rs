//! Problems of samples that a kubelet returned in a successful response.

use crds::cause::SampleCause;

/// How much a node's clock may differ from the clock of metrics-core, beyond the normal age of samples.
pub(crate) const MAX_CLOCK_SKEW_MS: u64 = 60_000;

/// The problems of the samples of one response, counted by [`super::Store::put`].
///
/// The fields that speak of a minimum time already include it, per series, by metrics-core's own clock: a count
/// above zero can be reported at once. The others describe this response alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SampleProblems {
    /// Whether the response contains `resource_scrape_error 1` or `scrape_error 1`.
    pub(crate) scrape_error: bool,
    /// The number of containers in the response.
    pub(crate) containers: u32,
    /// Containers, and the node itself, whose CPU or memory usage has been missing or zero for at least two
    /// intervals and 30 s.
    pub(crate) zero_usage: u32,
    /// Containers, and the node itself, whose timestamps have not advanced for at least four intervals and 120 s.
    pub(crate) timestamps_stalled: u32,
    /// Running pods that were in earlier responses of this node and are in no node's last response.
    pub(crate) pods_absent: u32,
    /// Of those, the pods that have been absent for at least four intervals and 120 s.
    pub(crate) pods_missing: u32,
    /// Containers, and the node itself, with several different series in this response.
    pub(crate) duplicate_series: u32,
    /// Containers, and the node itself, whose CPU usage exceeds what the node can do. It is not served.
    pub(crate) implausible_usage: u32,
    /// By how many milliseconds the node's clock is ahead (negative: behind), as far as the age of cached samples
    /// does not explain it. 0 while unknown, as before a timestamp has advanced.
    pub(crate) clock_skew_ms: i64,
}

impl SampleProblems {
    /// Returns how many series or pods have a problem; 1 for one that concerns the response or the node as a whole.
    ///
    /// [`SampleCause::NoContainers`] counts only where pods of the node were known before;
    /// [`SampleCause::DuplicateAddress`] does not show in a response.
    #[must_use]
    pub(crate) fn count(&self, cause: SampleCause) -> u32 {
        match cause {
            SampleCause::ScrapeError => u32::from(self.scrape_error),
            SampleCause::NoContainers => u32::from(self.containers == 0 && self.pods_absent > 0),
            SampleCause::ZeroUsage => self.zero_usage,
            SampleCause::PodsMissing => self.pods_missing,
            SampleCause::TimestampsStalled => self.timestamps_stalled,
            SampleCause::ClockSkew => u32::from(self.clock_skew_ms.unsigned_abs() > MAX_CLOCK_SKEW_MS),
            SampleCause::ImplausibleUsage => self.implausible_usage,
            SampleCause::DuplicateSeries => self.duplicate_series,
            SampleCause::DuplicateAddress | SampleCause::Other => 0,
        }
    }
}
