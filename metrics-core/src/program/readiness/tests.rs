use super::*;

/// A cluster of ten nodes and 100 due pods, all with rates.
fn complete() -> Coverage {
    Coverage {
        synced: true,
        nodes: 10,
        nodes_measured: 10,
        nodes_covered: 10,
        nodes_served: 10,
        nodes_responding: 10,
        nodes_complete: 10,
        pods: 100,
        pods_due: 100,
        pods_measured: 100,
        ..Coverage::default()
    }
}

/// The same, with rates of this number of pods.
fn measured(pods_measured: usize) -> Coverage {
    Coverage { nodes_complete: 5, pods_measured, ..complete() }
}

/// All nodes respond, but none has a rate.
fn first_samples() -> Coverage {
    Coverage {
        nodes_measured: 0,
        nodes_served: 0,
        nodes_complete: 0,
        nodes_covered: 0,
        pods_measured: 0,
        ..complete()
    }
}

/// All nodes fail, and their last samples are too old.
fn all_fail() -> Coverage {
    Coverage { synced: true, nodes: 10, nodes_failing: 10, nodes_complete: 10, ..Coverage::default() }
}

/// A replica with simulated time.
struct Replica {
    readiness: Readiness,
    start: Instant,
}

impl Replica {
    fn new(others: Others) -> Self {
        let replica = Self { readiness: Readiness::default(), start: Instant::now() };
        replica.others(others);
        replica
    }

    fn others(&self, others: Others) {
        match others {
            Others::Unknown => {}
            Others::Serve => self.readiness.record(Poll::Served),
            Others::DoNotServe => (0..POLLS_UNSERVED).for_each(|_| self.readiness.record(Poll::Unserved)),
        }
        assert_eq!(self.readiness.0.lock().others, others);
    }

    fn is_ready(&self, at_s: u64, coverage: &Coverage) -> bool {
        self.readiness.check(self.start + Duration::from_secs(at_s), coverage).is_ok()
    }
}

#[test]
fn an_only_replica_waits_for_nearly_all_pods() {
    let replica = Replica::new(Others::DoNotServe);
    assert!(!replica.is_ready(0, &Coverage::default()), "before the first lists");
    assert!(!replica.is_ready(1, &first_samples()));
    assert!(!replica.is_ready(12, &measured(50)));
    assert!(!replica.is_ready(14, &measured(94)));
    assert!(replica.is_ready(16, &measured(95)));
}

#[test]
fn an_only_replica_serves_what_it_has_after_35_seconds() {
    let replica = Replica::new(Others::DoNotServe);
    let unsettled = Coverage { nodes_responding: 5, ..measured(40) };
    assert!(!replica.is_ready(0, &unsettled));
    assert!(!replica.is_ready(10, &measured(50)), "all nodes have responded");
    assert!(!replica.is_ready(44, &measured(50)));
    assert!(replica.is_ready(45, &measured(50)));
    let replica = Replica::new(Others::DoNotServe);
    assert!(!replica.is_ready(0, &unsettled));
    assert!(!replica.is_ready(89, &unsettled));
    assert!(replica.is_ready(90, &unsettled), "nodes that neither respond nor fail do not block for ever");
}

#[test]
fn a_replica_beside_a_serving_one_waits_for_every_node_and_pod() {
    let replica = Replica::new(Others::Serve);
    assert!(!replica.is_ready(0, &first_samples()));
    assert!(!replica.is_ready(40, &measured(99)));
    assert!(replica.is_ready(41, &complete()));
    let replica = Replica::new(Others::Serve);
    assert!(!replica.is_ready(0, &first_samples()));
    assert!(!replica.is_ready(89, &measured(99)));
    assert!(replica.is_ready(90, &measured(99)), "the wait is limited");
}

#[test]
fn waits_until_it_is_known_whether_another_replica_serves() {
    let replica = Replica::new(Others::Unknown);
    assert!(!replica.is_ready(0, &measured(99)));
    replica.readiness.record(Poll::Unclear);
    replica.readiness.record(Poll::Unserved);
    replica.readiness.record(Poll::Unclear);
    assert!(
        !replica.is_ready(5, &measured(99)),
        "one response may come from an endpoint that has just ended"
    );
    replica.others(Others::DoNotServe);
    assert!(replica.is_ready(6, &measured(99)));
}

#[test]
fn a_serving_replica_that_stops_is_noticed() {
    let replica = Replica::new(Others::Serve);
    assert!(!replica.is_ready(0, &measured(99)));
    replica.readiness.record(Poll::Unserved);
    replica.readiness.record(Poll::Unserved);
    replica.readiness.record(Poll::Served);
    replica.readiness.record(Poll::Unserved);
    assert!(!replica.is_ready(5, &measured(99)), "failures in between do not add up");
    replica.others(Others::DoNotServe);
    assert!(replica.is_ready(6, &measured(99)));
}

#[test]
fn is_never_ready_without_rates() {
    for others in [Others::Unknown, Others::Serve, Others::DoNotServe] {
        let replica = Replica::new(others);
        for at_s in [0, 60, 90, 600] {
            assert!(!replica.is_ready(at_s, &all_fail()), "{others:?} at {at_s} s");
            assert!(!replica.is_ready(at_s + 5, &first_samples()), "{others:?} at {at_s} s");
        }
    }
}

#[test]
fn is_ready_in_a_cluster_without_nodes() {
    let replica = Replica::new(Others::Unknown);
    assert!(!replica.is_ready(0, &Coverage::default()));
    assert!(replica.is_ready(0, &Coverage { synced: true, ..Coverage::default() }));
}

#[test]
fn becomes_unready_when_nothing_fresh_is_left_and_ready_again() {
    let replica = Replica::new(Others::DoNotServe);
    assert!(replica.is_ready(0, &complete()));
    assert!(replica.is_ready(100, &all_fail()));
    assert!(replica.is_ready(114, &all_fail()));
    assert!(!replica.is_ready(115, &all_fail()));
    assert!(!replica.is_ready(700, &all_fail()), "it stays unready");
    // Whether another replica serves must be found out again.
    replica.others(Others::DoNotServe);
    assert!(!replica.is_ready(710, &first_samples()));
    assert!(!replica.is_ready(720, &measured(50)), "the outage is no part of the wait");
    assert!(replica.is_ready(725, &measured(100)));
    assert!(replica.is_ready(726, &complete()));
}

#[test]
fn a_short_gap_or_a_part_of_the_nodes_does_not_make_it_unready() {
    let replica = Replica::new(Others::Serve);
    assert!(replica.is_ready(0, &complete()));
    assert!(replica.is_ready(10, &all_fail()));
    assert!(replica.is_ready(20, &measured(1)), "serving one pod is enough to stay ready");
    assert!(replica.is_ready(30, &all_fail()), "the time without samples starts again");
    assert!(replica.is_ready(44, &all_fail()));
    let one_serves = Coverage { nodes_served: 1, ..all_fail() };
    assert!(replica.is_ready(60, &one_serves));
    assert!(replica.is_ready(6000, &one_serves));
}

#[test]
fn reports_what_it_waits_for() {
    let problem = |others, coverage: &Coverage| {
        Replica::new(others).readiness.check(Instant::now(), coverage).unwrap_err()
    };
    assert!(problem(Others::Serve, &measured(99)).starts_with("another replica serves"));
    let alone = problem(Others::DoNotServe, &measured(50));
    assert!(alone.starts_with("50 of 100 pods"), "{alone}");
    let failing = problem(Others::DoNotServe, &all_fail());
    assert_eq!(failing, "no node has fresh rates: of 10 nodes 0 respond and 10 fail");
}
