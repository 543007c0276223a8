//! One reconcile: observe, decide, apply, report.

mod reporting;

use std::time::{Duration, Instant};

use crds::{CsrApproval, FINALIZER, FrontProxyMode, KeyAlgorithm, MetricsPipeline, MetricsPipelineSpec};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::config::AuthInfo;
use kube::{Api, Client};
use serde_json::json;

use super::requeue::{self, Glance, SETTLED, State, UNSETTLED};
use crate::apply::{Approver, Resized, Resizer, Writer};
use crate::assess::conditions::{self, Evidence};
use crate::assess::diagnosis::kubelets;
use crate::common::Owned;
use crate::common::Power;
use crate::common::ownership;
use crate::observe::{Observed, Observer, Pipeline, Served, Source, serving};
use crate::pki::Rollover;
use crate::plan::nanny::Advisor;
use crate::plan::{Decision, Dismantle, Maintain, Sizing, decide};
use crate::report::nanny;
use crate::report::{Facts, Reporter, Telemetry, status};
use crate::settings::Settings;

/// While an old CA waits for the proof that it is not needed any more.
const PROVE_AGAIN: Duration = Duration::from_secs(1);

/// Rounds without a pause, as one step makes the next possible; more means that somebody undoes it.
const MAX_ROUNDS: usize = 8;

