//! Coverage, readiness and metrics.

use super::TestStore;

#[test]
fn readiness_requires_most_nodes_but_no_dead_ones_and_is_kept() {
    let fixture = TestStore::new();
    assert!(!fixture.store.ready());
    fixture.synced();
    assert!(fixture.store.coverage().is_ready(), "a cluster without nodes");
    let tickets: Vec<_> = (0..3).map(|n| fixture.node(&format!("n{n}"), "1")).collect();
    assert!(!fixture.store.ready());
    for ticket in &tickets[..2] {
        fixture.store.scrape_failed(*ticket);
    }
    assert!(!fixture.store.ready());
    fixture.body(tickets[2], 0, &[]);
    fixture.body(tickets[2], 1, &[]);
    assert!(fixture.store.ready());
    fixture.node("later", "1");
    assert!(!fixture.store.coverage().is_ready());
    assert!(fixture.store.ready(), "a node that joins does not make the server unready");
}

#[test]
fn is_not_ready_if_all_nodes_fail() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.synced();
    fixture.store.scrape_failed(ticket);
    assert!(!fixture.store.ready());
}
