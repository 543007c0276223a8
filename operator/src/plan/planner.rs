//! The plan step: what should be done for the active MetricsPipeline.

use crds::{FINALIZER, FrontProxyMode, KeyAlgorithm, NannyMode};
use jiff::Timestamp;

use super::nanny::Advisor;
use super::{Action, Plan, maintain, migration, objects, teardown};
use crate::nanny::RecommendedSize;
use crate::observe::{Observed, Pipeline, select_active};
use crate::settings::Settings;

/// Why no plan was made. All of these are defects of the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// An object could not be written as JSON.
    #[error("cannot serialize an object: {0}")]
    Serialize(#[from] serde_json::Error),
    /// The thread of the plan ended early.
    #[error("the planner thread stopped")]
    Stopped,
}

/// Makes the plan of each round. Its only state is the nanny's.
#[derive(Debug)]
pub(crate) struct Planner {
    settings: Settings,
    nanny: Advisor,
}

impl Planner {
    /// Returns a planner whose nanny has seen nothing yet.
    #[must_use]
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, nanny: Advisor::default() }
    }

    /// Returns the plan for what was observed.
    pub(crate) async fn plan(&mut self, observed: &Observed, now: Timestamp) -> Result<Plan, PlanError> {
        let active = select_active(&observed.pipelines).active;
        self.nanny.update(active, observed, now);
        let recommended = self.nanny.recommended();
        let action = if issues_slow_keys(active) {
            let (active, observed, settings) = (active.cloned(), observed.clone(), self.settings.clone());
            let recommended = recommended.cloned();
            // A new RSA key takes up to seconds; the Lease must be renewed meanwhile.
            let planned = tokio::task::spawn_blocking(move || {
                action(active.as_ref(), &observed, &settings, recommended.as_ref(), now)
            });
            planned.await.map_err(|_| PlanError::Stopped)??
        } else {
            action(active, observed, &self.settings, recommended, now)?
        };
        Ok(Plan { pipelines: observed.pipelines.clone(), action, nanny_due: self.nanny.next() })
    }
}

fn issues_slow_keys(active: Option<&Pipeline>) -> bool {
    active.and_then(|pipeline| pipeline.spec.as_ref().ok()).is_some_and(|spec| {
        spec.certificates.key_algorithm != KeyAlgorithm::ECDSAP256
            || spec.certificates.front_proxy.mode != FrontProxyMode::Off
    })
}

fn action(
    active: Option<&Pipeline>,
    observed: &Observed,
    settings: &Settings,
    recommended: Option<&RecommendedSize>,
    now: Timestamp,
) -> Result<Action, PlanError> {
    let Some(pipeline) = active else { return Ok(Action::Idle) };
    if pipeline.deleting {
        return Ok(teardown::plan(pipeline, observed, &settings.namespace));
    }
    let Ok(spec) = &pipeline.spec else { return Ok(Action::Idle) };
    if !pipeline.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::AddFinalizer);
    }
    let applies = spec.nanny.mode == NannyMode::Apply;
    let size = recommended.filter(|_| applies).map(|recommended| recommended.size);
    let serves_from = migration::serves_from(pipeline, observed, settings);
    let context = objects::Context { pipeline, spec, settings, size, serves_from: serves_from.as_deref() };
    let mut plan = maintain::maintain_plan(context, observed, now)?;
    plan.sizing.recommended = recommended.cloned();
    Ok(Action::Maintain(Box::new(plan)))
}
