//! The tree of `status`: the pipeline from kubelets to HorizontalPodAutoscalers. Pure.

use crds::{ConditionType, Reason};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use operator::inspect::{Pipeline, select_active};

use crate::snapshot::{FetchError, Fetched, Snapshot};
use crate::tree::{Severity, TreeNode};

/// The maximum number of pods and of HorizontalPodAutoscalers in the tree; the others are counted.
const MAX_SHOWN: usize = 5;

/// The command that installs the chart.
pub(crate) const INSTALL_COMMAND: &str =
    "helm install metrics-pipeline charts/metrics-pipeline --namespace metrics-pipeline --create-namespace";

/// The text while `status.observedGeneration` is not `metadata.generation`.
pub(crate) const NOT_OBSERVED: &str = "The operator has not processed the latest spec yet.";

/// Returns the remedy if the chart is not installed.
pub(crate) fn install() -> String {
    format!("Install the chart: `{INSTALL_COMMAND}`")
}

/// A part of the pipeline.
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

    /// Returns the layer of a condition; `None` for those of the whole pipeline, which the root of the tree shows.
    const fn of(condition: ConditionType) -> Option<Self> {
        match condition {
            ConditionType::Ready | ConditionType::Reconciling | ConditionType::Stalled => None,
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

/// Returns the tree.
pub(crate) fn status(snapshot: &Snapshot) -> TreeNode {
    let root = |severity, text: &str, children| {
        TreeNode::new(severity, "metrics pipeline", text).with_children(children)
    };
    let pipelines = match &snapshot.pipelines {
        Ok(pipelines) => pipelines,
        Err(error) if error.not_found => {
            let text = format!("Not installed: the cluster has no CRD for MetricsPipeline. {}", install());
            let children = vec![api_services(&snapshot.api_services), autoscalers(&snapshot.autoscalers)];
            return root(Severity::Error, &text, children);
        }
        Err(error) => {
            let text = format!("MetricsPipelines could not be read: {error}");
            return root(Severity::Unknown, &text, Vec::new());
        }
    };
    let operator = operator(snapshot);
    let pipelines = select_active(pipelines);
    let Some(active) = pipelines.active else {
        let text = "No MetricsPipeline exists. Create one; `spec: {}` uses the defaults.";
        let children =
            vec![operator, api_services(&snapshot.api_services), autoscalers(&snapshot.autoscalers)];
        return root(Severity::Error, text, children);
    };
    if active.deleting {
        return deleting(snapshot, active, operator);
    }
    let mut children = vec![operator];
    children.extend(layers(snapshot, active));
    children.push(autoscalers(&snapshot.autoscalers));
    children.extend(pipelines.conflicting.iter().map(|other| {
        let text =
            format!("The operator ignores it because the older MetricsPipeline {} is active.", active.name);
        TreeNode::new(Severity::Warning, format!("MetricsPipeline {}", other.name), text)
    }));
    children.extend(pipelines.malformed.iter().map(|other| malformed(other)));
    let title = format!("MetricsPipeline {}", active.name);
    children.extend(stalled(active, &children));
    let node = if let Some(reconciling) = is_true(active, ConditionType::Reconciling) {
        TreeNode::new(Severity::Waiting, title, reconciling.message.clone())
    } else if active.status.observed_generation == Some(active.generation) {
        let nodes = active.status.nodes.as_ref();
        let text = nodes.map(|nodes| format!("{} of {} nodes have metrics", nodes.covered, nodes.total));
        TreeNode::new(Severity::Ok, title, text.unwrap_or_default())
    } else {
        TreeNode::new(Severity::Waiting, title, NOT_OBSERVED)
    };
    node.with_children(children)
}

/// Returns the tree while the operator removes the objects of the active MetricsPipeline.
fn deleting(snapshot: &Snapshot, active: &Pipeline, operator: TreeNode) -> TreeNode {
    let ready = active.status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let text = ready.map_or_else(String::new, |ready| ready.message.clone());
    let title = format!("MetricsPipeline {} is being deleted", active.name);
    let mut children = vec![operator];
    children.extend(pods(&snapshot.pods));
    TreeNode::new(Severity::Waiting, title, text).with_children(children)
}

/// Reports a MetricsPipeline whose spec cannot be parsed.
pub(crate) fn malformed(pipeline: &Pipeline) -> TreeNode {
    let error = pipeline.spec.as_ref().err().map_or("", String::as_str);
    let text = format!("The object is invalid: spec.{error}");
    TreeNode::new(Severity::Error, format!("MetricsPipeline {}", pipeline.name), text)
}

/// Reports the operator's Deployment.
pub(crate) fn operator(snapshot: &Snapshot) -> TreeNode {
    let title = "operator";
    let deployments = match &snapshot.operators {
        Ok(deployments) => deployments,
        Err(error) => {
            let text = format!("The operator's Deployment could not be read: {error}");
            return TreeNode::new(Severity::Unknown, title, text);
        }
    };
    let Some(deployment) = deployments.first() else {
        let text = "Not found: no Deployment has the label app.kubernetes.io/name=metrics-pipeline-operator, so nothing \
                    maintains the pipeline.";
        return TreeNode::new(Severity::Error, title, text);
    };
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let severity = match ready {
        0 => Severity::Error,
        ready if ready < desired => Severity::Warning,
        _ => Severity::Ok,
    };
    let remedy = match severity {
        Severity::Ok => String::new(),
        _ => format!(
            ". Check its pods: `kubectl describe pods --selector app.kubernetes.io/name=metrics-pipeline-operator --namespace \
             {namespace}`"
        ),
    };
    let text = format!("Deployment {namespace}/{name}, {ready} of {desired} replicas are ready{remedy}");
    TreeNode::new(severity, title, text)
}

/// Returns the parts of the pipeline with their conditions.
fn layers(snapshot: &Snapshot, active: &Pipeline) -> Vec<TreeNode> {
    Layer::ALL
        .into_iter()
        .map(|layer| {
            let of_layer = ConditionType::ALL.into_iter().filter(|kind| Layer::of(*kind) == Some(layer));
            let mut children: Vec<_> = of_layer.map(|kind| condition_of(active, kind)).collect();
            match layer {
                Layer::MetricsCore => children.extend(pods(&snapshot.pods)),
                Layer::ApiServer => children.push(api_services(&snapshot.api_services)),
                Layer::Kubelets | Layer::MetricsApi => {}
            }
            TreeNode::new(Severity::Ok, layer.title(), "").with_children(children)
        })
        .collect()
}

/// Returns the conditions of the pipeline. The others summarize them.
pub(crate) fn conditions(active: &Pipeline) -> Vec<TreeNode> {
    let types = ConditionType::ALL.into_iter().filter(|kind| kind.is_of_pipeline());
    let mut nodes: Vec<_> = types.map(|kind| condition_of(active, kind)).collect();
    nodes.extend(stalled(active, &nodes));
    nodes
}

/// Returns the condition `Stalled` if it is True and nothing else is an error: the rollout fails, but the previous replicas
/// still serve, so that each condition of the pipeline is True.
fn stalled(active: &Pipeline, others: &[TreeNode]) -> Option<TreeNode> {
    let stalled = is_true(active, ConditionType::Stalled)?;
    let text = format!("{}: {}", stalled.reason, stalled.message);
    let is_explained = others.iter().any(|other| other.severity == Severity::Error);
    (!is_explained).then(|| TreeNode::new(Severity::Error, ConditionType::Stalled.as_str(), text))
}

/// Returns a condition if it is True.
fn is_true(active: &Pipeline, kind: ConditionType) -> Option<&Condition> {
    let found = active.status.conditions.iter().find(|condition| condition.type_ == kind.as_str());
    found.filter(|condition| condition.status == "True")
}

fn condition_of(active: &Pipeline, kind: ConditionType) -> TreeNode {
    let found = active.status.conditions.iter().find(|condition| condition.type_ == kind.as_str());
    condition(kind, found)
}

fn condition(kind: ConditionType, condition: Option<&Condition>) -> TreeNode {
    let Some(condition) = condition else {
        return TreeNode::new(Severity::Waiting, kind.as_str(), "The operator has not reported it yet.");
    };
    let severity = match (condition.status.as_str(), condition.reason.as_str()) {
        ("True", reason) if reason == Reason::AsExpected.as_str() => Severity::Ok,
        ("True", _) => Severity::Warning,
        (_, reason) if reason == Reason::WaitingForDependency.as_str() => Severity::Waiting,
        ("False", reason) if reason == Reason::Progressing.as_str() => Severity::Waiting,
        ("False", _) => Severity::Error,
        _ => Severity::Unknown,
    };
    let text = match severity {
        Severity::Ok => condition.message.clone(),
        _ => format!("{}: {}", condition.reason, condition.message),
    };
    TreeNode::new(severity, kind.as_str(), text)
}

fn pods(pods: &Fetched<Vec<Pod>>) -> Vec<TreeNode> {
    let pods = match pods {
        Ok(pods) => pods,
        Err(error) => return vec![unreadable("pods", error)],
    };
    let mut nodes: Vec<_> = pods.iter().take(MAX_SHOWN).map(pod).collect();
    nodes.extend(not_shown(pods.len()));
    nodes
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
        (true, None) => Severity::Ok,
        (_, Some(_)) => Severity::Waiting,
        (false, None) => Severity::Error,
    };
    let title = format!("pod {}", pod.metadata.name.as_deref().unwrap_or_default());
    TreeNode::new(severity, title, format!("{state} on {node}, {restarts} restarts"))
}

fn api_services(found: &Fetched<Vec<APIService>>) -> TreeNode {
    let title = "APIServices";
    let found = match found {
        Ok(found) => found,
        Err(error) => return unreadable(title, error),
    };
    if found.is_empty() {
        let text = "None exist for metrics.k8s.io, so `kubectl top` fails";
        return TreeNode::new(Severity::Error, title, text);
    }
    TreeNode::new(Severity::Ok, title, "").with_children(found.iter().map(api_service).collect())
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
            TreeNode::new(Severity::Ok, name, format!("Available, {service}"))
        }
        Some(available) => {
            let reason = available.reason.as_deref().unwrap_or("not available");
            let message = available.message.as_deref().unwrap_or_default();
            TreeNode::new(Severity::Error, name, format!("{service}: {reason}: {message}"))
        }
        None => {
            let text = format!("{service}: kube-apiserver has not reported its availability yet");
            TreeNode::new(Severity::Waiting, name, text)
        }
    }
}

