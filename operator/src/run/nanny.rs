//! The nanny's edge: what it sees, and what it did as status tells it.

use crds::{
    MetricsPipelineSpec, NannyMode, NannyStatus, Recommendation, ResizeMethod, ResizeStatus, ResourceAmounts,
    ScalingMode,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::apply::{Outcome, Resized, nanos};
use crate::decide::Sizing;
use crate::nanny::resize::{asked, is_alive, same};
use crate::nanny::{Advice, Held, Nanny, Policy, Sight};
use crate::observe::{Observed, Pipeline};
use crate::owned::{METRICS_CORE, Owned};

/// The nanny of the MetricsPipeline that is served.
#[derive(Debug, Default)]
pub struct Advisor {
    nanny: Nanny,
    /// Whose it is.
    of: String,
    /// What it advised last.
    advice: Advice,
}

impl Advisor {
    /// Looks at what is there and advises.
    pub fn advise(&mut self, pipeline: Option<&Pipeline>, observed: &Observed, now: Timestamp) {
        let serving = pipeline.filter(|pipeline| !pipeline.deleting);
        let Some((pipeline, spec)) =
            serving.and_then(|pipeline| Some((pipeline, pipeline.spec.as_ref().ok()?)))
        else {
            *self = Self::default();
            return;
        };
        if self.of != pipeline.uid {
            *self = Self { of: pipeline.uid.clone(), ..Self::default() };
        }
        if spec.nanny.mode == NannyMode::Off {
            (self.nanny, self.advice) = (Nanny::default(), Advice::default());
            return;
        }
        let policy = Policy::new(spec);
        let recorded = pipeline.status.nanny.as_ref().and_then(|status| recorded(status, &policy));
        self.advice = self.nanny.step(policy, recorded, &sight(spec, observed, now));
    }

    /// The size to hold.
    pub fn held(&self) -> Option<&Held> {
        self.advice.held.as_ref()
    }

    /// When to look again at the latest.
    pub fn next(&self) -> Option<Timestamp> {
        self.advice.next
    }
}

fn sight(spec: &MetricsPipelineSpec, observed: &Observed, now: Timestamp) -> Sight {
    let count = match spec.nanny.scaling_mode {
        ScalingMode::NodeProportional => observed.nodes,
        ScalingMode::ContainerProportional => observed.containers,
    };
    Sight {
        population: count.and_then(|count| u64::try_from(count).ok()),
        usage: observed.usage,
        present: observed.pods.iter().filter(|pod| is_alive(pod)).filter_map(memory).max(),
        killed: observed.pods.iter().filter(|pod| is_alive(pod)).filter_map(killed).max(),
        now,
    }
}

/// What the pod's container has.
fn memory(pod: &Pod) -> Option<u64> {
    let requests = asked(pod)?.requests.as_ref()?;
    u64::try_from(nanos(&requests.get("memory")?.0)? / 1_000_000_000).ok()
}

/// When the pod's container was last killed as its memory ran out.
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

fn recorded(status: &NannyStatus, policy: &Policy) -> Option<Held> {
    let recommendation = status.recommendation.as_ref()?;
    Some(Held {
        size: policy.read(&recommendation.requests),
        population: u64::try_from(recommendation.population).unwrap_or(0),
        reason: recommendation.reason.clone(),
        changed: status.applied.as_ref().map(|applied| applied.time.0),
    })
}

/// The nanny's part of status. What was last applied stays until something else is.
pub fn status(
    before: Option<&NannyStatus>,
    sizing: &Sizing,
    outcome: &Outcome,
    resized: &Resized,
    now: Timestamp,
) -> Option<NannyStatus> {
    let held = sizing.held.as_ref()?;
    let recommendation = Recommendation {
        requests: held.size.amounts(),
        population: i64::try_from(held.population).unwrap_or(i64::MAX),
        reason: held.reason.clone(),
    };
    let applied = before.and_then(|status| status.applied.clone());
    let applied = match change(before, sizing, outcome, resized) {
        Some(Change { method: ResizeMethod::InPlace, .. }) if has(applied.as_ref(), held) => applied,
        Some(Change { method, from }) => Some(ResizeStatus {
            time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
            method,
            from: requests(from),
            to: held.size.amounts(),
            reason: held.reason.clone(),
        }),
        None if came_in_place(sizing, outcome) && has(applied.as_ref(), held) => {
            applied.map(|applied| ResizeStatus { method: ResizeMethod::InPlace, ..applied })
        }
        None => applied,
    };
    Some(NannyStatus { recommendation: Some(recommendation), applied })
}

/// Whether that is what was last applied: a new pod from an old template is no new size.
fn has(applied: Option<&ResizeStatus>, held: &Held) -> bool {
    applied.is_some_and(|applied| applied.to == held.size.amounts())
}

/// Whether pods have their size in place, although new ones were tried before: the template has another one, or was
/// made again in vain.
fn came_in_place(sizing: &Sizing, outcome: &Outcome) -> bool {
    let (Some(template), Some(wanted)) = (&sizing.template, &sizing.wanted) else { return false };
    if same(template, wanted) {
        return sizing.taken_back && outcome.applied.contains(&Owned::Deployment);
    }
    sizing.template_from.is_none()
}

/// How resources were changed in a round, and what they were.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// How.
    pub method: ResizeMethod,
    /// What they were.
    pub from: &'a ResourceRequirements,
}

