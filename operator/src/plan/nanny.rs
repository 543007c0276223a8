//! The nanny of the active MetricsPipeline: collects its input and keeps its recommendation between reconciles.

use crds::{MetricsPipelineSpec, NannyMode, NannyStatus, ScalingMode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::common::METRICS_CORE;
use crate::common::quantity::nanos;
use crate::nanny::resize::{is_active, spec_resources};
use crate::nanny::{Advice, Nanny, NannyInput, Policy, RecommendedSize, SizeReason};
use crate::observe::{Observed, Pipeline};

/// Recommends sizes for the active MetricsPipeline.
#[derive(Debug, Default)]
pub(super) struct Advisor {
    nanny: Nanny,
    /// The UID of the MetricsPipeline.
    uid: String,
    /// The last advice.
    advice: Advice,
}

impl Advisor {
    /// Updates the advice from the observed state. Resets it when the MetricsPipeline is another one, is being
    /// deleted or turns the nanny off.
    pub(super) fn update(&mut self, pipeline: Option<&Pipeline>, observed: &Observed, now: Timestamp) {
        let active = pipeline.filter(|pipeline| !pipeline.deleting);
        let Some((pipeline, spec)) =
            active.and_then(|pipeline| Some((pipeline, pipeline.spec.as_ref().ok()?)))
        else {
            *self = Self::default();
            return;
        };
        if self.uid != pipeline.uid {
            *self = Self { uid: pipeline.uid.clone(), ..Self::default() };
        }
        if spec.nanny.mode == NannyMode::Off {
            (self.nanny, self.advice) = (Nanny::default(), Advice::default());
            return;
        }
        let policy = Policy::new(spec);
        let recorded = pipeline.status.nanny.as_ref().and_then(|status| recorded(status, &policy));
        self.advice = self.nanny.recommend(policy, recorded, &input(spec, observed, now));
    }

    /// Returns the recommended size; `None` if the nanny is off or the cluster size is unknown.
    #[must_use]
    pub(super) fn recommended(&self) -> Option<&RecommendedSize> {
        self.advice.recommended.as_ref()
    }

    /// Returns when to update the advice again at the latest.
    #[must_use]
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.advice.next
    }
}

fn input(spec: &MetricsPipelineSpec, observed: &Observed, now: Timestamp) -> NannyInput {
    let count = match spec.nanny.scaling_mode {
        ScalingMode::NodeProportional => observed.nodes,
        ScalingMode::ContainerProportional => observed.containers,
    };
    let active = || observed.pods.iter().filter(|pod| is_active(pod));
    NannyInput {
        population: count.and_then(|count| u64::try_from(count).ok()),
        usage: observed.usage,
        current_memory: active().filter_map(requested_memory).max(),
        last_oom_kill: active().filter_map(last_oom_kill).max(),
        now,
    }
}

/// Returns the memory request of metrics-core's container in bytes.
fn requested_memory(pod: &Pod) -> Option<u64> {
    let requests = spec_resources(pod)?.requests.as_ref()?;
    u64::try_from(nanos(&requests.get("memory")?.0)? / 1_000_000_000).ok()
}

/// Returns when metrics-core's container was last OOM-killed.
fn last_oom_kill(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ours = statuses.iter().find(|status| status.name == METRICS_CORE)?;
    [ours.state.as_ref(), ours.last_state.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref())
        .filter(|terminated| terminated.reason.as_deref() == Some("OOMKilled"))
        .filter_map(|terminated| Some(terminated.finished_at.as_ref()?.0))
        .max()
}

/// Returns the recommended size that the status records.
fn recorded(status: &NannyStatus, policy: &Policy) -> Option<RecommendedSize> {
    let recommendation = status.recommendation.as_ref()?;
    Some(RecommendedSize {
        size: policy.parse_size(&recommendation.requests),
        population: u64::try_from(recommendation.population).unwrap_or(0),
        reason: SizeReason::Recorded(recommendation.reason.clone()),
        changed: status.applied.as_ref().map(|applied| applied.time.0),
    })
}
