//! The checks of `doctor`: what keeps, or would keep, the pipeline from working. They are also made before anything
//! is installed. Pure.
//!
//! Where the operator is at work its conditions are the diagnosis: it sees what no client can, such as which
//! certificate kube-apiserver shows to metrics-core. Where it is not, the checks say what can be seen from here.

use crds::{Adoption, KubeletTlsMode, MetricsPipelineSpec};
use jiff::{SignedDuration, Timestamp};

use super::examination::{Examination, Kubelet, KubeletConfiguration};
use super::picture::{Part, Picture};
use super::status;
use super::tree::{Branch, Mark};
use crate::assess::diagnosis::front_proxy::Configured;
use crate::common::ownership;
use crate::observe::{FrontProxyMap, Pipeline, serving};
use crds::extension_apiserver_authentication::{Finding, RECREATE_COMMAND};

/// The oldest Kubernetes that is supported.
const OLDEST: (u32, u32) = (1, 33);

/// A Lease that was not renewed for so long belongs to nobody: it is renewed every 5 s and runs out after 15.
const STALE: SignedDuration = SignedDuration::from_secs(60);

/// All checks.
#[must_use]
pub fn doctor(examination: &Examination) -> Branch {
    let picture = &examination.picture;
    let pipelines = picture.pipelines.as_deref().unwrap_or_default();
    let serving = serving(pipelines);
    let served = serving.served.filter(|served| !served.deleting);
    let installed = picture.operators.as_ref().is_ok_and(|found| !found.is_empty());
    let works = installed && works(&examination.lease, examination.now);
    let spec = served.and_then(|served| served.spec.as_ref().ok()).cloned().unwrap_or_default();

    let mut checks = vec![version(examination)];
    // With a working operator its conditions know more than the checks from here.
    let diagnosed = served.filter(|_| works);
    if diagnosed.is_none() {
        checks.push(aggregation_layer(&examination.front_proxy));
        checks.push(registrations(examination, &spec));
        checks.push(kubelets(examination, &spec));
    }
    if installed || served.is_some() {
        checks.push(operator(examination));
    }
    match (served, diagnosed) {
        (_, Some(served)) => checks.extend(conditions(served)),
        (Some(served), None) => {
            let text = format!(
                "The conditions of MetricsPipeline {} may be out of date, as no operator is at work.",
                served.name
            );
            checks.push(Branch::new(Mark::Unknown, "conditions", text));
        }
        (None, None) => checks.push(no_pipeline(examination)),
    }
    checks.extend(serving.conflicting.iter().map(|other| {
        let text = format!(
            "waits, as the older MetricsPipeline {0} is served. Delete one of them: `kubectl delete metricspipeline {1}`.",
            serving.served.map_or("", |served| served.name.as_str()),
            other.name
        );
        Branch::new(Mark::Bad, format!("MetricsPipeline {}", other.name), text)
    }));
    checks.extend(serving.malformed.iter().map(|other| {
        let why = other.spec.as_ref().err().cloned().unwrap_or_default();
        Branch::new(
            Mark::Bad,
            format!("MetricsPipeline {}", other.name),
            format!("can't be read: spec.{why}"),
        )
    }));
    checks.push(status::autoscalers(&picture.autoscalers));
    let count = |at_least: Mark| checks.iter().filter(|check| check.mark >= at_least).count();
    let (wrong, unknown) = (count(Mark::Warning), count(Mark::Unknown) - count(Mark::Warning));
    let mut text = match wrong {
        0 => format!("{} checks, nothing is wrong", checks.len()),
        1 => format!("{} checks, 1 has a finding", checks.len()),
        _ => format!("{} checks, {wrong} have findings", checks.len()),
    };
    if unknown > 0 {
        text = format!("{text}; {unknown} could not be made");
    }
    Branch::new(Mark::Good, "doctor", text).with(checks)
}

