//! The checks of `doctor`: what keeps, or would keep, the pipeline from working. They are also made before anything
//! is installed. Pure.
//!
//! Where the operator is at work its conditions are the diagnosis: it sees what no client can, such as which
//! certificate kube-apiserver shows to metrics-core. Where it is not, the checks say what can be seen from here.

use crds::{Adoption, KubeletTlsMode, MetricsPipelineSpec};
use jiff::{SignedDuration, Timestamp};

use crate::checks::{Checks, Kubelet, KubeletConfiguration};
use crate::snapshot::{Fetched, Snapshot};
use crate::status;
use crate::tree::{Severity, TreeNode};
use crds::extension_apiserver_authentication::{Finding, RECREATE_COMMAND};
use operator::inspect::FrontProxyConfiguration;
use operator::inspect::{FrontProxyMap, Pipeline, serving};
use operator::inspect::{is_ours, whose};

/// The oldest Kubernetes that is supported.
const OLDEST: (u32, u32) = (1, 33);

/// A Lease that was not renewed for so long belongs to nobody: it is renewed every 5 s and runs out after 15.
const STALE: SignedDuration = SignedDuration::from_secs(60);

/// All checks.
#[must_use]
pub(crate) fn doctor(checks: &Checks) -> TreeNode {
    let snapshot = &checks.snapshot;
    let pipelines = snapshot.pipelines.as_deref().unwrap_or_default();
    let serving = serving(pipelines);
    let served = serving.served.filter(|served| !served.deleting);
    let installed = snapshot.operators.as_ref().is_ok_and(|found| !found.is_empty());
    let works = installed && works(&checks.lease, checks.now);
    let spec = served.and_then(|served| served.spec.as_ref().ok()).cloned().unwrap_or_default();

    let mut nodes = vec![version(checks)];
    // With a working operator its conditions know more than the checks from here.
    let diagnosed = served.filter(|_| works);
    if diagnosed.is_none() {
        nodes.push(aggregation_layer(&checks.front_proxy));
        nodes.push(registrations(checks, &spec));
        nodes.push(kubelets(checks, &spec));
    }
    if installed || served.is_some() {
        nodes.push(operator(checks));
    }
    match (served, diagnosed) {
        (_, Some(served)) => nodes.extend(conditions(served)),
        (Some(served), None) => {
            let text = format!(
                "The conditions of MetricsPipeline {} may be out of date, as no operator is at work.",
                served.name
            );
            nodes.push(TreeNode::new(Severity::Unknown, "conditions", text));
        }
        (None, None) => nodes.push(no_pipeline(checks)),
    }
    nodes.extend(serving.conflicting.iter().map(|other| {
        let text = format!(
            "waits, as the older MetricsPipeline {0} is served. Delete one of them: `kubectl delete metricspipeline {1}`.",
            serving.served.map_or("", |served| served.name.as_str()),
            other.name
        );
        TreeNode::new(Severity::Bad, format!("MetricsPipeline {}", other.name), text)
    }));
    nodes.extend(serving.malformed.iter().map(|other| {
        let why = other.spec.as_ref().err().cloned().unwrap_or_default();
        TreeNode::new(
            Severity::Bad,
            format!("MetricsPipeline {}", other.name),
            format!("can't be read: spec.{why}"),
        )
    }));
    nodes.push(status::autoscalers(&snapshot.autoscalers));
    let count = |at_least: Severity| nodes.iter().filter(|check| check.severity >= at_least).count();
    let (wrong, unknown) = (count(Severity::Warning), count(Severity::Unknown) - count(Severity::Warning));
    let mut text = match wrong {
        0 => format!("{} checks, nothing is wrong", nodes.len()),
        1 => format!("{} checks, 1 has a finding", nodes.len()),
        _ => format!("{} checks, {wrong} have findings", nodes.len()),
    };
    if unknown > 0 {
        text = format!("{text}; {unknown} could not be made");
    }
    TreeNode::new(Severity::Good, "doctor", text).with(nodes)
}

/// Whether an operator holds the Lease now.
fn works(lease: &Fetched<Option<Timestamp>>, now: Timestamp) -> bool {
    let renewed = lease.as_ref().ok().copied().flatten();
    renewed.is_some_and(|renewed| now.duration_since(renewed) < STALE)
}