/// How resources were changed in this round. New pods that are made anyway, at the size that the old ones have got
/// in place, are no change.
pub fn change<'a>(
    before: Option<&NannyStatus>,
    sizing: &'a Sizing,
    outcome: &Outcome,
    resized: &'a Resized,
) -> Option<Change<'a>> {
    let (wanted, held) = (sizing.wanted.as_ref()?, sizing.held.as_ref()?);
    let is_news = sizing.instead.is_some() || !has(before.and_then(|status| status.applied.as_ref()), held);
    if let (Some(from), Some(template)) = (&sizing.template_from, &sizing.template)
        && outcome.applied.contains(&Owned::Deployment)
    {
        let is_change = is_news && !sizing.taken_back && same(template, wanted);
        return is_change.then_some(Change { method: ResizeMethod::Rollout, from });
    }
    resized.from.first().map(|from| Change { method: ResizeMethod::InPlace, from })
}

/// What is told of a change.
pub fn words(change: Change<'_>, sizing: &Sizing) -> Option<String> {
    let held = sizing.held.as_ref()?;
    let (size, reason) = (held.size, &held.reason);
    let before = requests(change.from);
    let of =
        |amount: &Option<Quantity>| amount.as_ref().map_or("none", |amount| amount.0.as_str()).to_owned();
    let gets = if before == size.amounts() {
        format!("metrics-core gets {size}")
    } else {
        format!(
            "metrics-core gets {size} instead of {} CPU and {} memory",
            of(&before.cpu),
            of(&before.memory)
        )
    };
    Some(match (change.method, &sizing.instead) {
        (ResizeMethod::InPlace, _) => format!("{gets}, in place: {reason}."),
        (ResizeMethod::Other, _) => format!("{gets}: {reason}."),
        (ResizeMethod::Rollout, None) => format!("{gets}, by new pods that are made anyway: {reason}."),
        (ResizeMethod::Rollout, Some(obstacle)) => {
            format!("{gets} ({reason}), by new pods, as that can't be had in place: {}.", obstacle.words())
        }
    })
}

/// What is told when new pods were made in vain.
pub fn taken_back(sizing: &Sizing, outcome: &Outcome) -> Option<String> {
    let is_taken_back = sizing.taken_back && outcome.applied.contains(&Owned::Deployment);
    let size = sizing.held.as_ref()?.size;
    is_taken_back.then(|| {
        format!(
            "metrics-core has {size} in place after all, while the new pods could not be placed: their rollout is taken \
             back."
        )
    })
}

fn requests(resources: &ResourceRequirements) -> ResourceAmounts {
    let of = |key: &str| resources.requests.as_ref().and_then(|requests| requests.get(key)).cloned();
    ResourceAmounts { cpu: of("cpu"), memory: of("memory") }
}

#[cfg(test)]
#[path = "nanny_tests.rs"]
mod tests;