/// Whether an operator holds the Lease now.
fn works(lease: &Part<Option<Timestamp>>, now: Timestamp) -> bool {
    let renewed = lease.as_ref().ok().copied().flatten();
    renewed.is_some_and(|renewed| now.duration_since(renewed) < STALE)
}

/// Whether the conditions of a MetricsPipeline are the diagnosis, so that the ground need not be examined.
pub(super) fn is_diagnosed(picture: &Picture, lease: &Part<Option<Timestamp>>, now: Timestamp) -> bool {
    let installed = picture.operators.as_ref().is_ok_and(|found| !found.is_empty());
    let pipelines = picture.pipelines.as_deref().unwrap_or_default();
    let served = serving(pipelines).served.is_some_and(|served| !served.deleting);
    installed && served && works(lease, now)
}

fn version(examination: &Examination) -> Branch {
    let title = "Kubernetes";
    match &examination.version {
        Ok(version) if version.number >= OLDEST => Branch::new(Mark::Good, title, version.text.clone()),
        Ok(version) => {
            let text = format!(
                "{} is older than {}.{}, the oldest version that is supported. Update the control plane.",
                version.text, OLDEST.0, OLDEST.1
            );
            Branch::new(Mark::Bad, title, text)
        }
        Err(why) => {
            Branch::new(Mark::Unknown, title, format!("kube-apiserver does not tell its version: {why}"))
        }
    }
}

fn aggregation_layer(map: &FrontProxyMap) -> Branch {
    let title = "aggregation layer";
    let Some(configured) = Configured::read(map) else {
        let why = match map {
            FrontProxyMap::Unreadable(why) => why.message.as_str(),
            _ => "it was not asked for",
        };
        let text =
            format!("ConfigMap kube-system/extension-apiserver-authentication could not be read: {why}");
        return Branch::new(Mark::Unknown, title, text);
    };
    if configured.findings.is_empty() {
        let names = match configured.names.allowed_names.as_slice() {
            [] => "any common name".to_owned(),
            names => names.join(", "),
        };
        let text = format!("kube-apiserver names a CA for its front-proxy certificate, with {names}.");
        return Branch::new(Mark::Good, title, text);
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
            let mark = match finding {
                Finding::AnyClientMayImpersonate | Finding::GroupHeadersMissing => Mark::Warning,
                _ => Mark::Bad,
            };
            Branch::new(mark, finding.code(), finding.to_string())
        })
        .collect();
    let text = format!(
        "Nothing in the ConfigMap is ever taken out, so a value may be of an earlier flag; to see today's flags alone: `{RECREATE_COMMAND}`"
    );
    Branch::new(Mark::Good, title, text).with(parts)
}

fn registrations(examination: &Examination, spec: &MetricsPipelineSpec) -> Branch {
    let title = "APIServices of metrics.k8s.io";
    let found = match &examination.registrations {
        Ok(found) => found,
        Err(why) => return Branch::new(Mark::Unknown, title, format!("could not be read: {why}")),
    };
    let Some(foreign) = found.iter().find(|object| !ownership::is_ours(object)) else {
        let text = if found.is_empty() {
            "nobody's yet: they are free to be taken"
        } else {
            "they are this operator's"
        };
        return Branch::new(Mark::Good, title, text);
    };
    let name = foreign.metadata.name.as_deref().unwrap_or_default();
    let whose = ownership::whose(foreign);
    match spec.api_service.adoption {
        Adoption::Adopt => Branch::new(
            Mark::Good,
            title,
            format!("{name} is somebody else's ({whose}) and will be taken over."),
        ),
        Adoption::Never => {
            let text = format!(
                "{name} is somebody else's ({whose}). A MetricsPipeline takes it over only with spec.apiService.adoption: Adopt; \
                 or remove the other server first."
            );
            Branch::new(Mark::Warning, title, text)
        }
    }
}