/// Why a reconcile ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Nothing could be read.
    #[error(transparent)]
    Observe(#[from] crate::observe::ObserveError),
    /// Nothing could be decided.
    #[error(transparent)]
    Decide(#[from] crate::plan::DecideError),
    /// The thread that decides ended early: a defect of the operator.
    #[error("the decision was not made, as its thread stopped")]
    Stopped,
    /// kube-apiserver was lost while writing.
    #[error("kube-apiserver can't be reached: {0}")]
    Unreachable(String),
    /// A MetricsPipeline could not be written.
    #[error("MetricsPipeline {name}: its {part} could not be written: {error}")]
    Pipeline {
        /// Its name.
        name: String,
        /// Which part of it.
        part: &'static str,
        /// Why not.
        error: Box<kube::Error>,
    },
    /// Some objects could not be written; the conditions say which and why.
    #[error("{0} objects could not be written; the conditions of the MetricsPipeline say why")]
    Incomplete(usize),
}

/// Reconciles again and again.
#[derive(Debug)]
pub struct Reconciler {
    settings: Settings,
    client: ClientOf,
    observer: Observer,
    writer: Writer,
    advisor: Advisor,
    resizer: Resizer,
    reporter: Reporter,
    telemetry: Telemetry,
    looked: Option<Look>,
    changed: Instant,
    approver: Approver,
}

/// The last look at what no watch tells.
#[derive(Debug)]
struct Look {
    /// When anything was looked at.
    last: Instant,
    /// When all of it was.
    whole: Instant,
    /// For which MetricsPipeline.
    uid: String,
    /// For which generation of it.
    generation: i64,
}

#[derive(Clone)]
struct ClientOf(Client);

impl std::fmt::Debug for ClientOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Reconciler {
    /// Starts the watches.
    #[must_use]
    pub fn new(client: Client, settings: Settings, telemetry: Telemetry, auth: &AuthInfo) -> Self {
        Self {
            observer: Observer::start(client.clone(), settings.namespace.clone(), settings.powers, auth),
            writer: Writer::new(client.clone(), settings.namespace.clone()),
            advisor: Advisor::default(),
            resizer: Resizer::new(client.clone(), &settings.namespace),
            reporter: Reporter::new(client.clone(), settings.namespace.clone(), settings.identity.clone()),
            approver: Approver::new(client.clone()),
            client: ClientOf(client),
            settings,
            telemetry,
            looked: None,
            changed: Instant::now(),
        }
    }

    /// The observer's bell.
    #[must_use]
    pub fn changes(&self) -> std::sync::Arc<crate::observe::Changes> {
        self.observer.changes()
    }

    /// Brings everything as near to the spec as it gets now; when to come again at the latest.
    pub async fn reconcile(&mut self) -> Result<Duration, ReconcileError> {
        for _ in 0..MAX_ROUNDS {
            if let Some(pause) = self.round().await? {
                return Ok(pause);
            }
        }
        Ok(UNSETTLED)
    }

    /// One round; `None` when what was done makes another worthwhile at once.
    async fn round(&mut self) -> Result<Option<Duration>, ReconcileError> {
        let is_news = self.observer.observe().await?;
        self.look_around(is_news).await;
        let now = Timestamp::now();
        // A copy of the few MetricsPipelines, as what is observed changes with each write.
        let pipelines = self.observer.observed().pipelines.clone();
        let serving = serving(&pipelines);
        self.advisor.update(serving.served, self.observer.observed(), now);
        let decision = self.decide(serving.served, now).await?;
        self.telemetry.keep_only(pipelines.iter().map(|pipeline| pipeline.name.as_str()));
        // A MetricsPipeline that can't be written must not keep the one that is served from being served.
        let others = self.report_others(&serving, now).await;
        let next = self.serve(serving.served, decision, now).await?;
        if next.is_some() {
            others?;
        }
        Ok(next)
    }

    /// New RSA keys take up to seconds; the Lease is renewed meanwhile.
    async fn decide(&self, served: Option<&Pipeline>, now: Timestamp) -> Result<Decision, ReconcileError> {
        let observed = self.observer.observed();
        let slow = served.and_then(|pipeline| pipeline.spec.as_ref().ok()).is_some_and(|spec| {
            spec.certificates.key_algorithm != KeyAlgorithm::ECDSAP256
                || spec.certificates.front_proxy.mode != FrontProxyMode::Off
        });
        if !slow {
            return Ok(decide(served, observed, &self.settings, self.advisor.recommended(), now)?);
        }
        let (served, observed, settings) = (served.cloned(), observed.clone(), self.settings.clone());
        let recommended = self.advisor.recommended().cloned();
        let decided = tokio::task::spawn_blocking(move || {
            decide(served.as_ref(), &observed, &settings, recommended.as_ref(), now)
        });
        Ok(decided.await.map_err(|_| ReconcileError::Stopped)??)
    }

    /// Whether the replicas were just proven to serve the certificate of a new CA.
    async fn prove(&mut self, spec: &MetricsPipelineSpec, plan: &Maintain) -> bool {
        let replacing =
            plan.certificates.as_ref().filter(|certificates| certificates.rollover == Rollover::Retiring);
        let Some(certificates) = replacing else {
            self.observer.settle();
            return false;
        };
        let port = u16::try_from(spec.metrics_core.secure_port_or_default()).unwrap_or_default();
        let server = format!("{}.{}.svc", Owned::Service.name(), self.settings.namespace);
        let (certificate, ca) = (&certificates.serving_certificate, &certificates.ca_certificate);
        self.observer.prove(port, &server, certificate, ca).await
    }

    /// Approves what may be approved of the kubelets' requests; when to come again.
    async fn approve(&mut self, pipeline: &Pipeline, spec: &MetricsPipelineSpec) -> Option<Duration> {
        let asked = spec.metrics_core.kubelet.tls.csr_approval == CsrApproval::Exact;
        if !asked || !self.settings.powers.has(Power::CsrApproval) {
            return None;
        }
        let approvals = self.approver.approve_pending(&self.observer.observed().signing_requests).await;
        for (name, node) in &approvals.approved {
            tracing::info!(name, node, "approved a kubelet's request for a serving certificate");
            self.telemetry.signing_request("approved");
            self.observer.forget(Source::SigningRequests);
        }
        for (name, reason) in &approvals.not_approved {
            tracing::info!(name, %reason, "did not approve a kubelet's request for a serving certificate");
            self.telemetry.signing_request(reason.code());
            self.reporter.events().left(pipeline, name, reason).await;
        }
        // No news, as between two looks, changes nothing.
        if approvals.checked {
            self.observer.approval_refused(approvals.error);
        }
        approvals.retry_after
    }

    async fn serve(
        &mut self,
        pipeline: Option<&Pipeline>,
        decision: Decision,
        now: Timestamp,
    ) -> Result<Option<Duration>, ReconcileError> {
        let Some(pipeline) = pipeline else { return Ok(Some(SETTLED)) };
        match decision {
            Decision::Idle => Ok(Some(SETTLED)),
            Decision::Claim => {
                self.set_finalizer(pipeline, true).await?;
                Ok(None)
            }
            Decision::Release => {
                self.set_finalizer(pipeline, false).await?;
                tracing::info!(metricspipeline = pipeline.name, "removed all that it owned");
                Ok(None)
            }
            Decision::Dismantle(plan) => self.dismantle(pipeline, &plan, now).await,
            Decision::Maintain(plan) => self.maintain(pipeline, &plan, now).await,
        }
    }

    /// Looks at what no watch tells.
    async fn look_around(&mut self, is_news: bool) {
        let served = serving(&self.observer.observed().pipelines).served;
        let Some(pipeline) = served.filter(|pipeline| !pipeline.deleting) else { return };
        let Ok(spec) = pipeline.spec.clone() else { return };
        let (uid, generation) = (pipeline.uid.clone(), pipeline.generation);
        // A changed spec may look for the kubelets' CA elsewhere, so what was seen for the old one is of no use.
        let known = self.looked.as_ref().filter(|look| look.uid == uid && look.generation == generation);
        let glance = known.map_or(Glance::Whole, |look| {
            requeue::glance(look.last.elapsed(), look.whole.elapsed(), is_news, self.observer.gets_through())
        });
        match glance {
            Glance::Nothing => {}
            Glance::Replicas => {
                self.observer.ask_replicas().await;
                if let Some(look) = &mut self.looked {
                    look.last = Instant::now();
                }
            }
            Glance::Whole => {
                self.observer.look_around(&spec).await;
                let now = Instant::now();
                self.looked = Some(Look { last: now, whole: now, uid, generation });
            }
        }
    }

    async fn maintain(
        &mut self,
        pipeline: &Pipeline,
        plan: &Maintain,
        now: Timestamp,
    ) -> Result<Option<Duration>, ReconcileError> {
        let outcome = self.writer.maintain(plan, &mut self.observer).await;
        self.count(&outcome);
        self.tell_certificates(pipeline, plan, &outcome).await;
        for (object, drift) in &outcome.drift {
            self.reporter.events().drift(pipeline, *object, drift).await;
        }
        if let Some(why) = outcome.unreachable {
            return Err(ReconcileError::Unreachable(why));
        }
        if outcome.outdated {
            return Ok(None);
        }
        let resized = self.resize(plan, now).await;
        let nanny = nanny::status(pipeline.status.nanny.as_ref(), &plan.sizing, &outcome, &resized, now);
        self.tell_resizes(pipeline, plan, &outcome, &resized).await;
        if let Some(why) = resized.unreachable {
            return Err(ReconcileError::Unreachable(why));
        }
        let Ok(spec) = &pipeline.spec else { return Ok(Some(SETTLED)) };
        let approve_again = self.approve(pipeline, spec).await;
        // What was just written is on its way to the replicas.
        if !outcome.wrote() && self.prove(spec, plan).await {
            return Ok(None);
        }
        let observed = self.observer.observed();
        let verdicts = conditions::evaluate(Evidence {
            namespace: &self.settings.namespace,
            spec,
            observed,
            plan,
            failed: &outcome.problems,
            now,
        });
        let in_doubt = observed.served_in_doubt;
        let is_well = verdicts.iter().all(|verdict| verdict.status == conditions::ConditionStatus::True)
            && observed.reports().all(|report| report.scrapes.is_empty());
        let ready = verdicts.first().is_some_and(|ready| ready.status == conditions::ConditionStatus::True);
        let failing = kubelets::failing(observed);
        self.telemetry.failing_nodes(&failing);
        let facts = Facts {
            certificates: plan.certificates.as_ref(),
            front_proxy: plan.front_proxy.as_ref(),
            nodes: coverage(observed),
            failing: &failing,
            nanny: nanny.as_ref(),
            refused: Some(&outcome.problems),
        };
        let status = status(pipeline, &verdicts, Some(facts), now);
        let causes = self.causes(spec, now, &failing);
        self.report(pipeline, &status, causes.as_deref()).await?;
        if outcome.wrote() || !resized.from.is_empty() {
            self.changed = Instant::now();
            return Ok(None);
        }
        let refused = outcome.problems.values().filter(|problem| is_error(problem)).count();
        if refused > 0 {
            return Err(ReconcileError::Incomplete(refused));
        }
        let unchanged = self.changed.elapsed();
        let pause = requeue::pause(State { ready, well: is_well, in_doubt, unchanged });
        let retiring = plan.certificates.as_ref().is_some_and(|plan| plan.rollover == Rollover::Retiring);
        let steps = [
            plan.certificates.as_ref().map(|plan| plan.next),
            plan.front_proxy.as_ref().map(|plan| plan.next_step),
        ];
        let step = steps.into_iter().flatten().min().map_or(pause, |next| {
            // In whole seconds and at least one: a step is due at a second, and is seen after it.
            let until = next.duration_since(now).as_secs().saturating_add(1);
            Duration::from_secs(u64::try_from(until).unwrap_or(1).max(1))
        });
        let prove_again = retiring.then_some(PROVE_AGAIN);
        let look = self.advisor.next().map(|next| {
            let until = next.duration_since(now).max(jiff::SignedDuration::from_millis(100));
            Duration::try_from(until).unwrap_or(pause)
        });
        let others = [prove_again, approve_again, look].into_iter().flatten();
        Ok(Some(others.fold(pause.min(step), Duration::min)))
    }

    /// Resizes running pods. While new ones are made at the right size, the old ones are left as they are.
    async fn resize(&mut self, plan: &Maintain, now: Timestamp) -> Resized {
        match &plan.sizing {
            Sizing { wanted: Some(wanted), template_from: None, .. } => {
                self.resizer.resize(wanted, &mut self.observer, now).await
            }
            _ => Resized::default(),
        }
    }

    async fn dismantle(
        &mut self,
        pipeline: &Pipeline,
        plan: &Dismantle,
        now: Timestamp,
    ) -> Result<Option<Duration>, ReconcileError> {
        let outcome = self.writer.dismantle(&plan.removals, &mut self.observer).await;
        self.count(&outcome);
        if let Some(why) = outcome.unreachable {
            return Err(ReconcileError::Unreachable(why));
        }
        if outcome.wrote() {
            return Ok(None);
        }
        let mut problems = plan.blocked.clone();
        problems.extend(outcome.problems);
        let verdict = conditions::deleting(&plan.waiting, &problems, &self.settings.namespace);
        let status = status(pipeline, &[verdict], None, now);
        self.report(pipeline, &status, None).await?;
        if problems.is_empty() {
            Ok(Some(UNSETTLED))
        } else {
            Err(ReconcileError::Incomplete(problems.len()))
        }
    }

    /// Sets or removes the finalizer, on the version that was seen: others' finalizers are not lost.
    async fn set_finalizer(&mut self, pipeline: &Pipeline, wanted: bool) -> Result<(), ReconcileError> {
        let mut finalizers: Vec<_> =
            pipeline.finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect();
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({ "metadata": {
            "resourceVersion": pipeline.resource_version, "uid": pipeline.uid, "finalizers": finalizers,
        } });
        let api: Api<MetricsPipeline> = Api::all(self.client.0.clone());
        let answer = api.patch_metadata(&pipeline.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        self.observer.forget(Source::Pipelines);
        match answer {
            Ok(_) => Ok(()),
            // Changed or gone meanwhile: the next round sees it.
            Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Ok(()),
            Err(error) => Err(of(pipeline, "finalizer", error)),
        }
    }
}

fn is_error(problem: &crate::common::Problem) -> bool {
    problem.reason != crds::Reason::WaitingForDependency
}

fn of(pipeline: &Pipeline, part: &'static str, error: kube::Error) -> ReconcileError {
    ReconcileError::Pipeline { name: pipeline.name.clone(), part, error: Box::new(error) }
}

/// Nodes with metrics, of all nodes; only when it is our server that answers.
fn coverage(observed: &Observed) -> Option<(usize, usize)> {
    if let Some(nodes) = kubelets::coverage(observed) {
        return Some((nodes.covered, nodes.total));
    }
    let ours = observed.object(Owned::ApiServiceV1beta1).is_some_and(ownership::is_ours);
    let covered = match observed.served {
        Served::Answered { nodes } if ours => nodes,
        _ => 0,
    };
    // A node that was just removed may have metrics a moment longer.
    observed.nodes.map(|total| (covered.min(total), total))
}
