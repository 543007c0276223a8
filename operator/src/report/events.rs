//! Events: one for each change of a condition, for each cause that keeps kubelets from being scraped, and for what the
//! operator did of its own accord.

use crds::MetricsPipeline;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use super::event_dedup::NewEvent;
use crate::common::{FIELD_MANAGER, ManagedObject};
use crate::csr::Refusal;
use crate::observe::Pipeline;

/// What an event's note may hold (events.k8s.io/v1).
const MAX_NOTE: usize = 1024;

/// Publishes events. One that can't be published is logged: it is never worth a retry.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    namespace: String,
}

impl Events {
    pub(super) fn new(client: Client, namespace: String, identity: String) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(identity) };
        Self { recorder: Recorder::new(client, reporter), namespace }
    }

    /// What became worth telling.
    pub(super) async fn publish_all(&self, pipeline: &Pipeline, news: &[NewEvent]) {
        for one in news {
            let about = one.node.as_ref().map(|name| ObjectReference {
                api_version: Some(Node::api_version(&()).into_owned()),
                kind: Some(Node::kind(&()).into_owned()),
                name: Some(name.clone()),
                ..ObjectReference::default()
            });
            let severity = if one.is_warning { EventType::Warning } else { EventType::Normal };
            self.publish(pipeline, about, severity, &one.reason, one.action, &one.note).await;
        }
    }

    /// A certificate was issued.
    pub async fn renewed(&self, pipeline: &Pipeline, object: ManagedObject, which: &str, why: &str) {
        let note = format!("A new {which} certificate was issued, as {why}.");
        self.publish(
            pipeline,
            Some(self.reference(object)),
            EventType::Normal,
            "CertificateIssued",
            "Issue",
            &note,
        )
        .await;
    }

    /// Something that somebody had changed was set back.
    pub async fn drift(&self, pipeline: &Pipeline, object: ManagedObject, what: &str) {
        self.publish(
            pipeline,
            Some(self.reference(object)),
            EventType::Warning,
            "DriftUndone",
            "Apply",
            what,
        )
        .await;
    }

    /// A kubelet's request was left alone.
    pub async fn left(&self, pipeline: &Pipeline, name: &str, refusal: &Refusal) {
        let note = format!(
            "CertificateSigningRequest {name} is left alone: {refusal}. Look at it with `kubectl describe csr {name}`."
        );
        let request = ObjectReference {
            api_version: Some(CertificateSigningRequest::api_version(&()).into_owned()),
            kind: Some(CertificateSigningRequest::kind(&()).into_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        let warning = EventType::Warning;
        self.publish(pipeline, Some(request), warning, "CertificateSigningRequestLeft", "Approve", &note)
            .await;
    }

    /// An owned object.
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

    /// The resources of metrics-core were changed; the action keeps apart what would be counted as one.
    pub async fn resized(&self, pipeline: &Pipeline, action: &str, note: &str) {
        let deployment = Some(self.reference(ManagedObject::Deployment));
        self.publish(pipeline, deployment, EventType::Normal, "Resized", action, note).await;
    }

    /// With the object that it is about, where there is one: events that differ in nothing but their words are
    /// counted as one.
    async fn publish(
        &self,
        pipeline: &Pipeline,
        about: Option<ObjectReference>,
        severity: EventType,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let event = Event {
            type_: severity,
            reason: reason.to_owned(),
            note: Some(bounded(note)),
            action: action.to_owned(),
            secondary: about,
        };
        let regarding = ObjectReference {
            api_version: Some(MetricsPipeline::api_version(&()).into_owned()),
            kind: Some(MetricsPipeline::kind(&()).into_owned()),
            name: Some(pipeline.name.clone()),
            uid: Some(pipeline.uid.clone()),
            ..ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&event, &regarding).await {
            tracing::warn!(%error, reason, "an event was not published");
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
    fn notes_are_cut_between_characters() {
        let note = "é".repeat(1000);
        assert_eq!(super::bounded(&note).len(), 1024);
        assert_eq!(super::bounded("short"), "short");
    }
}
