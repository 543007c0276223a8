//! The tree of `status`: the pipeline from the kubelets to the autoscalers.

use crds::{ConditionType, Reason};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::snapshot::{FetchError, Fetched, Snapshot};
use crate::tree::{Severity, TreeNode};
use operator::inspect::Pipeline;
use operator::inspect::serving;

/// How many branches of one kind are shown; the rest is counted.
const SHOWN: usize = 5;

/// A part of the pipeline, from the kubelets to its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Kubelets,
    MetricsCore,
    ApiServer,
    MetricsApi,
}

impl Layer {
    const ALL: [Self; 4] = [Self::Kubelets, Self::MetricsCore, Self::ApiServer, Self::MetricsApi];

    const fn title(self) -> &'static str {
        match self {
            Self::Kubelets => "kubelets",
            Self::MetricsCore => "metrics-core",
            Self::ApiServer => "kube-apiserver",
            Self::MetricsApi => "Metrics API",
        }
    }

    /// Where a condition belongs; `Ready` is the tree itself.
    const fn of(kind: ConditionType) -> Option<Self> {
        match kind {
            ConditionType::Ready => None,
            ConditionType::CertificatesReady
            | ConditionType::AccessReady
            | ConditionType::DeploymentAvailable
            | ConditionType::Sized => Some(Self::MetricsCore),
            ConditionType::KubeletsReachable | ConditionType::NodesCovered => Some(Self::Kubelets),
            ConditionType::AggregationLayerReady | ConditionType::APIServiceAvailable => {
                Some(Self::ApiServer)
            }
            ConditionType::MetricsServed => Some(Self::MetricsApi),
        }
    }
}

/// The tree.
#[must_use]
pub(crate) fn status(snapshot: &Snapshot) -> TreeNode {
    let root = |severity, text: &str, parts| TreeNode::new(severity, "metrics pipeline", text).with(parts);
    let pipelines = match &snapshot.pipelines {
        Ok(pipelines) => pipelines,
        Err(why) if why.not_found => {
            let text = "is not installed: the cluster does not know MetricsPipelines. Install the chart: `helm install \
                        metrics-pipeline charts/metrics-pipeline --namespace metrics-pipeline --create-namespace`";
            return root(
                Severity::Bad,
                text,
                vec![api_services(&snapshot.api_services), autoscalers(&snapshot.autoscalers)],
            );
        }
        Err(why) => return root(Severity::Unknown, &unread("MetricsPipelines", why), Vec::new()),
    };
    let operator = operator(snapshot);
    let serving = serving(pipelines);
    let Some(served) = serving.served else {
        let text = "There is no MetricsPipeline. Apply one; `spec: {}` is complete.";
        return root(
            Severity::Bad,
            text,
            vec![operator, api_services(&snapshot.api_services), autoscalers(&snapshot.autoscalers)],
        );
    };
    if served.deleting {
        let ready = served.status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let text = ready.map_or_else(String::new, |ready| ready.message.clone());
        let title = format!("MetricsPipeline {} is being deleted", served.name);
        let mut parts = vec![operator];
        parts.extend(pods(&snapshot.pods));
        return TreeNode::new(Severity::Waiting, title, text).with(parts);
    }
    let mut parts = vec![operator];
    parts.extend(layers(snapshot, served));
    parts.push(autoscalers(&snapshot.autoscalers));
    parts.extend(serving.conflicting.iter().map(|other| {
        let text = format!("waits: the older MetricsPipeline {} is served", served.name);
        TreeNode::new(Severity::Warning, format!("MetricsPipeline {}", other.name), text)
    }));
    parts.extend(serving.malformed.iter().map(|other| {
        let why = other.spec.as_ref().err().cloned().unwrap_or_default();
        TreeNode::new(
            Severity::Bad,
            format!("MetricsPipeline {}", other.name),
            format!("can't be read: spec.{why}"),
        )
    }));
    let nodes =
        served.status.nodes.as_ref().map_or_else(String::new, |nodes| {
            format!("{} of {} nodes have metrics", nodes.covered, nodes.total)
        });
    let is_stale = served.status.observed_generation != Some(served.generation);
    let text = if is_stale { "the operator has not acted on the latest spec yet".to_owned() } else { nodes };
    let severity = if is_stale { Severity::Waiting } else { Severity::Good };
    TreeNode::new(severity, format!("MetricsPipeline {}", served.name), text).with(parts)
}

