//! Decodes one response body of a kubelet's `/metrics/resource` in place.
//!
//! Supports the Prometheus text format 0.0.4 and OpenMetrics 1.0 as far as the resource metrics need them (KEP-727,
//! "Resource Metrics Endpoint"): the series named in [`Metric`], with any further labels in any order. All other
//! lines are skipped after their first bytes. A malformed line costs only that series and is counted by reason. No
//! input makes [`decode`] fail or panic, and no line allocates unless a label value is escaped.

mod labels;
mod number;
#[cfg(test)]
#[allow(clippy::option_option)]
mod tests;

use std::borrow::Cow;

use memchr::memchr_iter;

/// The series that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// `*_cpu_usage_seconds_total`, in nanoseconds.
    Cpu,
    /// `*_memory_working_set_bytes`, in bytes.
    Memory,
    /// `*_swap_usage_bytes`, in bytes.
    Swap,
    /// `container_start_time_seconds`, in nanoseconds since the Unix epoch.
    StartTime,
}

impl Metric {
    /// The number of variants.
    pub(crate) const COUNT: usize = 4;
    /// All variants, in order.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Cpu, Self::Memory, Self::Swap, Self::StartTime];
}

/// One sample of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The value in the unit of its [`Metric`]: the float `value × 1e9` (or `value`), truncated towards zero.
    pub value: u64,
    /// Nanoseconds since the Unix epoch; [`DecodeOptions::default_timestamp_ns`] where the line has none.
    pub(crate) timestamp_ns: i64,
}

/// Identifies a container. The bytes are unescaped, not checked to be UTF-8, and never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerKey<'a> {
    /// The label `namespace`.
    pub namespace: Cow<'a, [u8]>,
    /// The label `pod`.
    pub pod: Cow<'a, [u8]>,
    /// The label `container`.
    pub container: Cow<'a, [u8]>,
}

/// Receives the samples that [`decode`] finds, in the order of the body.
pub trait SampleSink {
    /// Adds a sample of the node.
    fn node(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries>;
    /// Adds a sample of a container.
    fn container(&mut self, metric: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries>;
    /// Returns the namespace, pod and container whose sample of this metric probably comes next, as in the last
    /// body. None of the names contains a character that is escaped in a label value.
    fn expected_names(&self, metric: Metric) -> Option<[&[u8]; 3]> {
        let _ = metric;
        None
    }
    /// Adds a sample of the container that [`SampleSink::expected_names`] returned. An implementation has both or
    /// neither.
    fn add_expected(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let _ = (metric, sample);
        Ok(())
    }
}

/// Why a series was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BadSeries {
    /// The labels are malformed, or namespace, pod or container is missing or empty.
    Labels,
    /// The value is not a finite number, or is negative.
    Value,
    /// The timestamp is malformed or out of range.
    Timestamp,
    /// The line continues after the timestamp.
    Trailing,
    /// A namespace, pod or container name is not UTF-8, or longer than Kubernetes allows.
    Name,
    /// The same series came before in this body. The sink still knows its sample.
    Duplicate,
    /// The node has more containers than the limit.
    TooMany,
}

impl BadSeries {
    /// All reasons, in order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Labels,
        Self::Value,
        Self::Timestamp,
        Self::Trailing,
        Self::Name,
        Self::Duplicate,
        Self::TooMany,
    ];

    /// Returns the reason as a metric label value.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Value => "value",
            Self::Timestamp => "timestamp",
            Self::Trailing => "trailing",
            Self::Name => "name",
            Self::Duplicate => "duplicate",
            Self::TooMany => "too_many",
        }
    }
}

/// The format of timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// Prometheus text: integer milliseconds.
    #[default]
    Text,
    /// OpenMetrics: seconds, possibly with a fraction.
    OpenMetrics,
}

/// What the decoder needs to know of a body besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct DecodeOptions {
    /// The format of timestamps.
    pub format: ExpositionFormat,
    /// When the request started, in nanoseconds since the Unix epoch; for lines without a timestamp.
    pub default_timestamp_ns: i64,
}

/// How many series of a body were accepted and rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeReport {
    /// Series that were accepted.
    pub accepted: u32,
    /// Series that were rejected, by reason, in the order of [`BadSeries::ALL`].
    pub bad: [u32; BadSeries::ALL.len()],
    /// Whether the kubelet reports that it could not collect all metrics: `resource_scrape_error` or, under its
    /// older name, `scrape_error` is not 0.
    pub scrape_error: bool,
}

/// Decodes `body` and passes every series named in [`Metric`] to `sink`.
pub fn decode(body: &[u8], options: DecodeOptions, sink: &mut impl SampleSink) -> DecodeReport {
    let mut report = DecodeReport::default();
    let mut start = 0;
    for end in memchr_iter(b'\n', body).chain(std::iter::once(body.len())) {
        let line = &body[start..end];
        start = end + 1;
        let Some((family, rest)) = parse_family(line) else {
            report.scrape_error |= is_scrape_error(line);
            continue;
        };
        match parse_series(family, rest, options, sink) {
            Ok(()) => report.accepted += 1,
            Err(reason) => report.bad[reason as usize] += 1,
        }
    }
    report
}

