//! The checks of `doctor`: what prevents, or would prevent, the pipeline from working. Pure.
//!
//! While an operator is running, its conditions are the diagnosis: the operator has information that no client has, such as
//! the certificate that kube-apiserver presents to metrics-core. Without one, also before the installation, the checks
//! report what can be read from the cluster.

mod leftovers;

use crds::extension_apiserver_authentication::{CONFIG_MAP, Finding, NAMESPACE, RECREATE_COMMAND};
use crds::{Adoption, KubeletTlsMode, MetricsPipelineSpec};
use operator::inspect::{Configured, FrontProxyMap, LEASE, Pipeline, describe_owner, is_ours, select_active};

use crate::checks::{Checks, ENFORCE, Kubelet, KubeletConfiguration, SAMPLE, STALE};
use crate::snapshot::Fetched;
use crate::status;
use crate::tree::{Severity, TreeNode};

/// The oldest supported version of Kubernetes.
const OLDEST: (u32, u32) = (1, 33);

/// Returns the tree of all checks.
pub(crate) fn doctor(checks: &Checks) -> TreeNode {
    let active = checks.active();
    let diagnosed = checks.diagnosed();
    let spec = active.and_then(|active| active.spec.as_ref().ok()).cloned().unwrap_or_default();

    let mut nodes = vec![version(checks)];
    if diagnosed.is_none() {
        nodes.push(aggregation_layer(&checks.front_proxy));
        nodes.push(api_services(checks, &spec));
        nodes.push(kubelets(checks, &spec));
    }
    if checks.is_installed() || active.is_some() {
        nodes.push(operator(checks));
    }
    if let Some(namespace) = checks.snapshot.namespace.as_deref().filter(|_| checks.is_installed()) {
        nodes.push(pod_security(namespace, &checks.pod_security, &spec));
    }
    match (active, diagnosed) {
        (_, Some(diagnosed)) => nodes.extend(conditions(diagnosed)),
        (Some(active), None) => {
            let text = format!(
                "The conditions of MetricsPipeline {} may be outdated because no operator is running.",
                active.name
            );
            nodes.push(TreeNode::new(Severity::Unknown, "conditions", text));
        }
        (None, None) => nodes.push(no_pipeline(checks)),
    }
    nodes.extend(inactive_pipelines(checks));
    nodes.extend(leftovers::check(checks));
    nodes.push(status::autoscalers(&checks.snapshot.autoscalers));
    TreeNode::new(Severity::Ok, "doctor", summary(&nodes)).with_children(nodes)
}

fn summary(nodes: &[TreeNode]) -> String {
    let count = |at_least: Severity| nodes.iter().filter(|node| node.severity >= at_least).count();
    let findings = count(Severity::Warning);
    let unknown = count(Severity::Unknown) - findings;
    let mut text = match findings {
        0 => format!("{} checks, no findings", nodes.len()),
        _ => format!("{} checks, {findings} with findings", nodes.len()),
    };
    if unknown > 0 {
        text = format!("{text}; {unknown} could not be completed");
    }
    text
}

/// Reports the MetricsPipelines that the operator ignores.
fn inactive_pipelines(checks: &Checks) -> Vec<TreeNode> {
    let pipelines = select_active(checks.snapshot.pipelines.as_deref().unwrap_or_default());
    let conflicting = pipelines.conflicting.iter().map(|other| {
        let text = format!(
            "The operator ignores it because the older MetricsPipeline {0} is active. Delete one of them: \
             `kubectl delete metricspipeline {1}`.",
            pipelines.active.map_or("", |active| active.name.as_str()),
            other.name
        );
        TreeNode::new(Severity::Error, format!("MetricsPipeline {}", other.name), text)
    });
    conflicting.chain(pipelines.malformed.iter().map(|other| status::malformed(other))).collect()
}

fn version(checks: &Checks) -> TreeNode {
    let title = "Kubernetes";
    match &checks.version {
        Ok(version) if version.number >= OLDEST => TreeNode::new(Severity::Ok, title, version.text.clone()),
        Ok(version) => {
            let text = format!(
                "{} is older than {}.{}, the oldest supported version. Upgrade the control plane.",
                version.text, OLDEST.0, OLDEST.1
            );
            TreeNode::new(Severity::Error, title, text)
        }
        Err(error) => {
            let text = format!("The version of kube-apiserver could not be read: {error}");
            TreeNode::new(Severity::Unknown, title, text)
        }
    }
}

