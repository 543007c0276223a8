//! Reports the outcome of a reconcile: status, events and metrics.

use std::time::Instant;

use crds::{MetricsPipelineSpec, MetricsPipelineStatus, ResizeMethod};
use jiff::Timestamp;

use super::{ReconcileError, Reconciler, of};
use crate::apply::{Outcome, Resized};
use crate::assess::conditions::{self, Condition};
use crate::assess::diagnosis;
use crate::assess::diagnosis::kubelets::{self, Failing};
use crate::common::Owned;
use crate::observe::{Pipeline, Serving, Source};
use crate::plan::Maintain;
use crate::report::nanny;
use crate::report::{Facts, KubeletCause, status};

impl Reconciler {
    pub(super) async fn report(
        &mut self,
        pipeline: &Pipeline,
        status: &MetricsPipelineStatus,
        kubelets: Option<&[KubeletCause]>,
    ) -> Result<(), ReconcileError> {
        self.telemetry.conditions(&pipeline.name, status);
        match self.reporter.report(pipeline, status, kubelets).await {
            Ok(false) => {}
            Ok(true) => {
                self.changed = Instant::now();
                self.observer.forget(Source::Pipelines);
            }
            Err(error) => {
                self.observer.forget(Source::Pipelines);
                let gone = matches!(&error, kube::Error::Api(status) if status.is_not_found() || status.is_conflict());
                if !gone {
                    return Err(of(pipeline, "status", error));
                }
            }
        }
        Ok(())
    }

    /// Reports every MetricsPipeline that is not active, and returns the first error.
    pub(super) async fn report_others(
        &mut self,
        serving: &Serving<'_>,
        now: Timestamp,
    ) -> Result<(), ReconcileError> {
        let mut result = Ok(());
        for pipeline in &serving.released {
            result = result.and(self.set_finalizer(pipeline, false).await);
        }
        for pipeline in &serving.malformed {
            let error = pipeline.spec.as_ref().err().cloned().unwrap_or_default();
            let status = without_facts(pipeline, &conditions::malformed(&error), now);
            result = result.and(self.report(pipeline, &status, None).await);
        }
        if let Some(served) = serving.served {
            for pipeline in &serving.conflicting {
                let status = without_facts(pipeline, &conditions::conflict(served), now);
                result = result.and(self.report(pipeline, &status, None).await);
            }
        }
        result
    }

    /// Explains why kubelets cannot be scraped, by cause; returns `None` if no replica reports.
    pub(super) fn causes(
        &self,
        spec: &MetricsPipelineSpec,
        now: Timestamp,
        failing: &[Failing],
    ) -> Option<Vec<KubeletCause>> {
        let observed = self.observer.observed();
        kubelets::coverage(observed)?;
        let facts = diagnosis::Facts { namespace: &self.settings.namespace, spec, observed, now };
        let one = |failing: &Failing| KubeletCause {
            cause: kubelets::explain(facts, failing),
            failing: failing.clone(),
        };
        Some(failing.iter().map(one).collect())
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        for object in &outcome.applied {
            self.telemetry.wrote(*object, "apply");
        }
        for object in &outcome.deleted {
            self.telemetry.wrote(*object, "delete");
        }
    }

    pub(super) async fn tell_certificates(
        &mut self,
        pipeline: &Pipeline,
        plan: &Maintain,
        outcome: &Outcome,
    ) {
        let secrets =
            [Owned::CaSecret, Owned::ServingSecret, Owned::FrontProxyCaSecret, Owned::FrontProxySecret];
        // A certificate that could not be stored is not in use.
        if !secrets.iter().any(|secret| outcome.problems.contains_key(secret)) {
            self.telemetry.certificates(plan.certificates.as_ref(), plan.front_proxy.as_ref());
        }
        let mut renewals = Vec::new();
        if let Some(certificates) = &plan.certificates {
            renewals.push((Owned::CaSecret, "CA", &certificates.ca_renewed));
            renewals.push((Owned::ServingSecret, "serving", &certificates.serving_renewed));
        }
        if let Some(front_proxy) = &plan.front_proxy {
            renewals.push((Owned::FrontProxyCaSecret, "front-proxy CA", &front_proxy.ca_issued));
            renewals.push((Owned::FrontProxySecret, "front-proxy client", &front_proxy.client_issued));
        }
        for (object, which, why) in renewals {
            if let Some(why) = why
                && outcome.applied.contains(&object)
            {
                tracing::info!(which, %why, "issued a certificate");
                self.reporter.events().renewed(pipeline, object, which, &why.to_string()).await;
            }
        }
    }

    pub(super) async fn tell_resizes(
        &self,
        pipeline: &Pipeline,
        plan: &Maintain,
        outcome: &Outcome,
        resized: &Resized,
    ) {
        self.telemetry.sizes(&plan.sizing, &self.observer.observed().pods);
        for _ in 0..resized.refused {
            self.telemetry.resized("refused");
        }
        for _ in &resized.from {
            self.telemetry.resized("in_place");
        }
        for drift in &resized.drift {
            self.telemetry.resized("drift");
            self.reporter.events().drift(pipeline, Owned::Deployment, drift).await;
        }
        if let Some(note) = nanny::revert_note(&plan.sizing, outcome) {
            self.reporter.events().resized(pipeline, "Revert", &note).await;
        }
        let before = pipeline.status.nanny.as_ref();
        let Some(change) = nanny::change(before, &plan.sizing, outcome, resized) else { return };
        let action = match change.method {
            ResizeMethod::InPlace => "Resize",
            ResizeMethod::Rollout | ResizeMethod::Other => "Replace",
        };
        if change.method == ResizeMethod::Rollout {
            self.telemetry.resized("rollout");
        }
        if let Some(note) = nanny::resize_note(change, &plan.sizing) {
            self.reporter.events().resized(pipeline, action, &note).await;
        }
    }
}

fn without_facts(pipeline: &Pipeline, verdicts: &[Condition], now: Timestamp) -> MetricsPipelineStatus {
    status(pipeline, verdicts, Some(Facts::default()), now)
}