/// Reports the HorizontalPodAutoscalers that use resource metrics.
pub(crate) fn autoscalers(found: &Fetched<Vec<HorizontalPodAutoscaler>>) -> TreeNode {
    let title = "HorizontalPodAutoscalers";
    let found = match found {
        Ok(found) => found,
        Err(error) => return unreadable(title, error),
    };
    if found.is_empty() {
        return TreeNode::new(Severity::Ok, title, "None use resource metrics");
    }
    let failing: Vec<_> = found.iter().filter_map(failing_autoscaler).collect();
    let count = failing.len();
    let text = format!("{} of {} can read their metrics", found.len() - count, found.len());
    let mut children: Vec<_> = failing.into_iter().take(MAX_SHOWN).collect();
    children.extend(not_shown(count));
    TreeNode::new(Severity::Ok, title, text).with_children(children)
}

/// Returns a warning for an autoscaler that cannot read its metrics. It is no error: the cause can be its workload, such as
/// new pods or pods without resource requests.
fn failing_autoscaler(autoscaler: &HorizontalPodAutoscaler) -> Option<TreeNode> {
    let conditions = autoscaler.status.as_ref()?.conditions.as_ref()?;
    let active = conditions.iter().find(|condition| condition.type_ == "ScalingActive")?;
    // A workload with 0 replicas disables scaling: the autoscaler then reads no metrics.
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

fn not_shown(count: usize) -> Option<TreeNode> {
    (count > MAX_SHOWN).then(|| TreeNode::new(Severity::Ok, format!("and {} more", count - MAX_SHOWN), ""))
}

fn unreadable(title: &str, error: &FetchError) -> TreeNode {
    TreeNode::new(Severity::Unknown, title, format!("Could not be read: {error}"))
}

#[cfg(test)]
mod tests;