fn aggregation_layer(map: &FrontProxyMap) -> TreeNode {
    let title = "aggregation layer";
    let Some(configured) = Configured::read(map) else {
        let error = match map {
            FrontProxyMap::Unreadable(error) => error.message.as_str(),
            _ => "no request was sent",
        };
        let text = format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} could not be read: {error}");
        return TreeNode::new(Severity::Unknown, title, text);
    };
    if configured.findings.is_empty() {
        let names = match configured.names.allowed_names.as_slice() {
            [] => "any".to_owned(),
            names => names.join(", "),
        };
        let text = format!("kube-apiserver publishes a front-proxy CA; allowed common names: {names}.");
        return TreeNode::new(Severity::Ok, title, text);
    }
    // One flag that contains the next ones also leaves the headers of those empty: that is one cause.
    let malformed = configured
        .findings
        .iter()
        .any(|finding| matches!(finding, Finding::RequestHeaderFlagsMalformed { .. }));
    let is_consequence =
        |finding: &Finding| matches!(finding, Finding::UsernameHeadersMissing | Finding::GroupHeadersMissing);
    let children = configured
        .findings
        .iter()
        .filter(|finding| !(malformed && is_consequence(finding)))
        .map(|finding| {
            let severity = match finding {
                Finding::AnyClientMayImpersonate | Finding::GroupHeadersMissing => Severity::Warning,
                _ => Severity::Error,
            };
            TreeNode::new(severity, finding.code(), finding.to_string())
        })
        .collect();
    let text = format!(
        "kube-apiserver never removes values from ConfigMap {NAMESPACE}/{CONFIG_MAP}, so a value may come from an earlier \
         flag. To keep only the current flags: `{RECREATE_COMMAND}` (kube-apiserver recreates it within a minute)"
    );
    TreeNode::new(Severity::Ok, title, text).with_children(children)
}

fn api_services(checks: &Checks, spec: &MetricsPipelineSpec) -> TreeNode {
    let title = "APIServices of metrics.k8s.io";
    let found = match &checks.api_services {
        Ok(found) => found,
        Err(error) => return TreeNode::new(Severity::Unknown, title, format!("Could not be read: {error}")),
    };
    let Some(foreign) = found.iter().find(|object| !is_ours(object)) else {
        let text = if found.is_empty() {
            "None exist, so the operator can create them."
        } else {
            "They are managed by this operator."
        };
        return TreeNode::new(Severity::Ok, title, text);
    };
    let name = foreign.metadata.name.as_deref().unwrap_or_default();
    let text = format!("{name} is not managed by this operator ({}).", describe_owner(foreign));
    match spec.api_service.adoption {
        Adoption::Adopt => TreeNode::new(
            Severity::Ok,
            title,
            format!("{text} The operator adopts it because of spec.apiService.adoption: Adopt."),
        ),
        Adoption::Never => {
            let text = format!(
                "{text} Set spec.apiService.adoption: Adopt to replace the other server, or remove the other server first."
            );
            TreeNode::new(Severity::Warning, title, text)
        }
    }
}

fn kubelets(checks: &Checks, spec: &MetricsPipelineSpec) -> TreeNode {
    let title = "kubelets";
    let kubelets = match &checks.kubelets {
        Ok(kubelets) => kubelets,
        Err(error) => {
            return TreeNode::new(Severity::Unknown, title, format!("Nodes could not be read: {error}"));
        }
    };
    if kubelets.is_empty() {
        return TreeNode::new(Severity::Warning, title, "The cluster has no nodes.");
    }
    let mode = spec.metrics_core.kubelet.tls.mode;
    let children = kubelets.iter().map(|found| kubelet(found, mode)).collect();
    TreeNode::new(Severity::Ok, title, format!("Configuration of at most {SAMPLE} kubelets."))
        .with_children(children)
}

fn kubelet(kubelet: &Kubelet, mode: KubeletTlsMode) -> TreeNode {
    let node = |severity, text: String| TreeNode::new(severity, kubelet.node.clone(), text);
    let configuration = match &kubelet.configuration {
        Ok(configuration) => configuration,
        Err(error) => {
            return node(Severity::Unknown, format!("The configuration could not be read: {error}"));
        }
    };
    if configuration.authentication.webhook.enabled == Some(false) {
        let text = "The kubelet does not accept bearer tokens, so metrics-core would get 401. Set \
                    authentication.webhook.enabled: true in the kubelet's configuration.";
        return node(Severity::Error, text.to_owned());
    }
    if is_self_signed(configuration) && mode == KubeletTlsMode::Verify {
        let text = "The kubelet's serving certificate is self-signed, so metrics-core cannot verify it. In order of preference: \
                    set serverTLSBootstrap: true in the kubelet's configuration and have its CertificateSigningRequests \
                    approved (spec.metricsCore.kubelet.tls.csrApproval); set spec.metricsCore.kubelet.tls.mode: Pin; or set \
                    it to Insecure.";
        return node(Severity::Warning, text.to_owned());
    }
    let certificate = if configuration.server_tls_bootstrap {
        "requested from the cluster (serverTLSBootstrap)"
    } else if is_self_signed(configuration) {
        "self-signed"
    } else {
        "from tlsCertFile"
    };
    node(Severity::Ok, format!("Serving certificate: {certificate}. Bearer tokens: accepted."))
}