fn kubelets(examination: &Examination, spec: &MetricsPipelineSpec) -> Branch {
    let title = "kubelets";
    let kubelets = match &examination.kubelets {
        Ok(kubelets) => kubelets,
        Err(why) => return Branch::new(Mark::Unknown, title, format!("nodes could not be read: {why}")),
    };
    let parts: Vec<_> =
        kubelets.iter().map(|found| kubelet(found, spec.metrics_core.kubelet.tls.mode)).collect();
    if parts.is_empty() {
        return Branch::new(Mark::Warning, title, "The cluster has no nodes.");
    }
    Branch::new(Mark::Good, title, "the configuration of some").with(parts)
}

fn kubelet(kubelet: &Kubelet, mode: KubeletTlsMode) -> Branch {
    let node = &kubelet.node;
    let branch = |mark, text: String| Branch::new(mark, node.clone(), text);
    let configuration = match &kubelet.configuration {
        Ok(configuration) => configuration,
        Err(why) => return branch(Mark::Unknown, format!("does not tell its configuration: {why}")),
    };
    if configuration.authentication.webhook.enabled == Some(false) {
        let text = "takes no tokens, so metrics-core would get 401: set authentication.webhook.enabled: true in its configuration.";
        return branch(Mark::Bad, text.to_owned());
    }
    if signs_itself(configuration) && mode == KubeletTlsMode::Verify {
        let text = "signs its own serving certificate, which no CA vouches for. In this order of merit: set serverTLSBootstrap: true in its \
                    configuration and have its requests approved (spec.metricsCore.kubelet.tls.csrApproval); or spec.metricsCore.kubelet.tls.mode: \
                    Pin; or Insecure.";
        return branch(Mark::Warning, text.to_owned());
    }
    let how = if configuration.server_tls_bootstrap {
        "has the cluster sign its serving certificate"
    } else if signs_itself(configuration) {
        "signs its own serving certificate"
    } else {
        "was given its serving certificate"
    };
    branch(Mark::Good, format!("{how} and takes tokens"))
}

fn signs_itself(configuration: &KubeletConfiguration) -> bool {
    !configuration.server_tls_bootstrap && configuration.tls_cert_file.is_empty()
}

fn operator(examination: &Examination) -> Branch {
    let branch = status::operator(&examination.picture);
    if branch.mark == Mark::Bad || works(&examination.lease, examination.now) {
        return branch;
    }
    let title = "operator";
    if let Err(why) = &examination.lease {
        return Branch::new(Mark::Unknown, title, format!("its Lease could not be read: {why}"));
    }
    let namespace = examination.picture.namespace.as_deref().unwrap_or_default();
    let text = format!(
        "its Lease was not renewed for more than {} s, so nobody acts. See `kubectl logs deployment/metrics-pipeline-operator \
         --namespace {namespace}`.",
        STALE.as_secs()
    );
    Branch::new(Mark::Bad, title, text)
}

fn conditions(served: &Pipeline) -> Vec<Branch> {
    if served.status.observed_generation != Some(served.generation) {
        let text = "the operator has not acted on the latest spec yet";
        return vec![Branch::new(Mark::Waiting, format!("MetricsPipeline {}", served.name), text)];
    }
    status::conditions(served)
}

fn no_pipeline(examination: &Examination) -> Branch {
    let title = "MetricsPipeline";
    let (mark, text) = match &examination.picture.pipelines {
        Err(why) if why.absent => (
            Mark::Warning,
            "is not installed yet: `helm install metrics-pipeline charts/metrics-pipeline --namespace metrics-pipeline --create-namespace`"
                .to_owned(),
        ),
        Err(why) => (Mark::Unknown, format!("could not be read: {why}")),
        Ok(_) => (
            Mark::Bad,
            "none is there. Apply one: `kubectl apply --filename - <<< '{\"apiVersion\":\"metrics-pipeline.dev/v1alpha1\",\"kind\":\
             \"MetricsPipeline\",\"metadata\":{\"name\":\"cluster\"},\"spec\":{}}'`"
                .to_owned(),
        ),
    };
    Branch::new(mark, title, text)
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