pub(crate) fn operator(snapshot: &Snapshot) -> TreeNode {
    let title = "operator";
    let deployments = match &snapshot.operators {
        Ok(deployments) => deployments,
        Err(why) => return TreeNode::new(Severity::Unknown, title, unread("its Deployment", why)),
    };
    let Some(deployment) = deployments.first() else {
        let text = "was not found: no Deployment has the label app.kubernetes.io/name=metrics-pipeline-operator, so nothing repairs the pipeline.";
        return TreeNode::new(Severity::Bad, title, text);
    };
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let severity = match ready {
        0 => Severity::Bad,
        ready if ready < wanted => Severity::Warning,
        _ => Severity::Good,
    };
    let hint = match severity {
        Severity::Good => String::new(),
        _ => format!(
            ". See `kubectl describe pods --selector app.kubernetes.io/name=metrics-pipeline-operator --namespace {namespace}`"
        ),
    };
    TreeNode::new(severity, title, format!("Deployment {namespace}/{name}, {ready} of {wanted} ready{hint}"))
}

/// The parts of the pipeline with the conditions that speak of them.
fn layers(snapshot: &Snapshot, served: &Pipeline) -> Vec<TreeNode> {
    Layer::ALL
        .into_iter()
        .map(|layer| {
            let of_layer = ConditionType::ALL.into_iter().filter(|kind| Layer::of(*kind) == Some(layer));
            let mut parts: Vec<_> = of_layer.map(|kind| condition_of(served, kind)).collect();
            match layer {
                Layer::MetricsCore => parts.extend(pods(&snapshot.pods)),
                Layer::ApiServer => parts.push(api_services(&snapshot.api_services)),
                Layer::Kubelets | Layer::MetricsApi => {}
            }
            TreeNode::new(Severity::Good, layer.title(), "").with(parts)
        })
        .collect()
}

/// All conditions but `Ready`, which sums them up.
pub(crate) fn conditions(served: &Pipeline) -> Vec<TreeNode> {
    let parts = ConditionType::ALL.into_iter().filter(|kind| *kind != ConditionType::Ready);
    parts.map(|kind| condition_of(served, kind)).collect()
}

fn condition_of(served: &Pipeline, kind: ConditionType) -> TreeNode {
    let found = served.status.conditions.iter().find(|condition| condition.type_ == kind.as_str());
    condition(kind, found)
}

fn condition(kind: ConditionType, condition: Option<&Condition>) -> TreeNode {
    let Some(condition) = condition else {
        return TreeNode::new(Severity::Waiting, kind.as_str(), "not reported yet");
    };
    let severity = match (condition.status.as_str(), condition.reason.as_str()) {
        ("True", reason) if reason == Reason::AsExpected.as_str() => Severity::Good,
        ("True", _) => Severity::Warning,
        (_, reason) if reason == Reason::WaitingForDependency.as_str() => Severity::Waiting,
        ("False", reason) if reason == Reason::Progressing.as_str() => Severity::Waiting,
        ("False", _) => Severity::Bad,
        _ => Severity::Unknown,
    };
    let text = match severity {
        Severity::Good => condition.message.clone(),
        _ => format!("{}: {}", condition.reason, condition.message),
    };
    TreeNode::new(severity, kind.as_str(), text)
}

fn pods(pods: &Fetched<Vec<Pod>>) -> Vec<TreeNode> {
    let pods = match pods {
        Ok(pods) => pods,
        Err(why) => return vec![TreeNode::new(Severity::Unknown, "pods", unread("pods", why))],
    };
    let mut branches: Vec<_> = pods.iter().take(SHOWN).map(pod).collect();
    branches.extend(rest(pods.len()));
    branches
}

