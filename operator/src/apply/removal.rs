//! Deletes objects.

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use serde_json::Value;

use super::Applied;
use super::in_flight::{Patience, Progress};
use super::writer::{Failure, Writer};
use crate::common::{FIELD_MANAGER, ManagedObject};
use crate::observe::{Learned, Source};
use crate::plan::Removal;

/// Stands for a field manager in the key of a deletion.
const DELETE: &str = "";

impl Writer {
    /// Deletes objects.
    pub(super) async fn remove(&mut self, removals: &[Removal], applied: &mut Applied) {
        self.remove_all(removals, applied, Patience::default()).await;
    }

    pub(super) async fn remove_all(
        &mut self,
        removals: &[Removal],
        applied: &mut Applied,
        mut patience: Patience,
    ) {
        for removal in removals {
            if let Err(failure) = self.remove_one(removal, applied, &mut patience).await {
                applied.fail(removal.object, failure);
            }
            if applied.is_unreachable() {
                return;
            }
        }
    }

    async fn remove_one(
        &mut self,
        removal: &Removal,
        applied: &mut Applied,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        let key = (removal.object, DELETE);
        if !self.requests.is_sent(key) {
            if removal.replaced.is_some() {
                self.admit_drift(
                    (removal.object, FIELD_MANAGER),
                    "created with a wrong value of an immutable field",
                )?;
            }
            // What is still being applied must not be created again.
            self.requests.cancel(|(object, _)| object == removal.object);
            self.send_removal(removal);
        }
        let response = self.requests.response(key, patience).await;
        // It is gone, terminating, or another one: the next read shows which.
        applied.learned.push(Learned::Outdated(Source::Object(removal.object)));
        match response {
            Progress::Response(Ok(_)) => {
                tracing::info!(object = %removal.object, "deleted");
                applied.outcome.deleted.push(removal.object);
                applied.outcome.drift.extend(removal.replaced.clone().map(|why| (removal.object, why)));
                // What is deleted on purpose is no drift.
                self.settled.retain(|(object, _), _| *object != removal.object);
                Ok(())
            }
            Progress::Response(Err(error)) => {
                let is_gone =
                    error.response().is_some_and(|status| status.is_not_found() || status.is_conflict());
                if is_gone { Ok(()) } else { Err(self.failure(removal.object, "deleted", &error)) }
            }
            Progress::Waiting => Err(Failure::Rejected(self.no_response(removal.object, "deleted"))),
        }
    }

    fn send_removal(&mut self, removal: &Removal) {
        let parameters = DeleteParams {
            // The pods must be gone before the Deployment is, so that the next steps do not take away what they need.
            propagation_policy: Some(match removal.object {
                ManagedObject::Deployment => PropagationPolicy::Foreground,
                _ => PropagationPolicy::Background,
            }),
            preconditions: Some(Preconditions { uid: Some(removal.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        let (api, name) = (self.api(removal.object), removal.object.name());
        self.requests.send((removal.object, DELETE), move || {
            let (api, parameters) = (api.clone(), parameters.clone());
            async move { api.delete(name, &parameters).await.map(|_| (Value::Null, None)) }
        });
    }
}
