//! Watches the APIServices all the time while a journey runs: each that had ready endpoints must keep some.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::api::Api;
use crate::error::Result;

const INTERVAL: Duration = Duration::from_millis(60);

const API_SERVICES: [&str; 2] = ["v1beta1.metrics.k8s.io", "v1.metrics.k8s.io"];

/// What was seen of the APIServices; the sampling ends when this is dropped.
pub(super) struct Sampler {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sampler {
    /// Starts the sampling. `is_deletion`: the APIServices may disappear.
    pub(super) fn start(api: Arc<Api>, is_deletion: bool) -> Self {
        let seen = Arc::new(Mutex::new(Seen { is_deletion, ..Seen::default() }));
        let shared = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                // An error of the test's own connection is no sample.
                if let Ok(sample) = sample(&api).await {
                    shared.lock().add(sample, Instant::now());
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Self { seen, task }
    }

    /// Returns what violates the rules so far.
    pub(super) fn violations(&self) -> Vec<String> {
        self.seen.lock().violations(Instant::now())
    }
}

/// One APIService at one time.
#[derive(Clone, Debug, Default)]
struct Sample {
    /// Whether it exists and references a Service.
    exists: bool,
    ready: usize,
    /// The reason why it is not available; `None` if it is or this is not known yet.
    unavailable: Option<String>,
    available: bool,
}

async fn sample(api: &Api) -> Result<BTreeMap<&'static str, Sample>> {
    let mut samples = BTreeMap::new();
    let mut found = Vec::new();
    for name in API_SERVICES {
        found.push((name, api.get(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}")).await?));
    }
    // After the APIServices: a Service that they reference must have endpoints by now.
    let slices = api.list("/apis/discovery.k8s.io/v1/endpointslices").await?;
    for (name, object) in found {
        let service = object.as_ref().map_or(&Value::Null, |object| &object["spec"]["service"]);
        let mut sample =
            Sample { exists: !service.is_null(), ready: ready(&slices, service), ..Sample::default() };
        let conditions = object.as_ref().and_then(|object| object["status"]["conditions"].as_array());
        for condition in conditions.into_iter().flatten().filter(|one| one["type"] == "Available") {
            sample.available = condition["status"] == "True";
            sample.unavailable =
                (!sample.available).then(|| format!("{}: {}", condition["reason"], condition["message"]));
        }
        samples.insert(name, sample);
    }
    Ok(samples)
}

/// Returns the number of ready endpoints of a Service.
fn ready(slices: &[Value], service: &Value) -> usize {
    let of_service = |slice: &&Value| {
        let metadata = &slice["metadata"];
        metadata["namespace"] == service["namespace"]
            && metadata["labels"]["kubernetes.io/service-name"] == service["name"]
    };
    let endpoints =
        slices.iter().filter(of_service).filter_map(|slice| slice["endpoints"].as_array()).flatten();
    endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false).count()
}

/// The state of one kind of trouble of one APIService.
#[derive(Clone, Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    longest: Duration,
    reason: String,
}

impl Trouble {
    fn set(&mut self, reason: Option<&str>, now: Instant) {
        match (reason, self.since) {
            (Some(reason), None) => (self.since, self.reason) = (Some(now), reason.to_owned()),
            (None, Some(since)) => {
                self.longest = self.longest.max(now - since);
                self.since = None;
            }
            _ => {}
        }
    }

