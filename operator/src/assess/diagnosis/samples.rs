//! Diagnoses why the samples of nodes are incomplete or wrong although their kubelets respond, from the reports of the
//! metrics-core replicas.

use crds::Reason;
use crds::cause::SampleCause;

use super::{Cause, DiagnosisInput, Severity};
use crate::common::METRICS_CORE;
use crate::common::normalize::quote;
use crate::observe::FaultySamples;

/// Returns the fault or warning, if any: faults come before warnings, then the cause of most nodes; the others are
/// evidence.
pub(super) fn diagnose(input: DiagnosisInput<'_>) -> Option<Cause> {
    let faulty = &input.observed.facts.faulty_samples;
    let is_warning = |samples: &&FaultySamples| severity(samples.cause) == Severity::Warning;
    let worst = faulty.iter().find(|samples| !is_warning(samples)).or_else(|| faulty.first())?;
    let mut cause = explain(input, worst);
    let others: Vec<_> = faulty
        .iter()
        .filter(|other| other.code != worst.code)
        .map(|other| format!("{}: {}", other.code, other.describe()))
        .collect();
    if !others.is_empty() {
        cause.evidence = format!("{} Other causes: {}.", cause.evidence, others.join("; "));
    }
    Some(cause)
}

/// Explains one cause: the affected nodes, what metrics-core found on one of them, and the remedy.
#[must_use]
pub(crate) fn explain(input: DiagnosisInput<'_>, faulty: &FaultySamples) -> Cause {
    let (reason, what) = name(faulty.cause);
    let code = match faulty.cause {
        SampleCause::Other => format!(" ({})", faulty.code),
        _ => String::new(),
    };
    let evidence = faulty.examples.first().map(|example| {
        format!(
            "metrics-core reports for node {}: \"{}\".",
            example.node,
            quote(&example.message).trim_end_matches('.')
        )
    });
    Cause {
        reason,
        severity: severity(faulty.cause),
        summary: format!("{what}{code}: {}.", faulty.describe()),
        evidence: evidence.unwrap_or_default(),
        remedy: remedy(input, faulty),
    }
}

/// Returns the reason and a description of the cause.
#[must_use]
pub(crate) const fn name(cause: SampleCause) -> (Reason, &'static str) {
    match cause {
        SampleCause::ScrapeError => (
            Reason::KubeletScrapeErrors,
            "The kubelet reports that it could not collect all metrics (resource_scrape_error)",
        ),
        SampleCause::NoContainers => (
            Reason::KubeletContainersMissing,
            "The kubelet returns no containers, although pods run on the node",
        ),
        SampleCause::ZeroUsage => (
            Reason::KubeletZeroUsage,
            "The kubelet reports zero or no CPU or memory usage, so that pods have no metrics",
        ),
        SampleCause::PodsMissing => {
            (Reason::PodsMissing, "Running pods are missing from the kubelet's responses")
        }
        SampleCause::TimestampsStalled => (
            Reason::KubeletTimestampsStalled,
            "The kubelet repeats old samples: their timestamps do not advance",
        ),
        SampleCause::ClockSkew => (
            Reason::KubeletClockSkew,
            "The clock of the node differs from the clock of metrics-core by more than a minute, so that the \
             HorizontalPodAutoscaler may ignore the pods' metrics",
        ),
        SampleCause::DuplicateAddress => (
            Reason::KubeletAddressConflict,
            "Several Nodes have the same address, port and path, so that the usage of one machine is served for all of \
             them",
        ),
        SampleCause::ImplausibleUsage => (
            Reason::KubeletUsageImplausible,
            "The kubelet reports more CPU usage than the node has CPUs; metrics-core does not serve it",
        ),
        SampleCause::DuplicateSeries => (
            Reason::KubeletSeriesDuplicated,
            "The kubelet returns several series for one container; metrics-core follows the one that advances, or leaves \
             the pod out",
        ),
        SampleCause::Other => (
            Reason::KubeletSamplesFaulty,
            "metrics-core reports faulty samples for a cause that this version of the operator does not know",
        ),
    }
}

/// Returns the severity of a cause. A warning leaves the metrics of all pods available.
#[must_use]
pub(crate) const fn severity(cause: SampleCause) -> Severity {
    match cause {
        SampleCause::ScrapeError
        | SampleCause::NoContainers
        | SampleCause::ZeroUsage
        | SampleCause::PodsMissing
        | SampleCause::TimestampsStalled
        | SampleCause::DuplicateAddress
        | SampleCause::ImplausibleUsage => Severity::Fault,
        SampleCause::ClockSkew | SampleCause::DuplicateSeries | SampleCause::Other => Severity::Warning,
    }
}

fn remedy(input: DiagnosisInput<'_>, faulty: &FaultySamples) -> String {
    let node = faulty.examples.first().map_or("NODE", |example| example.node.as_str());
    let response =
        format!("`kubectl get --raw /api/v1/nodes/{node}/proxy/metrics/resource` shows the response.");
    match faulty.cause {
        SampleCause::ScrapeError => format!(
            "Check the kubelet's log on the node (`journalctl -u kubelet`) for errors of the stats provider, and that \
             the container runtime responds (`crictl stats`). {response}"
        ),
        SampleCause::NoContainers => format!(
            "Check the kubelet's log on the node (`journalctl -u kubelet`): cAdvisor does not find the containers of the \
             container runtime. Restart the kubelet after the runtime. {response}"
        ),
        SampleCause::ZeroUsage => format!(
            "{response} Compare it with `crictl stats` on the node. If the runtime reports usage, restart the kubelet; \
             if not, recreate the pods."
        ),
        SampleCause::PodsMissing => format!(
            "Run `kubectl get pods --all-namespaces --field-selector spec.nodeName={node}`. Containers that wait for a \
             restart (CrashLoopBackOff) have no metrics. If the containers run, check the kubelet's log on the node \
             (`journalctl -u kubelet`) and restart the kubelet. {response}"
        ),
        SampleCause::TimestampsStalled => format!(
            "Check the kubelet's log on the node (`journalctl -u kubelet`) and that the container runtime responds \
             (`crictl stats`). Restart the kubelet if the timestamps still do not advance. {response}"
        ),
        SampleCause::ClockSkew => format!(
            "Synchronize the clock of node {node} (NTP; `timedatectl` on the node). If all nodes are affected, \
             synchronize the clock of the node on which metrics-core runs."
        ),
        SampleCause::DuplicateAddress => {
            "Run `kubectl get nodes -o wide`. Delete the Node that no longer exists, or correct its address (the \
             kubelet's --node-ip and --hostname-override). Nodes that share an address on purpose need one path each \
             (annotation metrics.k8s.io/resource-metrics-path)."
                .to_owned()
        }
        SampleCause::ImplausibleUsage => format!(
            "{response} Compare container_cpu_usage_seconds_total between two responses, and with the CPU capacity of \
             the node (`kubectl get node {node} -o jsonpath={{.status.capacity.cpu}}`). If the capacity is correct, \
             restart the kubelet."
        ),
        SampleCause::DuplicateSeries => format!(
            "Usually the cgroup of an earlier instance of the container was left behind. {response} Restart the kubelet, \
             or restart the node if the cgroup remains."
        ),
        SampleCause::Other => format!(
            "Run `kubectl logs deployment/{METRICS_CORE} --namespace {}` for details, and update the operator to the \
             version of metrics-core.",
            input.namespace
        ),
    }
}
