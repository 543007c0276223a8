//! One Deployment with its autoscaler: idle, loaded, scaled, idle again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{NAMESPACE, objects, timeout};
use crate::error::{Doing as _, Result};
use crate::testbed::cluster::{Cluster, server};
use crate::testbed::http::Request;
use crate::testbed::kubectl::Client;
use crate::testbed::pki::{Identity, Subject};

/// The default sync period of the autoscaler's controller, over which the starts of the load are spread.
const PERIOD: Duration = Duration::from_secs(15);
/// An idle pod must have had a rate for a scrape interval and for a kubelet's longest sample period.
const IDLE: Duration = Duration::from_secs(20);
/// The timeout until the autoscaler sees one idle pod.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// The timeout until it wants another pod.
const LOAD_TIMEOUT: Duration = Duration::from_secs(180);

/// What the API server has of a lane.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The names of the pods, and whether their container is ready and has metrics.
    pods: Vec<(String, bool)>,
    /// The utilization in percent that the autoscaler saw last.
    utilization: Option<u64>,
    /// The number of replicas that it wants.
    desired: Option<u64>,
}

/// The state of all lanes, by name.
pub(super) struct Observed(pub(super) HashMap<String, State>);

/// Reads the state of all lanes with three requests: kubectl would take more CPU than what is measured.
pub(super) struct Observer<'a> {
    cluster: &'a Cluster,
    identity: Identity,
}

impl<'a> Observer<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Result<Self> {
        let admin = Subject::user("reaction", Some("system:masters"));
        Ok(Self { cluster, identity: cluster.cluster_authority()?.issue(&admin)? })
    }

    pub(super) fn observe(&self) -> Result<Observed> {
        let of = |group: &str, resource: &str| format!("/{group}/namespaces/{NAMESPACE}/{resource}");
        let pods = self.items(&of("api/v1", "pods"))?;
        let autoscalers = self.items(&of("apis/autoscaling/v2", "horizontalpodautoscalers"))?;
        // The server may have just been started.
        let metrics = self.items(&of("apis/metrics.k8s.io/v1beta1", "pods")).unwrap_or_default();
        Ok(Observed(states(&pods, &autoscalers, &metrics)))
    }

    fn items(&self, path: &str) -> Result<Vec<Value>> {
        let request = Request::get(format!("{}{path}", server())).identity(&self.identity);
        let response = self.cluster.send(&request)?.ok()?;
        let mut list: Value = serde_json::from_slice(&response.body).doing(|| format!("decode {path}"))?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }
}

/// The autoscaler's status may be that of an earlier pod and server, hence the metrics.
fn states(pods: &[Value], autoscalers: &[Value], metrics: &[Value]) -> HashMap<String, State> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lanes: HashMap<String, State> = HashMap::new();
    for autoscaler in autoscalers {
        let status = &autoscaler["status"];
        let state = lanes.entry(text(&autoscaler["metadata"]["name"])).or_default();
        state.utilization = status["currentMetrics"][0]["resource"]["current"]["averageUtilization"].as_u64();
        state.desired = status["desiredReplicas"].as_u64();
    }
    for pod in pods {
        let name = &pod["metadata"]["name"];
        let measured = metrics.iter().any(|metrics| metrics["metadata"]["name"] == *name);
        let ready = measured && pod["status"]["containerStatuses"][0]["ready"] == true;
        let state = lanes.entry(text(&pod["metadata"]["labels"]["app"])).or_default();
        state.pods.push((text(name), ready));
    }
    lanes
}

/// A Deployment with its autoscaler.
pub(super) struct Lane {
    name: String,
    phase: Phase,
}

enum Phase {
    /// Waits until the autoscaler sees one idle pod.
    Settling(Instant),
    /// Waits until the load starts in this pod.
    Idle(String, Instant),
    /// Waits until the autoscaler wants another pod.
    Loaded(Instant),
    /// All steps are begun.
    Done,
}

impl Lane {
    /// Starts with a new pod.
    pub(super) fn start(client: &Client, number: u32) -> Result<Self> {
        let lane = Self { name: objects::name(number), phase: Phase::Settling(Instant::now()) };
        lane.reset(client)?;
        Ok(lane)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Does what is due; returns the seconds from the load to the decision when a step is complete. `begun` counts the
    /// steps of all lanes.
    pub(super) fn advance(
        &mut self,
        client: &Client,
        state: &State,
        begun: &mut u32,
        steps: u32,
    ) -> Result<Option<f64>> {
        match &self.phase {
            Phase::Settling(_) if *begun >= steps => self.phase = Phase::Done,
            Phase::Settling(since) => match &state.pods[..] {
                [(pod, true)]
                    if state.utilization.is_some_and(|percent| percent < 5) && state.desired == Some(1) =>
                {
                    // The golden ratio spreads the starts over the period.
                    let spread = PERIOD.mul_f64((f64::from(*begun) * 0.618_034).fract());
                    self.phase = Phase::Idle(pod.clone(), Instant::now() + IDLE + spread);
                    *begun += 1;
                }
                _ if since.elapsed() > IDLE_TIMEOUT => {
                    return Err(timeout(format!("{}: one idle pod", self.name), IDLE_TIMEOUT, state));
                }
                _ => {}
            },
            Phase::Idle(pod, start) if *start <= Instant::now() => {
                client.run(&["-n", NAMESPACE, "exec", pod, "--", "touch", "/tmp/load"])?;
                self.phase = Phase::Loaded(Instant::now());
            }
            Phase::Loaded(since) if state.desired >= Some(2) => {
                let seconds = since.elapsed().as_secs_f64();
                self.reset(client)?;
                self.phase = Phase::Settling(Instant::now());
                return Ok(Some(seconds));
            }
            Phase::Loaded(since) if since.elapsed() > LOAD_TIMEOUT => {
                return Err(timeout(format!("{}: two replicas wanted", self.name), LOAD_TIMEOUT, state));
            }
            Phase::Idle(..) | Phase::Loaded(_) | Phase::Done => {}
        }
        Ok(None)
    }

    /// Replaces the pods by one new pod.
    fn reset(&self, client: &Client) -> Result<()> {
        client.run(&["-n", NAMESPACE, "scale", "deployment", &self.name, "--replicas=1"])?;
        let selector = format!("app={}", self.name);
        let delete = ["-n", NAMESPACE, "delete", "pods", "-l", &selector, "--force", "--grace-period=0"];
        client.run(&delete).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn joins_pods_and_autoscalers_by_lane() {
        let pods = [
            json!({"metadata": {"name": "a-1", "labels": {"app": "a"}}, "status": {"containerStatuses": [{"ready": true}]}}),
            json!({"metadata": {"name": "a-2", "labels": {"app": "a"}}, "status": {}}),
        ];
        let current = json!([{"resource": {"current": {"averageUtilization": 3}}}]);
        let autoscalers = [
            json!({"metadata": {"name": "a"}, "status": {"desiredReplicas": 2, "currentMetrics": current}}),
            json!({"metadata": {"name": "b"}, "status": {}}),
        ];
        let metrics = [json!({"metadata": {"name": "a-1"}})];
        let lanes = states(&pods, &autoscalers, &metrics);
        assert_eq!(lanes["a"].pods, [("a-1".to_owned(), true), ("a-2".to_owned(), false)]);
        let without = states(&pods, &autoscalers, &[]);
        assert_eq!(without["a"].pods[0], ("a-1".to_owned(), false));
        assert_eq!((lanes["a"].utilization, lanes["a"].desired), (Some(3), Some(2)));
        assert!(lanes["b"].pods.is_empty() && lanes["b"].desired.is_none());
    }
}
