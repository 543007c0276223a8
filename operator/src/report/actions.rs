//! Events and metrics about what the operator did in a round.

use crds::ResizeMethod;

use super::{Reporter, Round, nanny};
use crate::apply::{Applied, Outcome};
use crate::common::ManagedObject;
use crate::observe::Pipeline;
use crate::plan::{Action, MaintainPlan, Sizing};

impl Reporter {
    /// Reports writes, certificates, drift, resizes and approvals.
    pub(super) fn report_actions(&self, round: Round<'_>) {
        let Round { observed, plan, applied, .. } = round;
        self.count_writes(&applied.outcome);
        let Some(pipeline) = plan.roles().active else { return };
        let Action::Maintain(plan) = &plan.action else { return };
        self.report_certificates(pipeline, plan, &applied.outcome);
        for (object, note) in &applied.outcome.drift {
            self.events.drift(pipeline, *object, note);
        }
        if applied.resized.is_some() {
            self.telemetry.sizes(&plan.sizing, &observed.pods);
        }
        self.report_resizes(pipeline, &plan.sizing, applied);
        self.report_approvals(pipeline, applied);
    }

    fn count_writes(&self, outcome: &Outcome) {
        for object in &outcome.applied {
            self.telemetry.wrote(*object, "apply");
        }
        for object in &outcome.deleted {
            self.telemetry.wrote(*object, "delete");
        }
    }

    fn report_certificates(&self, pipeline: &Pipeline, plan: &MaintainPlan, outcome: &Outcome) {
        let secrets = [
            ManagedObject::CaSecret,
            ManagedObject::ServingSecret,
            ManagedObject::FrontProxyCaSecret,
            ManagedObject::FrontProxySecret,
        ];
        // A certificate that could not be stored is not in use.
        if !secrets.iter().any(|secret| outcome.problems.contains_key(secret)) {
            self.telemetry.certificates(plan.certificates.as_ref(), plan.front_proxy.as_ref());
        }
        let mut issued = Vec::new();
        if let Some(certificates) = &plan.certificates {
            issued.push((ManagedObject::CaSecret, "CA", &certificates.ca_renewed));
            issued.push((ManagedObject::ServingSecret, "serving", &certificates.serving_renewed));
        }
        if let Some(front_proxy) = &plan.front_proxy {
            issued.push((ManagedObject::FrontProxyCaSecret, "front-proxy CA", &front_proxy.ca_issued));
            issued.push((ManagedObject::FrontProxySecret, "front-proxy client", &front_proxy.client_issued));
        }
        for (object, which, why) in issued {
            if let Some(why) = why
                && outcome.applied.contains(&object)
            {
                tracing::info!(which, %why, "issued a certificate");
                self.events.renewed(pipeline, object, which, &why.to_string());
            }
        }
    }

    fn report_resizes(&self, pipeline: &Pipeline, sizing: &Sizing, applied: &Applied) {
        let (outcome, Some(resized)) = (&applied.outcome, &applied.resized) else { return };
        for _ in 0..resized.rejected {
            self.telemetry.resized("refused");
        }
        for _ in &resized.from {
            self.telemetry.resized("in_place");
        }
        for note in &resized.drift {
            self.telemetry.resized("drift");
            self.events.drift(pipeline, ManagedObject::Deployment, note);
        }
        if let Some(note) = nanny::revert_note(sizing, outcome) {
            self.events.resized(pipeline, "Revert", &note);
        }
        let before = pipeline.status.nanny.as_ref();
        let Some(change) = nanny::change(before, sizing, outcome, resized) else { return };
        let action = match change.method {
            ResizeMethod::InPlace => "Resize",
            ResizeMethod::Rollout | ResizeMethod::Other => "Replace",
        };
        if change.method == ResizeMethod::Rollout {
            self.telemetry.resized("rollout");
        }
        if let Some(note) = nanny::resize_note(change, sizing) {
            self.events.resized(pipeline, action, &note);
        }
    }

    fn report_approvals(&self, pipeline: &Pipeline, applied: &Applied) {
        for (name, node) in &applied.csrs.approved {
            tracing::info!(name, node, "approved a kubelet's request for a serving certificate");
            self.telemetry.signing_request("approved");
        }
        for (name, reason) in &applied.csrs.not_approved {
            tracing::info!(name, %reason, "did not approve a kubelet's request for a serving certificate");
            self.telemetry.signing_request(reason.code());
            self.events.left(pipeline, name, reason);
        }
    }
}
