//! The messages of issues.

use crds::cause::SampleCause;

use crate::telemetry::excerpt;

/// The maximum length of a message.
const MAX_MESSAGE_CHARS: usize = 300;

/// A skew is reported anew once it differs by this many seconds, or by a tenth.
const SKEW_STEP_S: u64 = 30;

/// What a message contains besides the count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Detail {
    /// Nothing.
    #[default]
    None,
    /// By how many seconds the node's clock is ahead of ours; negative if it is behind.
    Skew(i64),
    /// Another Node at the same endpoint.
    SharedEndpoint {
        /// Address, port and path.
        endpoint: Box<str>,
        /// The other Node's name.
        other: Box<str>,
    },
}

impl Detail {
    /// Takes over the detail of a later response. A skew is kept while it is about the same, because the age of a
    /// kubelet's samples varies.
    pub(super) fn update(&mut self, new: Self) {
        if let (Self::Skew(old), Self::Skew(new)) = (&*self, &new)
            && old.abs_diff(*new) <= SKEW_STEP_S.max(old.unsigned_abs() / 10)
        {
            return;
        }
        *self = new;
    }
}

/// Returns the message of an issue of one node.
pub(super) fn message(cause: SampleCause, count: u32, detail: &Detail) -> String {
    let text = match (cause, detail) {
        (SampleCause::ScrapeError, _) => {
            "the kubelet could not collect all metrics (resource_scrape_error 1)".to_owned()
        }
        (SampleCause::NoContainers, _) => {
            "the response contains no container, although pods run on the node".to_owned()
        }
        (SampleCause::ZeroUsage, _) => {
            format!("CPU or memory usage of {} is zero or missing", containers(count))
        }
        (SampleCause::PodsMissing, _) if count == 1 => {
            "1 Running pod is missing from the responses".to_owned()
        }
        (SampleCause::PodsMissing, _) => format!("{count} Running pods are missing from the responses"),
        (SampleCause::TimestampsStalled, _) => {
            format!("the timestamps of {} do not advance: the kubelet repeats old samples", containers(count))
        }
        (SampleCause::ClockSkew, Detail::Skew(seconds)) => {
            let direction = if *seconds < 0 { "behind" } else { "ahead of" };
            format!(
                "the node's clock is {} {direction} the clock of metrics-core",
                duration(seconds.unsigned_abs())
            )
        }
        (SampleCause::ClockSkew, _) => "the node's clock differs from the clock of metrics-core".to_owned(),
        (SampleCause::DuplicateAddress, Detail::SharedEndpoint { endpoint, other }) => {
            format!("Node {other} has the same address, port and path ({endpoint})")
        }
        (SampleCause::DuplicateAddress, _) => "another Node has the same address, port and path".to_owned(),
        (SampleCause::ImplausibleUsage, _) => {
            format!("the CPU usage of {} exceeds the capacity of the node", containers(count))
        }
        (SampleCause::DuplicateSeries, _) => {
            format!("the response contains several different series for {}", containers(count))
        }
        (SampleCause::Other, _) => "the samples are faulty".to_owned(),
    };
    excerpt(&text, MAX_MESSAGE_CHARS)
}

/// Returns the count with its noun. The node itself counts, too.
fn containers(count: u32) -> String {
    if count == 1 { "1 container or the node itself".to_owned() } else { format!("{count} containers") }
}

/// Formats a duration in its largest unit, rounded.
fn duration(seconds: u64) -> String {
    let rounded = |unit: u64| (seconds + unit / 2) / unit;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", rounded(60)),
        7200..172_800 => format!("{} h", rounded(3600)),
        _ => format!("{} days", rounded(86_400)),
    }
}
