//! Bodies of one kubelet, one after the other, as production decodes them: the store expects the names of the last body
//! in their order, and compares instead of parsing. That must change nothing.

use std::sync::Arc;

use metrics_core::ingest::decode::{
    BadSeries, ContainerKey, DecodeOptions, ExpositionFormat, Metric, Sample, SampleSink, decode,
};
use metrics_core::ingest::store::RequestTime;
use metrics_core::model::labels::Labels;

use super::node::{empty_store, node, nodes, pods};
use super::{outcome, size};

/// Separates two bodies.
const SEPARATOR: &[u8] = b"\n%%\n";
/// The maximum number of bodies.
const BODIES: usize = 6;
/// Pods whose rows are compared; the seeds have them.
const PODS: [(&str, &str); 4] = [("n", "p"), ("n", "q"), ("kube-system", "coredns-1"), ("default", "web-0")];

/// A sink that expects nothing.
struct Unexpected<'a, S>(&'a mut S);

impl<S: SampleSink> SampleSink for Unexpected<'_, S> {
    fn node(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        self.0.node(metric, sample)
    }

    fn container(&mut self, metric: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries> {
        self.0.container(metric, key, sample)
    }
}

/// Bodies of `/metrics/resource`, separated by `%%` in a line of its own.
pub fn scrapes(input: &[u8]) -> u64 {
    let of_format = [ExpositionFormat::Text, ExpositionFormat::OpenMetrics].map(|format| {
        let (expecting, plain) = (empty_store(), empty_store());
        let tickets = [&expecting, &plain].map(|(directory, store)| {
            let node = Arc::new(node("node", "uid", Labels::default()));
            directory.apply_node((*node).clone());
            for (namespace, name) in PODS {
                directory.apply_pod(namespace, name, "uid", Labels::default());
            }
            directory.end_node_list();
            directory.end_pod_list();
            store.insert_node(&node)
        });
        let mut reports = Vec::new();
        let mut start = 0;
        for round in 0..BODIES {
            let Some(rest) = input.get(start..) else { break };
            let end = rest.windows(SEPARATOR.len()).position(|part| part == SEPARATOR).unwrap_or(rest.len());
            let body = &rest[..end];
            start += end + SEPARATOR.len();
            let number = i64::try_from(round).unwrap_or(0);
            let time = RequestTime {
                monotonic_ms: 1 + 15_000 * round as u64,
                unix_ns: 1_764_025_740_000_000_000 + 15_000_000_000 * number,
            };
            let options = DecodeOptions { format, default_timestamp_ns: time.unix_ns };
            let (Some(mut one), Some(mut other)) =
                (expecting.1.begin_batch(tickets[0]), plain.1.begin_batch(tickets[1]))
            else {
                panic!("the node was not removed")
            };
            let report = decode(body, options, &mut one);
            let unexpected = decode(body, options, &mut Unexpected(&mut other));
            assert_eq!(report, unexpected, "body {round}");
            let (one, other) = (expecting.1.put(tickets[0], one, time), plain.1.put(tickets[1], other, time));
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "body {round}");
            assert_eq!(nodes(&*expecting.1, None), nodes(&*plain.1, None), "body {round}");
            assert_eq!(pods(&*expecting.1, None, None), pods(&*plain.1, None, None), "body {round}");
            reports.push((size(report.accepted as usize), report.bad.map(|count| size(count as usize))));
        }
        (reports, pods(&*expecting.1, None, None).len(), nodes(&*expecting.1, None).len())
    });
    outcome(of_format)
}