    fn duration(&self, now: Instant) -> Duration {
        self.since.map_or(self.longest, |since| self.longest.max(now - since))
    }
}

#[derive(Default)]
struct Seen {
    is_deletion: bool,
    /// By APIService: whether it was served, and its troubles since then.
    states: BTreeMap<&'static str, (bool, [Trouble; 3])>,
}

/// The rules, in the order of the troubles.
const RULES: [&str; 3] = ["was absent", "had no ready endpoint", "was not available"];

impl Seen {
    fn add(&mut self, samples: BTreeMap<&'static str, Sample>, now: Instant) {
        for (name, sample) in samples {
            let (was_served, troubles) = self.states.entry(name).or_default();
            *was_served |= sample.exists && sample.ready > 0 && sample.available;
            if !*was_served {
                continue;
            }
            let absent = (!sample.exists && !self.is_deletion).then_some("it was deleted");
            let empty = (sample.exists && sample.ready == 0).then_some("no endpoint");
            let unavailable = sample.unavailable.as_deref().filter(|_| sample.exists && !self.is_deletion);
            for (trouble, reason) in troubles.iter_mut().zip([absent, empty, unavailable]) {
                trouble.set(reason, now);
            }
        }
    }

    /// A trouble counts when it lasts: a sample is not one read, and the endpoints follow the pods within milliseconds. The
    /// documented limit for a foreground deletion is a second.
    fn violations(&self, now: Instant) -> Vec<String> {
        let tolerated = Duration::from_millis(if self.is_deletion { 1000 } else { 250 });
        let mut violations = Vec::new();
        for (name, (_, troubles)) in &self.states {
            for (trouble, rule) in troubles.iter().zip(RULES) {
                let duration = trouble.duration(now);
                if duration > tolerated {
                    violations.push(format!(
                        "APIService {name} {rule} for {} ms ({})",
                        duration.as_millis(),
                        trouble.reason
                    ));
                }
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NAME: &str = API_SERVICES[0];

    fn served() -> Sample {
        Sample { exists: true, ready: 1, available: true, unavailable: None }
    }

    fn after(is_deletion: bool, samples: &[(u64, Sample)]) -> Vec<String> {
        let begin = Instant::now();
        let mut seen = Seen { is_deletion, ..Seen::default() };
        let mut now = begin;
        for (at, sample) in samples {
            now = begin + Duration::from_millis(*at);
            seen.add([(NAME, sample.clone())].into(), now);
        }
        seen.violations(now)
    }

    #[test]
    fn an_api_service_must_not_lose_its_endpoints() {
        let empty = Sample { ready: 0, ..served() };
        let lost = [(0, served()), (100, empty.clone()), (400, empty.clone())];
        assert!(after(false, &lost)[0].contains("no ready endpoint for 300 ms"), "{:?}", after(false, &lost));
        assert!(after(true, &lost).is_empty(), "a deletion may take a second");
        let brief = [(0, served()), (100, empty.clone()), (200, served())];
        assert!(after(false, &brief).is_empty());
        let over = [(0, served()), (100, empty.clone()), (500, served()), (9000, served())];
        assert_eq!(after(false, &over).len(), 1, "a trouble that is over counts");
        assert!(after(false, &[(0, empty.clone()), (900, empty)]).is_empty(), "it had none before");
    }

    #[test]
    fn an_api_service_must_not_disappear_or_become_unavailable() {
        let absent = Sample::default();
        let lost = [(0, served()), (100, absent.clone()), (400, absent.clone())];
        assert!(after(false, &lost)[0].contains("was absent"));
        assert!(after(true, &lost).is_empty());
        let broken =
            Sample { available: false, unavailable: Some("FailedDiscoveryCheck".to_owned()), ..served() };
        let lost = [(0, served()), (100, broken.clone()), (400, broken)];
        assert!(after(false, &lost)[0].contains("FailedDiscoveryCheck"));
    }

    #[test]
    fn counts_ready_endpoints_of_the_service_only() {
        let slice = |service: &str, ready: bool| {
            json!({"metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": service}},
                "endpoints": [{"conditions": {"ready": ready}}, {"conditions": {}}]})
        };
        let slices = [slice("s", true), slice("s", false), slice("other", true)];
        assert_eq!(ready(&slices, &json!({"namespace": "a", "name": "s"})), 3);
        assert_eq!(ready(&slices, &json!({"namespace": "b", "name": "s"})), 0);
    }
}
