//! The nanny's advice: what it is given, and what it recommends.

use crds::{MetricsPipelineSpec, NannyMode, NannyStatus, ScalingMode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::common::METRICS_CORE;
use crate::common::quantity::nanos;
use crate::nanny::resize::{is_active, spec_resources};
use crate::nanny::{Advice, Nanny, NannyInput, Policy, RecommendedSize};
use crate::observe::{Observed, Pipeline};

/// The nanny of the active MetricsPipeline.
#[derive(Debug, Default)]
pub struct Advisor {
    nanny: Nanny,
    /// The UID of the MetricsPipeline that its state belongs to.
    uid: String,
    /// Its last advice.
    advice: Advice,
}

impl Advisor {
    /// Makes the advice of this round.
    pub fn advise(&mut self, pipeline: Option<&Pipeline>, observed: &Observed, now: Timestamp) {
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
        self.advice = self.nanny.step(policy, recorded, &input(spec, observed, now));
    }

    /// Returns the recommended size.
    pub fn recommended(&self) -> Option<&RecommendedSize> {
        self.advice.recommended.as_ref()
    }

    /// Returns when the next round is due at the latest.
    pub fn due(&self) -> Option<Timestamp> {
        self.advice.next
    }
}

fn input(spec: &MetricsPipelineSpec, observed: &Observed, now: Timestamp) -> NannyInput {
    let count = match spec.nanny.scaling_mode {
        ScalingMode::NodeProportional => observed.nodes,
        ScalingMode::ContainerProportional => observed.containers,
    };
    NannyInput {
        population: count.and_then(|count| u64::try_from(count).ok()),
        usage: observed.usage,
        present: observed.pods.iter().filter(|pod| is_active(pod)).filter_map(memory).max(),
        killed: observed.pods.iter().filter(|pod| is_active(pod)).filter_map(killed).max(),
        now,
    }
}

/// Returns the memory request of the pod's container in bytes.
fn memory(pod: &Pod) -> Option<u64> {
    let requests = spec_resources(pod)?.requests.as_ref()?;
    u64::try_from(nanos(&requests.get("memory")?.0)? / 1_000_000_000).ok()
}

/// Returns when the pod's container was last OOM-killed.
fn killed(pod: &Pod) -> Option<Timestamp> {
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

fn recorded(status: &NannyStatus, policy: &Policy) -> Option<RecommendedSize> {
    let recommendation = status.recommendation.as_ref()?;
    Some(RecommendedSize {
        size: policy.read(&recommendation.requests),
        population: u64::try_from(recommendation.population).unwrap_or(0),
        reason: recommendation.reason.clone(),
        changed: status.applied.as_ref().map(|applied| applied.time.0),
    })
}