/// Whether the conditions of a MetricsPipeline are the diagnosis, so that the ground need not be examined.
pub(crate) fn is_diagnosed(snapshot: &Snapshot, lease: &Fetched<Option<Timestamp>>, now: Timestamp) -> bool {
    let installed = snapshot.operators.as_ref().is_ok_and(|found| !found.is_empty());
    let pipelines = snapshot.pipelines.as_deref().unwrap_or_default();
    let served = serving(pipelines).served.is_some_and(|served| !served.deleting);
    installed && served && works(lease, now)
}

fn version(checks: &Checks) -> TreeNode {
    let title = "Kubernetes";
    match &checks.version {
        Ok(version) if version.number >= OLDEST => TreeNode::new(Severity::Good, title, version.text.clone()),
        Ok(version) => {
            let text = format!(
                "{} is older than {}.{}, the oldest version that is supported. Update the control plane.",
                version.text, OLDEST.0, OLDEST.1
            );
            TreeNode::new(Severity::Bad, title, text)
        }
        Err(why) => TreeNode::new(
            Severity::Unknown,
            title,
            format!("kube-apiserver does not tell its version: {why}"),
        ),
    }
}

fn aggregation_layer(map: &FrontProxyMap) -> TreeNode {
    let title = "aggregation layer";
    let Some(configured) = FrontProxyConfiguration::read(map) else {
        let why = match map {
            FrontProxyMap::Unreadable(why) => why.message.as_str(),
            _ => "it was not asked for",
        };
        let text =
            format!("ConfigMap kube-system/extension-apiserver-authentication could not be read: {why}");
        return TreeNode::new(Severity::Unknown, title, text);
    };
    if configured.findings.is_empty() {
        let names = match configured.names.allowed_names.as_slice() {
            [] => "any common name".to_owned(),
            names => names.join(", "),
        };
        let text = format!("kube-apiserver names a CA for its front-proxy certificate, with {names}.");
        return TreeNode::new(Severity::Good, title, text);
    }
    // What the swallowed flags were to say is missing because they were swallowed: that is one cause.
    let swallowed = configured
        .findings
        .iter()
        .any(|finding| matches!(finding, Finding::RequestHeaderFlagsMalformed { .. }));
    let follows =
        |finding: &Finding| matches!(finding, Finding::UsernameHeadersMissing | Finding::GroupHeadersMissing);
    let parts = configured
        .findings
        .iter()
        .filter(|finding| !(swallowed && follows(finding)))
        .map(|finding| {
            let severity = match finding {
                Finding::AnyClientMayImpersonate | Finding::GroupHeadersMissing => Severity::Warning,
                _ => Severity::Bad,
            };
            TreeNode::new(severity, finding.code(), finding.to_string())
        })
        .collect();
    let text = format!(
        "Nothing in the ConfigMap is ever taken out, so a value may be of an earlier flag; to see today's flags alone: `{RECREATE_COMMAND}`"
    );
    TreeNode::new(Severity::Good, title, text).with(parts)
}

fn registrations(checks: &Checks, spec: &MetricsPipelineSpec) -> TreeNode {
    let title = "APIServices of metrics.k8s.io";
    let found = match &checks.registrations {
        Ok(found) => found,
        Err(why) => return TreeNode::new(Severity::Unknown, title, format!("could not be read: {why}")),
    };
    let Some(foreign) = found.iter().find(|object| !is_ours(object)) else {
        let text = if found.is_empty() {
            "nobody's yet: they are free to be taken"
        } else {
            "they are this operator's"
        };
        return TreeNode::new(Severity::Good, title, text);
    };
    let name = foreign.metadata.name.as_deref().unwrap_or_default();
    let owner = whose(foreign);
    match spec.api_service.adoption {
        Adoption::Adopt => TreeNode::new(
            Severity::Good,
            title,
            format!("{name} is somebody else's ({owner}) and will be taken over."),
        ),
        Adoption::Never => {
            let text = format!(
                "{name} is somebody else's ({owner}). A MetricsPipeline takes it over only with spec.apiService.adoption: Adopt; \
                 or remove the other server first."
            );
            TreeNode::new(Severity::Warning, title, text)
        }
    }
}

