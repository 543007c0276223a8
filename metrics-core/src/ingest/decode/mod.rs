//! One exposition body of a kubelet's `/metrics/resource`, read in place.
//!
//! Understands the Prometheus text format 0.0.4 and OpenMetrics 1.0 as far as the resource metrics need
//! them (KEP-727, "Resource Metrics Endpoint"): the series named in [`Metric`], with any further labels in
//! any order. Every other line is skipped by its first bytes. A line that cannot be understood costs that
//! series alone and is counted by reason; no input makes [`decode`] fail or panic, and nothing is allocated
//! for a line unless a label value is escaped.

mod labels;
mod number;
#[cfg(test)]
#[allow(clippy::option_option)]
mod tests;

use std::borrow::Cow;

use memchr::memchr_iter;

/// The series that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// `*_cpu_usage_seconds_total`: [`Sample::value`] in nanoseconds.
    Cpu,
    /// `*_memory_working_set_bytes`: bytes.
    Memory,
    /// `*_swap_usage_bytes`: bytes.
    Swap,
    /// `container_start_time_seconds`: nanoseconds since the Unix epoch.
    StartTime,
}

impl Metric {
    /// How many there are.
    pub const COUNT: usize = 4;
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// In the unit of its [`Metric`], truncated towards zero as the float `value × 1e9` (or `value`) is.
    pub value: u64,
    /// Nanoseconds since the Unix epoch; [`Context::default_timestamp_ns`] where the line has none.
    pub timestamp_ns: i64,
}

/// Whose value it is. The bytes are as unescaped, not checked to be UTF-8, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerKey<'a> {
    /// The label `namespace`.
    pub namespace: Cow<'a, [u8]>,
    /// The label `pod`.
    pub pod: Cow<'a, [u8]>,
    /// The label `container`.
    pub container: Cow<'a, [u8]>,
}

/// Takes what [`decode`] finds, in the order of the body.
pub trait Sink {
    /// A value of the node.
    fn node(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries>;
    /// A value of a container.
    fn container(&mut self, metric: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries>;
    /// The namespace, pod and container whose value of this metric probably comes next, as the last body has it. None of
    /// the names holds a character that is escaped in a label.
    fn expects(&self, metric: Metric) -> Option<[&[u8]; 3]> {
        let _ = metric;
        None
    }
    /// A value of the container that [`Sink::expects`] told; whoever implements one implements the other.
    fn expected(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let _ = (metric, sample);
        Ok(())
    }
}

/// Why a series of interest was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BadSeries {
    /// The label block is malformed, or namespace, pod or container is missing or empty.
    Labels,
    /// The value is no finite number that is not negative.
    Value,
    /// The timestamp is no time.
    Timestamp,
    /// There is something behind the timestamp.
    Trailing,
    /// A namespace, pod or container name is not UTF-8, or longer than Kubernetes allows.
    Name,
    /// The series was there before in the same body; the first one counts.
    Duplicate,
    /// There are more containers than a node may have.
    TooMany,
}

impl BadSeries {
    /// All reasons, in order.
    pub const ALL: [Self; 7] = [
        Self::Labels,
        Self::Value,
        Self::Timestamp,
        Self::Trailing,
        Self::Name,
        Self::Duplicate,
        Self::TooMany,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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

/// How timestamps are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text: integer milliseconds.
    #[default]
    Text,
    /// OpenMetrics: seconds, possibly with a fraction.
    OpenMetrics,
}

/// What is known of a body besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// How timestamps are written.
    pub format: Format,
    /// The start of the request, nanoseconds since the Unix epoch.
    pub default_timestamp_ns: i64,
}

/// What became of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Series of interest that were taken.
    pub taken: u32,
    /// Series of interest that were left out, in the order of [`BadSeries::ALL`].
    pub bad: [u32; BadSeries::ALL.len()],
}

/// Reads `body` and hands every series of interest to `sink`.
pub fn decode(body: &[u8], context: Context, sink: &mut impl Sink) -> Report {
    let mut report = Report::default();
    let mut start = 0;
    for end in memchr_iter(b'\n', body).chain(std::iter::once(body.len())) {
        let line = &body[start..end];
        start = end + 1;
        let Some((family, rest)) = family(line) else { continue };
        match series(family, rest, context, sink) {
            Ok(()) => report.taken += 1,
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

/// The family of a line and what follows its name; `None` for all other lines.
fn family(line: &[u8]) -> Option<(Family, &[u8])> {
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

fn series(family: Family, rest: &[u8], context: Context, sink: &mut impl Sink) -> Result<(), BadSeries> {
    if let Family::Container(metric) = family
        && let Some(names) = sink.expects(metric)
        && let Some(rest) = labels::exactly(rest, names)
    {
        return sink.expected(metric, sample(metric, rest, context)?);
    }
    let rest = labels::skip_blanks(rest);
    let (found, rest) = if rest.first() == Some(&b'{') {
        labels::scan(&rest[1..]).ok_or(BadSeries::Labels)?
    } else {
        (labels::Found::default(), rest)
    };
    match family {
        Family::Node(metric) => sink.node(metric, sample(metric, rest, context)?),
        Family::Container(metric) => {
            let key = found.into_key().ok_or(BadSeries::Labels)?;
            sink.container(metric, &key, sample(metric, rest, context)?)
        }
    }
}

/// `VALUE [TIMESTAMP] [# exemplar]`.
fn sample(metric: Metric, rest: &[u8], context: Context) -> Result<Sample, BadSeries> {
    let (value, rest) = labels::word(rest);
    let value = number::float(value).ok_or(BadSeries::Value)?;
    let value = match metric {
        Metric::Cpu => number::truncate(value * 1e9),
        // A time, which may lie in the future but within what a time can be.
        Metric::StartTime => number::truncate(value * 1e9).filter(|at| i64::try_from(*at).is_ok()),
        Metric::Memory | Metric::Swap => number::truncate(value),
    }
    .ok_or(BadSeries::Value)?;
    let (time, rest) = labels::word(rest);
    let (timestamp_ns, rest) = if time.is_empty() || time.starts_with(b"#") {
        (context.default_timestamp_ns, time)
    } else {
        let time = match context.format {
            Format::Text => number::milliseconds(time),
            Format::OpenMetrics => number::seconds(time),
        };
        (time.ok_or(BadSeries::Timestamp)?, labels::word(rest).0)
    };
    if !rest.is_empty() && !rest.starts_with(b"#") {
        return Err(BadSeries::Trailing);
    }
    Ok(Sample { value, timestamp_ns })
}
