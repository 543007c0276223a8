//! How long each APIService has announced the CA bundle that it has now, by this process's monotonic clock.
//!
//! `managedFields` have the time of the last write, but by kube-apiserver's clock: if the operator's clock is a minute
//! ahead, a CA would count as known to every kube-apiserver at once. A restart of the operator only prolongs the wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::core::DynamicObject;
use serde_json::Value;

use crate::common::ManagedObject;

/// What clients of the aggregation layer depend on: the Service and the CA bundle.
type Announcement = [Option<Value>; 2];

/// Since when each APIService announces what it announces now.
#[derive(Debug, Default)]
pub(super) struct Announced(BTreeMap<ManagedObject, (Announcement, Instant)>);

impl Announced {
    /// Records an object that was read or written; `None` if it does not exist. Other objects than APIServices are ignored.
    pub(super) fn record(&mut self, object: ManagedObject, found: Option<&DynamicObject>, now: Instant) {
        if !ManagedObject::API_SERVICES.contains(&object) {
            return;
        }
        let Some(found) = found else {
            self.0.remove(&object);
            return;
        };
        let announcement =
            ["/spec/service", "/spec/caBundle"].map(|pointer| found.data.pointer(pointer).cloned());
        match self.0.get(&object) {
            Some((known, _)) if *known == announcement => {}
            _ => _ = self.0.insert(object, (announcement, now)),
        }
    }

    /// Returns for how long each APIService has announced what it announces now.
    pub(super) fn ages(&self, now: Instant) -> BTreeMap<ManagedObject, Duration> {
        self.0.iter().map(|(object, (_, since))| (*object, now.saturating_duration_since(*since))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn api_service(namespace: &str, bundle: &str, version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": { "name": "v1.metrics.k8s.io", "resourceVersion": version },
            "spec": { "service": { "name": "metrics-core", "namespace": namespace }, "caBundle": bundle },
        }))
        .expect("an APIService")
    }

    #[test]
    fn counts_from_the_last_change_of_bundle_or_service() {
        let mut announced = Announced::default();
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let object = ManagedObject::ApiServiceV1;
        let mut record = |found: Option<DynamicObject>, at: u32| {
            announced.record(object, found.as_ref(), begin + second * at);
            announced.ages(begin + second * 100).get(&object).copied()
        };
        assert_eq!(record(Some(api_service("a", "one", "1")), 10), Some(second * 90));
        assert_eq!(
            record(Some(api_service("a", "one", "2")), 20),
            Some(second * 90),
            "another field changed"
        );
        assert_eq!(record(Some(api_service("a", "two", "3")), 30), Some(second * 70));
        assert_eq!(record(Some(api_service("b", "two", "4")), 40), Some(second * 60));
        assert_eq!(record(None, 50), None);
        assert_eq!(
            record(Some(api_service("b", "two", "5")), 60),
            Some(second * 40),
            "it was deleted in between"
        );
        announced.record(ManagedObject::Service, Some(&api_service("a", "one", "1")), begin);
        assert_eq!(announced.ages(begin).len(), 1);
    }
}
