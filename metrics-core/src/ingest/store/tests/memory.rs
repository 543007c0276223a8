//! Nodes that report very many containers.

use std::sync::Arc;

use super::{CONFIG, TestStore};
use crate::ingest::decode::{BadSeries, DecodeOptions, DecodeReport, ExpositionFormat, decode};
use crate::ingest::store::scrape_batch::MAX_CONTAINERS;
use crate::ingest::store::{NODE_ALLOWANCE, PutError, PutSummary, RequestTime, Store, Ticket};
use crate::memory::{MemoryBudget, MemoryClass};

fn fixture(memory: usize) -> (Arc<MemoryBudget>, TestStore) {
    let budget = MemoryBudget::new(memory);
    let TestStore { directory, .. } = TestStore::new();
    let store = Arc::new(Store::new(directory.clone(), CONFIG).with_memory(budget.clone()));
    (budget, TestStore { directory, store })
}

/// Stores a body of `containers` containers.
fn put(
    fixture: &TestStore,
    ticket: Ticket,
    containers: usize,
) -> (DecodeReport, Result<PutSummary, PutError>) {
    let mut body = "node_cpu_usage_seconds_total 1 1000\nnode_memory_working_set_bytes 1 1000\n".to_owned();
    for number in 0..containers {
        let labels = format!("{{container=\"c\",namespace=\"n\",pod=\"pod-{number:06}\"}}");
        body += &format!("container_cpu_usage_seconds_total{labels} 1 1000\n");
        body += &format!("container_memory_working_set_bytes{labels} 4096 1000\n");
    }
    let mut batch = fixture.store.begin_batch(ticket).unwrap();
    let options = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 1 };
    let report = decode(body.as_bytes(), options, &mut batch);
    let request = RequestTime { monotonic_ms: fixture.directory.now_ms(), unix_ns: 0 };
    (report, fixture.store.put(ticket, batch, request))
}

#[test]
fn a_body_has_a_bounded_number_of_containers() {
    let (_, fixture) = fixture(1 << 30);
    let ticket = fixture.node("n", "1");
    let (report, stored) = put(&fixture, ticket, MAX_CONTAINERS + 10);
    assert!(stored.is_ok());
    // CPU and memory of ten.
    assert_eq!(report.bad[BadSeries::TooMany as usize], 20);
}

#[test]
fn samples_of_very_many_containers_are_reserved() {
    let (budget, fixture) = fixture(8 << 20);
    let class = MemoryClass::NodeSamples;
    let (ordinary, hostile) = (fixture.node("ordinary", "1"), fixture.node("hostile", "2"));
    assert!(put(&fixture, ordinary, 500).1.is_ok());
    assert_eq!(budget.reserved(), 0, "an ordinary node reserves nothing");
    assert!(put(&fixture, hostile, 3000).1.is_ok());
    let reserved = budget.reserved_of(class);
    assert!(reserved > NODE_ALLOWANCE && reserved < 8 * NODE_ALLOWANCE, "{reserved}");
    assert!(put(&fixture, hostile, 3000).1.is_ok());
    let again = budget.reserved_of(class);
    assert!(again < reserved + NODE_ALLOWANCE / 8, "reserved once: {reserved} {again}");
    let (_, stored) = put(&fixture, hostile, 20_000);
    assert!(matches!(stored, Err(PutError::NoMemory(bytes)) if bytes > budget.max(class)), "{stored:?}");
    assert_eq!(budget.reserved_of(class), again, "the last good samples stay");
    assert!(put(&fixture, ordinary, 500).1.is_ok());
    assert!(put(&fixture, hostile, 500).1.is_ok());
    assert_eq!(budget.reserved_of(class), 0);
    assert!(put(&fixture, hostile, 3000).1.is_ok());
    fixture.store.remove_node(hostile);
    assert_eq!(budget.reserved_of(class), 0);
}
