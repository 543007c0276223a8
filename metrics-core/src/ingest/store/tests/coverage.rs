//! Coverage and metrics.

use std::time::Duration;

use super::TestStore;

/// Long before the samples.
const OLD: Option<i64> = Some(-1000);

#[test]
fn a_cluster_without_nodes_is_complete_when_it_is_listed() {
    let fixture = TestStore::new();
    assert!(!fixture.store.coverage().is_complete());
    assert!(!fixture.store.coverage().is_nearly_complete());
    fixture.synced();
    let coverage = fixture.store.coverage();
    assert!(coverage.is_complete() && coverage.is_nearly_complete() && !coverage.is_empty());
}

#[test]
fn two_bodies_with_the_same_samples_are_not_rates() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.synced();
    let sample = [("n/p/x", 1.0, 1, OLD), ("n/q/y", 1.0, 1, OLD)];
    for _ in 0..3 {
        let put = fixture.body(ticket, 0, &sample).unwrap();
        assert!(!put.pods_measured && !put.node_measured);
        let coverage = fixture.store.coverage();
        assert_eq!((coverage.pods_due, coverage.pods_measured), (2, 0));
        assert_eq!((coverage.nodes_responding, coverage.nodes_covered), (1, 0));
        assert!(coverage.is_empty() && coverage.is_settled());
        assert!(!coverage.is_nearly_complete() && !coverage.is_complete());
    }
}

#[test]
fn a_pod_is_measured_when_all_its_containers_are() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.synced();
    let body = |at, second: f64| {
        fixture.body(ticket, at, &[("n/p/x", 1.0 + at as f64, 1, OLD), ("n/p/y", second, 1, OLD)])
    };
    body(0, 1.0);
    // The second container restarts.
    assert!(!body(10, 0.5).unwrap().pods_measured);
    let coverage = fixture.store.coverage();
    assert_eq!((coverage.pods_due, coverage.pods_measured, coverage.containers_measured), (1, 0, 1));
    assert!(!coverage.is_empty(), "the node itself has a rate");
    assert!(body(20, 1.5).unwrap().pods_measured);
    let coverage = fixture.store.coverage();
    assert_eq!((coverage.pods_due, coverage.pods_measured, coverage.containers_measured), (1, 1, 2));
    assert!(coverage.is_complete());
}

#[test]
fn young_pods_and_containers_without_usage_are_not_due() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.synced();
    let put = fixture.body(
        ticket,
        0,
        &[
            ("n/young/x", 1.0, 1, Some(-29)),
            ("n/restarting/old", 1.0, 1, OLD),
            ("n/restarting/young", 1.0, 1, Some(-1)),
            ("n/without-cpu/x", 0.0, 1, OLD),
            ("n/without-memory/x", 1.0, 0, OLD),
            ("n/due/x", 1.0, 1, Some(-30)),
            ("n/without-start/x", 1.0, 1, None),
        ],
    );
    assert!(!put.unwrap().pods_measured);
    assert_eq!(fixture.store.coverage().pods_due, 2);
}

#[test]
fn a_container_without_usage_does_not_keep_its_node_incomplete() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.synced();
    let put = fixture.body(ticket, 0, &[("n/p/x", 0.0, 1, OLD), ("n/q/y", 1.0, 0, OLD)]);
    assert!(put.unwrap().pods_measured);
}

#[test]
fn a_node_that_fails_once_is_settled_and_twice_complete() {
    let fixture = TestStore::new();
    let tickets: Vec<_> = (0..2).map(|n| fixture.node(&format!("n{n}"), "1")).collect();
    fixture.synced();
    fixture.body(tickets[0], 0, &[("n/p/x", 1.0, 1, OLD)]);
    fixture.body(tickets[0], 10, &[("n/p/x", 2.0, 1, OLD)]);
    assert!(!fixture.store.coverage().is_settled(), "one has neither responded nor failed");
    fixture.store.scrape_failed(tickets[1]);
    let coverage = fixture.store.coverage();
    assert!(coverage.is_settled() && coverage.is_nearly_complete());
    assert!(!coverage.is_complete(), "a kubelet that fails once may respond to the next request");
    fixture.store.scrape_failed(tickets[1]);
    assert!(fixture.store.coverage().is_complete());
    fixture.body(tickets[1], 0, &[("n/q/x", 1.0, 1, OLD)]);
    let coverage = fixture.store.coverage();
    assert_eq!((coverage.nodes_failing, coverage.nodes_responding), (0, 2));
    assert!(!coverage.is_complete() && !coverage.is_nearly_complete(), "its pods have no rates yet");
}

#[test]
fn a_few_missing_nodes_and_pods_are_tolerated_in_large_clusters() {
    let fixture = TestStore::new();
    let tickets: Vec<_> = (0..20).map(|n| fixture.node(&format!("n{n}"), "1")).collect();
    fixture.synced();
    for (n, ticket) in tickets[..18].iter().enumerate() {
        let key = format!("n/p{n}/x");
        fixture.body(*ticket, 0, &[(&key, 1.0, 1, OLD)]);
        fixture.body(*ticket, 10, &[(&key, 2.0, 1, OLD)]);
    }
    assert!(!fixture.store.coverage().is_nearly_complete(), "18 of 20 nodes");
    fixture.body(tickets[18], 0, &[("n/p18/x", 1.0, 1, OLD)]);
    assert!(!fixture.store.coverage().is_nearly_complete(), "18 of 19 pods");
    fixture.body(tickets[18], 10, &[("n/p18/x", 2.0, 1, OLD)]);
    assert!(fixture.store.coverage().is_nearly_complete(), "19 of 20 nodes");
}

#[test]
fn nothing_is_served_after_the_maximum_age() {
    let fixture = TestStore::with_max_age(Duration::from_millis(80));
    let ticket = fixture.node("a", "1");
    fixture.synced();
    fixture.body(ticket, 0, &[("n/p/x", 1.0, 1, OLD)]);
    fixture.body(ticket, 10, &[("n/p/x", 2.0, 1, OLD)]);
    assert!(!fixture.store.coverage().is_empty());
    fixture.store.scrape_failed(ticket);
    assert!(!fixture.store.coverage().is_empty(), "a failure alone changes nothing");
    fixture.directory.skip(Duration::from_millis(120));
    let coverage = fixture.store.coverage();
    assert!(coverage.is_empty());
    assert_eq!((coverage.pods_due, coverage.pods_measured, coverage.nodes_responding), (0, 0, 0));
}
