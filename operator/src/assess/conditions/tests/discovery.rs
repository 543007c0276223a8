//! Replicas that receive no changes from kube-apiserver.

use super::*;

/// A pipeline whose replicas have watches of these ages in seconds.
fn with_watch_ages(replicas: &[&[(&str, u64)]]) -> Observed {
    let mut observed = healthy();
    let reported = observed.replicas[0].clone();
    let pods = replicas.iter().enumerate().map(|(at, watches)| {
        let mut report = (**reported.report.as_ref().expect("a report")).clone();
        report.watches = watches
            .iter()
            .map(|(watch, age)| crds::report::WatchAge { watch: (*watch).to_owned(), age_seconds: *age })
            .collect();
        let pod = format!("metrics-core-{at}");
        ReplicaReport { pod, report: Ok(std::sync::Arc::new(report)), ..reported.clone() }
    });
    observed.replicas = pods.collect();
    observed
}

#[test]
fn names_the_replica_that_receives_nothing_from_kube_apiserver() {
    let fresh: &[(&str, u64)] = &[("nodes", 30), ("pods", 60)];
    let observed =
        with_watch_ages(&[fresh, &[("nodes", 61), ("pods", 300), ("authentication_config", 9)], fresh]);
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(short(&conditions, "NodesCovered"), (ConditionStatus::True, Reason::DiscoveryStale));
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::True, Reason::DiscoveryStale));
    let message = &conditions["NodesCovered"].message;
    assert!(message.contains("nothing from kube-apiserver about nodes and pods"), "{message}");
    assert!(message.contains("in pod metrics-core-1 of metrics-core."), "{message}");
    assert!(message.contains("kubectl logs metrics-core-1 "), "{message}");
    assert_eq!(message.matches("New nodes and pods have no metrics there.").count(), 1, "{message}");
}

#[test]
fn no_current_replica_is_a_fault_that_leaves_ready_true() {
    let stale: &[(&str, u64)] = &[("pods", 100)];
    let observed = with_watch_ages(&[stale, stale, stale, stale]);
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(short(&conditions, "NodesCovered"), (ConditionStatus::False, Reason::DiscoveryStale));
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::True, Reason::DiscoveryStale));
    let message = &conditions["NodesCovered"].message;
    assert!(message.contains("pods metrics-core-0, metrics-core-1, metrics-core-2 and 1 more"), "{message}");
}

#[test]
fn stale_certificates_and_watches_of_a_newer_version_are_warnings() {
    for (watch, words) in [
        ("authentication_config", "front-proxy CA is not accepted"),
        ("serving_certificate", "serving certificate is not used"),
        ("of_a_newer_version", "about other objects for"),
    ] {
        let observed = with_watch_ages(&[&[("nodes", 1), ("pods", 1), (watch, 90)]]);
        let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
        assert_eq!(short(&conditions, "NodesCovered"), (ConditionStatus::True, Reason::DiscoveryStale));
        let message = &conditions["NodesCovered"].message;
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn current_watches_and_a_version_without_ages_are_as_expected() {
    for watches in [&[("nodes", 60), ("pods", 35)][..], &[]] {
        let conditions = evaluated(&with_watch_ages(&[watches]), &plan(), &BTreeMap::new());
        assert_eq!(short(&conditions, "NodesCovered"), (ConditionStatus::True, Reason::AsExpected));
    }
}
