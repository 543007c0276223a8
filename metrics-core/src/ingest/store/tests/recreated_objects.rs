//! Pods and nodes that are recreated or moved.

use std::time::Duration;

use super::TestStore;
use crate::model::rows::{Lookup, Rows};

#[test]
fn a_recreated_pod_gets_no_samples_of_its_predecessor() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.pod("n/p", "u1");
    fixture.synced();
    fixture.body(ticket, 0, &[("n/p/x", 10.0, 1, Some(-1000))]);
    fixture.body(ticket, 10, &[("n/p/x", 20.0, 1, Some(-1000))]);
    assert_eq!(fixture.all(), ["n/p: x=1000"]);
    std::thread::sleep(Duration::from_millis(5));
    fixture.pod("n/p", "u2");
    assert_eq!(fixture.lookup("n/p"), Lookup::Unmeasured);
    std::thread::sleep(Duration::from_millis(5));
    fixture.body(ticket, 20, &[("n/p/x", 30.0, 1, Some(15))]);
    assert_eq!(fixture.lookup("n/p"), Lookup::Unmeasured, "a newer start");
    fixture.directory.skip(Duration::from_secs(10));
    fixture.body(ticket, 30, &[("n/p/x", 31.0, 1, Some(15))]);
    assert_eq!(fixture.lookup("n/p"), Lookup::Found);
}

#[test]
fn without_start_times_a_recreated_pod_needs_two_own_samples() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.pod("n/p", "u1");
    fixture.synced();
    fixture.body(ticket, 0, &[("n/p/x", 10.0, 1, None)]);
    std::thread::sleep(Duration::from_millis(5));
    fixture.pod("n/p", "u2");
    std::thread::sleep(Duration::from_millis(5));
    fixture.body(ticket, 10, &[("n/p/x", 20.0, 1, None)]);
    assert_eq!(
        fixture.lookup("n/p"),
        Lookup::Unmeasured,
        "the counter increased, but part of it is the predecessor's"
    );
}

#[test]
fn a_recreated_node_starts_without_samples() {
    let fixture = TestStore::new();
    let old = fixture.node("a", "1");
    fixture.pod("n/p", "u1");
    fixture.synced();
    fixture.body(old, 0, &[("n/p/x", 10.0, 1, None)]);
    fixture.body(old, 10, &[("n/p/x", 20.0, 1, None)]);
    let new = fixture.node("a", "2");
    assert_eq!(fixture.store.node("a", &mut |_| {}), Lookup::Unmeasured);
    assert!(fixture.all().is_empty());
    assert_eq!(fixture.body(old, 20, &[("n/p/x", 30.0, 1, None)]), None, "the old node's ticket is invalid");
    fixture.store.remove_node(old);
    fixture.body(new, 0, &[("n/p/x", 1.0, 1, None)]);
    fixture.body(new, 10, &[("n/p/x", 2.0, 1, None)]);
    assert_eq!(fixture.all(), ["n/p: x=100"]);
    fixture.store.remove_node(new);
    assert!(fixture.all().is_empty());
    assert_eq!(fixture.store.state.read().free.len(), 1);
}

#[test]
fn reads_a_moved_pod_where_it_started_last() {
    let fixture = TestStore::new();
    let (a, b) = (fixture.node("a", "1"), fixture.node("b", "1"));
    fixture.pod("n/p", "u");
    fixture.synced();
    fixture.body(a, 0, &[("n/p/x", 10.0, 1, Some(-1000))]);
    fixture.body(a, 10, &[("n/p/x", 20.0, 1, Some(-1000))]);
    assert_eq!(fixture.all(), ["n/p: x=1000"]);
    fixture.body(b, 12, &[("n/p/x", 0.5, 1, Some(11))]);
    assert!(fixture.all().is_empty(), "never the old node's usage once the new node reports the pod");
    fixture.body(b, 20, &[("n/p/x", 1.3, 1, Some(11))]);
    assert_eq!(fixture.all(), ["n/p: x=100"]);
    fixture.body(a, 20, &[("n/other/x", 1.0, 1, None)]);
    assert_eq!(fixture.all(), ["n/p: x=100"]);
    fixture.body(b, 30, &[("n/other2/x", 1.0, 1, None)]);
    assert!(fixture.all().is_empty());
}