fn kubelets(checks: &Checks, spec: &MetricsPipelineSpec) -> TreeNode {
    let title = "kubelets";
    let kubelets = match &checks.kubelets {
        Ok(kubelets) => kubelets,
        Err(why) => {
            return TreeNode::new(Severity::Unknown, title, format!("nodes could not be read: {why}"));
        }
    };
    let parts: Vec<_> =
        kubelets.iter().map(|found| kubelet(found, spec.metrics_core.kubelet.tls.mode)).collect();
    if parts.is_empty() {
        return TreeNode::new(Severity::Warning, title, "The cluster has no nodes.");
    }
    TreeNode::new(Severity::Good, title, "the configuration of some").with(parts)
}

fn kubelet(kubelet: &Kubelet, mode: KubeletTlsMode) -> TreeNode {
    let node = &kubelet.node;
    let branch = |severity, text: String| TreeNode::new(severity, node.clone(), text);
    let configuration = match &kubelet.configuration {
        Ok(configuration) => configuration,
        Err(why) => return branch(Severity::Unknown, format!("does not tell its configuration: {why}")),
    };
    if configuration.authentication.webhook.enabled == Some(false) {
        let text = "takes no tokens, so metrics-core would get 401: set authentication.webhook.enabled: true in its configuration.";
        return branch(Severity::Bad, text.to_owned());
    }
    if signs_itself(configuration) && mode == KubeletTlsMode::Verify {
        let text = "signs its own serving certificate, which no CA vouches for. In this order of merit: set serverTLSBootstrap: true in its \
                    configuration and have its requests approved (spec.metricsCore.kubelet.tls.csrApproval); or spec.metricsCore.kubelet.tls.mode: \
                    Pin; or Insecure.";
        return branch(Severity::Warning, text.to_owned());
    }
    let how = if configuration.server_tls_bootstrap {
        "has the cluster sign its serving certificate"
    } else if signs_itself(configuration) {
        "signs its own serving certificate"
    } else {
        "was given its serving certificate"
    };
    branch(Severity::Good, format!("{how} and takes tokens"))
}

fn signs_itself(configuration: &KubeletConfiguration) -> bool {
    !configuration.server_tls_bootstrap && configuration.tls_cert_file.is_empty()
}

fn operator(checks: &Checks) -> TreeNode {
    let branch = status::operator(&checks.snapshot);
    if branch.severity == Severity::Bad || works(&checks.lease, checks.now) {
        return branch;
    }
    let title = "operator";
    if let Err(why) = &checks.lease {
        return TreeNode::new(Severity::Unknown, title, format!("its Lease could not be read: {why}"));
    }
    let namespace = checks.snapshot.namespace.as_deref().unwrap_or_default();
    let text = format!(
        "its Lease was not renewed for more than {} s, so nobody acts. See `kubectl logs deployment/metrics-pipeline-operator \
         --namespace {namespace}`.",
        STALE.as_secs()
    );
    TreeNode::new(Severity::Bad, title, text)
}

fn conditions(served: &Pipeline) -> Vec<TreeNode> {
    if served.status.observed_generation != Some(served.generation) {
        let text = "the operator has not acted on the latest spec yet";
        return vec![TreeNode::new(Severity::Waiting, format!("MetricsPipeline {}", served.name), text)];
    }
    status::conditions(served)
}

fn no_pipeline(checks: &Checks) -> TreeNode {
    let title = "MetricsPipeline";
    let (severity, text) = match &checks.snapshot.pipelines {
        Err(why) if why.not_found => (
            Severity::Warning,
            "is not installed yet: `helm install metrics-pipeline charts/metrics-pipeline --namespace metrics-pipeline --create-namespace`"
                .to_owned(),
        ),
        Err(why) => (Severity::Unknown, format!("could not be read: {why}")),
        Ok(_) => (
            Severity::Bad,
            "none is there. Apply one: `kubectl apply --filename - <<< '{\"apiVersion\":\"metrics-pipeline.dev/v1alpha1\",\"kind\":\
             \"MetricsPipeline\",\"metadata\":{\"name\":\"cluster\"},\"spec\":{}}'`"
                .to_owned(),
        ),
    };
    TreeNode::new(severity, title, text)
}

#[cfg(test)]
mod tests;