#[derive(Clone, Copy)]
enum Family {
    Node(Metric),
    Container(Metric),
}

/// Returns the family of a line and the rest after its name; `None` for all other lines.
fn parse_family(line: &[u8]) -> Option<(Family, &[u8])> {
    const CONTAINER: [(&[u8], Metric); 4] = [
        (b"cpu_usage_seconds_total", Metric::Cpu),
        (b"memory_working_set_bytes", Metric::Memory),
        (b"start_time_seconds", Metric::StartTime),
        (b"swap_usage_bytes", Metric::Swap),
    ];
    const NODE: [(&[u8], Metric); 3] = [
        (b"cpu_usage_seconds_total", Metric::Cpu),
        (b"memory_working_set_bytes", Metric::Memory),
        (b"swap_usage_bytes", Metric::Swap),
    ];
    let line = if matches!(line.first(), Some(b' ' | b'\t')) { labels::skip_blanks(line) } else { line };
    let (rest, names, node): (_, &[(&[u8], Metric)], _) = match line.first()? {
        b'c' => (line.strip_prefix(b"container_")?, &CONTAINER, false),
        b'n' => (line.strip_prefix(b"node_")?, &NODE, true),
        _ => return None,
    };
    let (rest, metric) =
        names.iter().find_map(|(name, metric)| Some((rest.strip_prefix(*name)?, *metric)))?;
    matches!(rest.first(), Some(b'{' | b' ' | b'\t'))
        .then_some((if node { Family::Node(metric) } else { Family::Container(metric) }, rest))
}

/// Returns whether a line is the kubelet's scrape error with another value than 0.
fn is_scrape_error(line: &[u8]) -> bool {
    if !matches!(line.first(), Some(b'r' | b's')) {
        return false;
    }
    let rest = line.strip_prefix(b"resource_").unwrap_or(line);
    let Some(rest) = rest.strip_prefix(b"scrape_error") else { return false };
    let rest = match rest.first() {
        Some(b' ' | b'\t') => Some(rest),
        Some(b'{') => labels::parse(&rest[1..]).map(|(_, rest)| rest),
        _ => None,
    };
    rest.and_then(|rest| number::parse_float(labels::next_token(rest).0)).is_some_and(|value| value != 0.0)
}

fn parse_series(
    family: Family,
    rest: &[u8],
    options: DecodeOptions,
    sink: &mut impl SampleSink,
) -> Result<(), BadSeries> {
    if let Family::Container(metric) = family
        && let Some(names) = sink.expected_names(metric)
        && let Some(rest) = labels::strip_expected(rest, names)
    {
        return sink.add_expected(metric, parse_sample(metric, rest, options)?);
    }
    let rest = labels::skip_blanks(rest);
    let (found, rest) = if rest.first() == Some(&b'{') {
        labels::parse(&rest[1..]).ok_or(BadSeries::Labels)?
    } else {
        (labels::ContainerLabels::default(), rest)
    };
    match family {
        Family::Node(metric) => sink.node(metric, parse_sample(metric, rest, options)?),
        Family::Container(metric) => {
            let key = found.into_key().ok_or(BadSeries::Labels)?;
            sink.container(metric, &key, parse_sample(metric, rest, options)?)
        }
    }
}

/// Parses `VALUE [TIMESTAMP] [# exemplar]`.
fn parse_sample(metric: Metric, rest: &[u8], options: DecodeOptions) -> Result<Sample, BadSeries> {
    let (value, rest) = labels::next_token(rest);
    let value = number::parse_float(value).ok_or(BadSeries::Value)?;
    let value = match metric {
        Metric::Cpu => number::truncate(value * 1e9),
        // A start time may be in the future, but must fit in a timestamp.
        Metric::StartTime => number::truncate(value * 1e9).filter(|at| i64::try_from(*at).is_ok()),
        Metric::Memory | Metric::Swap => number::truncate(value),
    }
    .ok_or(BadSeries::Value)?;
    let (time, rest) = labels::next_token(rest);
    let (timestamp_ns, rest) = if time.is_empty() || time.starts_with(b"#") {
        (options.default_timestamp_ns, time)
    } else {
        let time = match options.format {
            ExpositionFormat::Text => number::parse_milliseconds(time),
            ExpositionFormat::OpenMetrics => number::parse_seconds(time),
        };
        (time.ok_or(BadSeries::Timestamp)?, labels::next_token(rest).0)
    };
    if !rest.is_empty() && !rest.starts_with(b"#") {
        return Err(BadSeries::Trailing);
    }
    Ok(Sample { value, timestamp_ns })
}
