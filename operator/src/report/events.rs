//! Publishes events: for changed conditions, for causes why kubelets cannot be scraped, and for changes that the operator
//! makes on its own (renewals, resizes, reverted drift).

use std::time::Duration;

use crds::MetricsPipeline;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::event_dedup::NewEvent;
use crate::common::request::within;
use crate::common::{FIELD_MANAGER, ManagedObject};
use crate::csr::NotApproved;
use crate::observe::Pipeline;

/// The maximum length of an event's note, in bytes (events.k8s.io/v1).
const MAX_NOTE: usize = 1024;

/// The maximum count of events that wait to be published. More means that kube-apiserver does not accept any.
const MAX_WAITING: usize = 256;

/// The deadline of one request.
const DEADLINE: Duration = Duration::from_secs(10);

/// Publishes events, in order and beside the loop. Failures are logged and not retried.
pub(super) struct Events {
    waiting: mpsc::Sender<(Event, ObjectReference)>,
    namespace: String,
    _publisher: JoinSet<()>,
}

impl Events {
    pub(super) fn new(client: Client, namespace: String, identity: String) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(identity) };
        let recorder = Recorder::new(client, reporter);
        let (waiting, events) = mpsc::channel(MAX_WAITING);
        let mut publisher = JoinSet::new();
        publisher.spawn(publish(recorder, events));
        Self { waiting, namespace, _publisher: publisher }
    }

    /// Publishes all events.
    pub(super) fn publish_all(&self, pipeline: &Pipeline, events: &[NewEvent]) {
        for event in events {
            let related = event.node.as_ref().map(|name| ObjectReference {
                api_version: Some(Node::api_version(&()).into_owned()),
                kind: Some(Node::kind(&()).into_owned()),
                name: Some(name.clone()),
                ..ObjectReference::default()
            });
            let type_ = if event.is_warning { EventType::Warning } else { EventType::Normal };
            self.publish(pipeline, related, type_, &event.reason, event.action, &event.note);
        }
    }

    /// Reports that a certificate was issued.
    pub(super) fn renewed(&self, pipeline: &Pipeline, object: ManagedObject, which: &str, why: &str) {
        let note = format!("Issued a new {which} certificate because {why}.");
        self.publish(
            pipeline,
            Some(self.reference(object)),
            EventType::Normal,
            "CertificateIssued",
            "Issue",
            &note,
        );
    }

    /// Reports that a change by another field manager was reverted.
    pub(super) fn drift(&self, pipeline: &Pipeline, object: ManagedObject, what: &str) {
        self.publish(
            pipeline,
            Some(self.reference(object)),
            EventType::Warning,
            "DriftReverted",
            "Apply",
            what,
        );
    }

    /// Reports that a kubelet's CertificateSigningRequest was not approved.
    pub(super) fn left(&self, pipeline: &Pipeline, name: &str, refusal: &NotApproved) {
        let note = format!(
            "CertificateSigningRequest {name} is not approved: {refusal}. Run `kubectl describe csr {name}` for details."
        );
        let request = ObjectReference {
            api_version: Some(CertificateSigningRequest::api_version(&()).into_owned()),
            kind: Some(CertificateSigningRequest::kind(&()).into_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        let warning = EventType::Warning;
        self.publish(
            pipeline,
            Some(request),
            warning,
            "CertificateSigningRequestNotApproved",
            "Approve",
            &note,
        );
    }

    /// Returns a reference to a managed object.
    fn reference(&self, object: ManagedObject) -> ObjectReference {
        let resource = object.resource();
        ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            name: Some(object.name().to_owned()),
            namespace: object.namespace(&self.namespace).map(str::to_owned),
            ..ObjectReference::default()
        }
    }

    /// Reports that the resources of metrics-core were changed. Events with different actions are not aggregated.
    pub(super) fn resized(&self, pipeline: &Pipeline, action: &str, note: &str) {
        let deployment = Some(self.reference(ManagedObject::Deployment));
        self.publish(pipeline, deployment, EventType::Normal, "Resized", action, note);
    }

    /// Publishes one event. Events that differ only in their note are aggregated, hence the related object.
    fn publish(
        &self,
        pipeline: &Pipeline,
        related: Option<ObjectReference>,
        type_: EventType,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(bounded(note)),
            action: action.to_owned(),
            secondary: related,
        };
        let regarding = ObjectReference {
            api_version: Some(MetricsPipeline::api_version(&()).into_owned()),
            kind: Some(MetricsPipeline::kind(&()).into_owned()),
            name: Some(pipeline.name.clone()),
            uid: Some(pipeline.uid.clone()),
            ..ObjectReference::default()
        };
        if self.waiting.try_send((event, regarding)).is_err() {
            tracing::warn!(reason, "dropped an event: too many wait to be published");
        }
    }
}

async fn publish(recorder: Recorder, mut events: mpsc::Receiver<(Event, ObjectReference)>) {
    while let Some((event, regarding)) = events.recv().await {
        if let Err(error) = within(DEADLINE, recorder.publish(&event, &regarding)).await {
            tracing::warn!(%error, reason = event.reason, "failed to publish an event");
        }
    }
}

fn bounded(note: &str) -> String {
    let end = (0..=MAX_NOTE.min(note.len())).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
    note[..end].to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn notes_are_truncated_between_characters() {
        let note = "é".repeat(1000);
        assert_eq!(super::bounded(&note).len(), 1024);
        assert_eq!(super::bounded("short"), "short");
    }
}
