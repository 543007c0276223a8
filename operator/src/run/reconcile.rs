//! The reconcile loop's body: observe → plan → apply → assess → report.

use std::time::{Duration, Instant};

use crds::Reason;
use jiff::Timestamp;
use kube::Client;
use tracing::{Instrument, debug_span};

use super::requeue::{self, State};
use crate::apply::{ApiServers, Applied, Applier, ApplyError, Interruption};
use crate::assess::{ActiveAssessment, Assessment, assess};
use crate::observe::{Changes, ObserveError, Observer, Source};
use crate::plan::{Action, Plan, PlanError, Planner};
use crate::report::{Reported, Reporter, Round, StatusError, Telemetry};
use crate::settings::Settings;

/// The maximum count of rounds without a pause, as one step makes the next possible. More means that another writer
/// reverts them.
const MAX_ROUNDS: usize = 8;

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    /// The cluster could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// No plan was made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan was not carried out.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A status could not be written.
    #[error(transparent)]
    Report(#[from] StatusError),
    /// Some objects could not be written; the conditions say which and why.
    #[error("{0} objects could not be written; the conditions of the MetricsPipeline show why")]
    Incomplete(usize),
}

/// When the next round starts.
enum Next {
    /// At once: what was done makes another round worthwhile.
    Now,
    /// After a pause, or when something changes.
    After(Duration),
}

/// Reconciles the active MetricsPipeline, round by round.
pub(super) struct Reconciler {
    namespace: String,
    observer: Observer,
    planner: Planner,
    applier: Applier,
    reporter: Reporter,
    /// When anything last changed.
    changed: Instant,
}

impl Reconciler {
    /// Starts the watches.
    #[must_use]
    pub(super) fn new(
        client: &Client,
        servers: ApiServers,
        settings: Settings,
        telemetry: Telemetry,
    ) -> Self {
        let namespace = settings.namespace.clone();
        let observer = Observer::start(client.clone(), &settings);
        Self {
            applier: Applier::new(client.clone(), &namespace, observer.known(), servers),
            observer,
            reporter: Reporter::new(client.clone(), namespace.clone(), settings.identity.clone(), telemetry),
            planner: Planner::new(settings),
            namespace,
            changed: Instant::now(),
        }
    }

    /// Returns what wakes the loop: the sources that changed.
    #[must_use]
    pub(super) fn changes(&self) -> std::sync::Arc<Changes> {
        self.observer.changes()
    }

    /// Runs rounds until nothing more can be done now. Returns when the next reconcile is due at the latest.
    pub(super) async fn reconcile(&mut self) -> Result<Duration, ReconcileError> {
        for _ in 0..MAX_ROUNDS {
            if let Next::After(pause) = self.round().await? {
                return Ok(pause);
            }
        }
        Ok(requeue::PROGRESSING)
    }

    /// One round: five steps, in this order. Each takes the results of those before it.
    async fn round(&mut self) -> Result<Next, ReconcileError> {
        self.observer.observe().instrument(debug_span!("observe")).await?;
        let now = Timestamp::now();

        let observed = self.observer.observed();
        let plan = self.planner.plan(observed, now).instrument(debug_span!("plan")).await?;

        let mut applied = self.applier.apply(&plan, observed, now).instrument(debug_span!("apply")).await;
        let learned = std::mem::take(&mut applied.learned);
        self.observer.learn(learned).instrument(debug_span!("learn")).await;

        let observed = self.observer.observed();
        let assessment =
            debug_span!("assess").in_scope(|| assess(&self.namespace, observed, &plan, &applied, now));

        let round = Round { observed, plan: &plan, applied: &applied, assessment: &assessment, now };
        let reported = self.reporter.report(round).instrument(debug_span!("report")).await;

        self.finish(&plan, applied, &assessment, reported, now)
    }

    /// Decides when the next round starts, or which error the round ends with.
    fn finish(
        &mut self,
        plan: &Plan,
        applied: Applied,
        assessment: &Assessment<'_>,
        reported: Reported,
        now: Timestamp,
    ) -> Result<Next, ReconcileError> {
        if reported.outdated {
            self.observer.mark_outdated(Source::Pipelines);
        }
        let wrote = applied.wrote();
        if wrote || reported.wrote_status {
            self.changed = Instant::now();
        }
        let failed = count_failed(plan, &applied);
        let pause = self.pause(plan, &applied, assessment, now);
        match applied.interrupted {
            Some(Interruption::Failed(error)) => return Err(error.into()),
            Some(Interruption::Outdated) => return Ok(Next::Now),
            None => {}
        }
        if let Some(error) = reported.active {
            return Err(error.into());
        }
        let is_idle = matches!(plan.action, Action::Idle);
        if wrote || (assessment.active.is_none() && !is_idle) {
            return Ok(Next::Now);
        }
        if failed > 0 {
            return Err(ReconcileError::Incomplete(failed));
        }
        // A MetricsPipeline that is not active must not keep the active one from being reconciled.
        if let Some(error) = applied.others.into_iter().next() {
            return Err(error.into());
        }
        match reported.others {
            Some(error) => Err(error.into()),
            None => Ok(Next::After(pause)),
        }
    }

    fn pause(&self, plan: &Plan, applied: &Applied, assessment: &Assessment<'_>, now: Timestamp) -> Duration {
        let Action::Maintain(maintain) = &plan.action else {
            let is_idle = matches!(plan.action, Action::Idle);
            return if is_idle { requeue::IDLE } else { requeue::PROGRESSING };
        };
        let active = assessment.active.as_ref();
        let state = State {
            ready: active.is_some_and(ActiveAssessment::is_ready),
            healthy: active.is_some_and(|active| active.healthy),
            in_doubt: self.observer.observed().served_in_doubt,
            unchanged: self.changed.elapsed(),
        };
        requeue::pause(state).min(requeue::until_due(maintain, applied, plan.nanny_due, now))
    }
}

/// Counts the objects that could not be read or written. An object that only waits for another one is no failure.
fn count_failed(plan: &Plan, applied: &Applied) -> usize {
    let problems = &applied.outcome.problems;
    match &plan.action {
        Action::Maintain(_) => {
            problems.values().filter(|problem| problem.reason != Reason::WaitingForDependency).count()
        }
        Action::TearDown(plan) => {
            plan.blocked.len() + problems.keys().filter(|object| !plan.blocked.contains_key(object)).count()
        }
        Action::Orphan(_) => problems.len(),
        Action::Idle | Action::AddFinalizer | Action::RemoveFinalizer => 0,
    }
}