fn is_self_signed(configuration: &KubeletConfiguration) -> bool {
    !configuration.server_tls_bootstrap && configuration.tls_cert_file.is_empty()
}

fn operator(checks: &Checks) -> TreeNode {
    let deployment = status::operator(&checks.snapshot);
    if deployment.severity == Severity::Error || checks.is_lease_current() {
        return deployment;
    }
    let title = "operator";
    let namespace = checks.snapshot.namespace.as_deref().unwrap_or_default();
    if let Err(error) = &checks.lease {
        let text = format!("Lease {namespace}/{LEASE} could not be read: {error}");
        return TreeNode::new(Severity::Unknown, title, text);
    }
    let text = format!(
        "Lease {namespace}/{LEASE} was not renewed within the last {} s, so no operator is running. Check its logs: \
         `kubectl logs deployment/metrics-pipeline-operator --namespace {namespace}`",
        STALE.as_secs()
    );
    TreeNode::new(Severity::Error, title, text)
}

/// Reports the Pod Security level of the operator's namespace. A level that is too low is no fault: many clusters enforce
/// the same by other means.
fn pod_security(namespace: &str, level: &Fetched<Option<String>>, spec: &MetricsPipelineSpec) -> TreeNode {
    let title = "Pod Security";
    let level = match level {
        Ok(level) => level.as_deref(),
        Err(error) => {
            let text = format!("The labels of namespace {namespace} could not be read: {error}");
            return TreeNode::new(Severity::Unknown, title, text);
        }
    };
    let enforces = match level {
        Some(level) => format!("Namespace {namespace} enforces the level {level}"),
        None => format!("Namespace {namespace} enforces no level"),
    };
    let command =
        |level: &str| format!("`kubectl label namespace {namespace} {ENFORCE}={level} --overwrite`");
    if spec.metrics_core.scheduling.host_network {
        return if matches!(level, Some("baseline" | "restricted")) {
            let text = format!(
                "{enforces}, which rejects pods with spec.metricsCore.scheduling.hostNetwork. Allow them: {}",
                command("privileged")
            );
            TreeNode::new(Severity::Warning, title, text)
        } else {
            TreeNode::new(Severity::Ok, title, format!("{enforces}, as hostNetwork requires."))
        };
    }
    let text = match level {
        Some("restricted") => format!("{enforces}."),
        _ => format!(
            "{enforces}. The operator and metrics-core meet the level restricted. To enforce it: {}",
            command("restricted")
        ),
    };
    TreeNode::new(Severity::Ok, title, text)
}

fn conditions(active: &Pipeline) -> Vec<TreeNode> {
    if active.status.observed_generation != Some(active.generation) {
        let title = format!("MetricsPipeline {}", active.name);
        return vec![TreeNode::new(Severity::Waiting, title, status::NOT_OBSERVED)];
    }
    status::conditions(active)
}

fn no_pipeline(checks: &Checks) -> TreeNode {
    let title = "MetricsPipeline";
    match &checks.snapshot.pipelines {
        Err(error) if error.not_found => {
            let text = format!("The cluster has no CRD for it. {}", status::install());
            TreeNode::new(Severity::Warning, title, text)
        }
        Err(error) => TreeNode::new(Severity::Unknown, title, format!("Could not be read: {error}")),
        Ok(found) if !found.is_empty() => {
            let names: Vec<_> = found.iter().map(|pipeline| pipeline.name.as_str()).collect();
            let text = format!("{} is being deleted.", names.join(", "));
            TreeNode::new(Severity::Waiting, title, text)
        }
        Ok(_) if !checks.is_installed() => {
            let text = format!("None exists, and no operator is installed. {}", status::install());
            TreeNode::new(Severity::Warning, title, text)
        }
        Ok(_) => TreeNode::new(
            Severity::Error,
            title,
            "None exists. Create one: `kubectl apply --filename - <<< '{\"apiVersion\":\"metrics-pipeline.dev/v1alpha1\",\"kind\":\
             \"MetricsPipeline\",\"metadata\":{\"name\":\"cluster\"},\"spec\":{}}'`",
        ),
    }
}

#[cfg(test)]
mod tests;