fn pod(pod: &Pod) -> TreeNode {
    let status = pod.status.as_ref();
    let condition = |name: &str| {
        status.and_then(|status| status.conditions.as_ref()?.iter().find(|condition| condition.type_ == name))
    };
    let is_ready = condition("Ready").is_some_and(|ready| ready.status == "True");
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let restarts = container.map_or(0, |container| container.restart_count);
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let phase = status.and_then(|status| status.phase.clone()).unwrap_or_default();
    let state = match (&pod.metadata.deletion_timestamp, waiting) {
        (Some(_), _) => "Terminating".to_owned(),
        (None, Some(waiting)) => waiting,
        (None, None) if is_ready => "Ready".to_owned(),
        (None, None) => format!("{phase}, not ready"),
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
    let severity = match (is_ready, &pod.metadata.deletion_timestamp) {
        (true, None) => Severity::Good,
        (_, Some(_)) => Severity::Waiting,
        (false, None) => Severity::Bad,
    };
    let text = format!("{state} on {node}, {restarts} restarts");
    TreeNode::new(severity, format!("pod {}", pod.metadata.name.as_deref().unwrap_or_default()), text)
}

fn api_services(found: &Fetched<Vec<APIService>>) -> TreeNode {
    let title = "APIServices";
    let found = match found {
        Ok(found) => found,
        Err(why) => return TreeNode::new(Severity::Unknown, title, unread("APIServices", why)),
    };
    if found.is_empty() {
        return TreeNode::new(Severity::Bad, title, "none for metrics.k8s.io: nothing answers `kubectl top`");
    }
    TreeNode::new(Severity::Good, title, "").with(found.iter().map(api_service).collect())
}

fn api_service(found: &APIService) -> TreeNode {
    let name = found.metadata.name.as_deref().unwrap_or_default();
    let service =
        found.spec.as_ref().and_then(|spec| spec.service.as_ref()).map_or_else(String::new, |service| {
            format!(
                "Service {}/{}",
                service.namespace.as_deref().unwrap_or_default(),
                service.name.as_deref().unwrap_or_default()
            )
        });
    let available = found.status.as_ref().and_then(|status| {
        status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Available")
    });
    match available {
        Some(available) if available.status == "True" => {
            TreeNode::new(Severity::Good, name, format!("available, {service}"))
        }
        Some(available) => {
            let (reason, message) = (available.reason.as_deref(), available.message.as_deref());
            let text =
                format!("{service}: {}: {}", reason.unwrap_or("not available"), message.unwrap_or_default());
            TreeNode::new(Severity::Bad, name, text)
        }
        None => {
            TreeNode::new(Severity::Waiting, name, format!("{service}: kube-apiserver has not judged it yet"))
        }
    }
}

pub(crate) fn autoscalers(found: &Fetched<Vec<HorizontalPodAutoscaler>>) -> TreeNode {
    let title = "HorizontalPodAutoscalers";
    let found = match found {
        Ok(found) => found,
        Err(why) => return TreeNode::new(Severity::Unknown, title, unread("HorizontalPodAutoscalers", why)),
    };
    let blind: Vec<_> = found.iter().filter_map(blind).collect();
    if found.is_empty() {
        return TreeNode::new(Severity::Good, title, "none uses resource metrics");
    }
    let text = format!("{} of {} have the metrics that they use", found.len() - blind.len(), found.len());
    let count = blind.len();
    let mut parts: Vec<_> = blind.into_iter().take(SHOWN).collect();
    parts.extend(rest(count));
    TreeNode::new(Severity::Good, title, text).with(parts)
}

/// An autoscaler that can't read its metrics. A pod without metrics of its own (it is new, or has no requests) is
/// its user's affair, so this is a warning.
fn blind(autoscaler: &HorizontalPodAutoscaler) -> Option<TreeNode> {
    let conditions = autoscaler.status.as_ref()?.conditions.as_ref()?;
    let active = conditions.iter().find(|condition| condition.type_ == "ScalingActive")?;
    // Scaled to zero by hand: it does not look.
    if active.status != "False" || active.reason.as_deref() == Some("ScalingDisabled") {
        return None;
    }
    let name = format!(
        "{}/{}",
        autoscaler.metadata.namespace.as_deref().unwrap_or_default(),
        autoscaler.metadata.name.as_deref().unwrap_or_default()
    );
    let text = format!(
        "{}: {}",
        active.reason.as_deref().unwrap_or_default(),
        active.message.as_deref().unwrap_or_default()
    );
    Some(TreeNode::new(Severity::Warning, name, text))
}

fn rest(count: usize) -> Option<TreeNode> {
    (count > SHOWN).then(|| TreeNode::new(Severity::Good, format!("and {} more", count - SHOWN), ""))
}

fn unread(what: &str, why: &FetchError) -> String {
    format!("{what} could not be read: {why}")
}

#[cfg(test)]
mod tests;
