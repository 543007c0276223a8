//! The body of a kubelet's `/metrics/resource`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_core::decode::{BadSeries, ContainerKey, Context, Format, Metric, Sample, Sink, decode};

#[derive(Default)]
struct Count(u32);

impl Count {
    fn take(&mut self, sample: Sample) -> Result<(), BadSeries> {
        // Later sums of two such values cannot overflow.
        assert!(i64::try_from(sample.value).is_ok());
        self.0 += 1;
        Ok(())
    }
}

impl Sink for Count {
    fn node(&mut self, _: Metric, sample: Sample) -> Result<(), BadSeries> {
        self.take(sample)
    }

    fn container(&mut self, _: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries> {
        assert!(!key.namespace.is_empty() && !key.pod.is_empty() && !key.container.is_empty());
        self.take(sample)
    }
}

fuzz_target!(|body: &[u8]| {
    for format in [Format::Text, Format::OpenMetrics] {
        let mut count = Count::default();
        let report = decode(body, Context { format, default_timestamp_ns: 1 }, &mut count);
        assert_eq!(report.taken, count.0);
        // Taking lines away takes no series away but those that stood in them.
        let lines = body.split(|byte| *byte == b'\n').count();
        let found = report.taken as usize + report.bad.iter().map(|count| *count as usize).sum::<usize>();
        assert!(found <= lines);
    }
});
