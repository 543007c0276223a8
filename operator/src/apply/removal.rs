//! Deletes and releases objects.

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::{Value, json};

use super::in_flight::{Patience, Progress};
use super::writer::{Failure, FieldsOf, Writer};
use super::{Applied, Interruption};
use crate::common::{FIELD_MANAGER, ManagedObject};
use crate::observe::{Learned, Source, Unreadable};
use crate::plan::{Release, Removal};

/// Stand for a field manager in the key of a deletion, of one from the previous namespace, and of a release.
const DELETE: &str = "";
const DELETE_PREVIOUS: &str = "previous";
pub(super) const RELEASE: &str = "release";

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
            let namespace = self.namespace.clone();
            self.send_deletion(key, removal, &namespace);
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

    /// Removes owner references. An object whose write is rejected is left to the garbage collector, which removes them as
    /// well.
    pub(super) async fn release(&mut self, releases: &[Release], applied: &mut Applied) {
        let mut patience = Patience::default();
        for release in releases {
            let object = release.object;
            let key = (object, RELEASE);
            if !self.requests.is_sent(key) {
                self.send_release(release);
            }
            let response = self.requests.response(key, &mut patience).await;
            applied.learned.push(Learned::Outdated(Source::Object(object)));
            let error = match response {
                Progress::Response(Ok(_)) => {
                    tracing::info!(%object, "removed the owner reference");
                    continue;
                }
                Progress::Response(Err(error)) => error,
                Progress::Waiting => {
                    applied.outcome.problems.insert(object, self.no_response(object, "changed"));
                    continue;
                }
            };
            match error.response() {
                Some(status) if status.is_not_found() => {}
                Some(status) if status.is_conflict() => {
                    applied.interrupted.get_or_insert(Interruption::Outdated);
                }
                None if !error.is_timeout() => {
                    applied.fail(object, self.failure(object, "changed", &error));
                    return;
                }
                _ => tracing::warn!(
                    %object,
                    %error,
                    "cannot remove the owner reference; the garbage collector removes it"
                ),
            }
        }
    }

    /// Deletes objects that were left in a previous namespace.
    pub(super) async fn remove_previous(
        &mut self,
        namespace: &str,
        removals: &[Removal],
        applied: &mut Applied,
    ) {
        let mut patience = Patience::default();
        for removal in removals {
            let object = removal.object;
            let key = (object, DELETE_PREVIOUS);
            if !self.requests.is_sent(key) {
                self.send_deletion(key, removal, namespace);
            }
            let unreadable = |forbidden, message| Some(Unreadable { forbidden, message });
            let why = match self.requests.response(key, &mut patience).await {
                Progress::Response(Ok(_)) => {
                    tracing::info!(
                        object = object.describe(namespace),
                        "deleted from the previous namespace"
                    );
                    None
                }
                Progress::Response(Err(error)) => match error.response() {
                    // It is gone or another one: the next read shows which.
                    Some(status) if status.is_not_found() || status.is_conflict() => None,
                    Some(status) => unreadable(status.is_forbidden(), status.message.clone()),
                    None if error.is_timeout() => unreadable(false, error.to_string()),
                    None => {
                        applied.fail(object, self.failure(object, "deleted", &error));
                        return;
                    }
                },
                Progress::Waiting => unreadable(false, "no response yet".to_owned()),
            };
            applied.learned.push(Learned::DeletedFromPreviousNamespace(object, why));
        }
    }

    fn send_deletion(&mut self, key: FieldsOf, removal: &Removal, namespace: &str) {
        let parameters = delete_parameters(removal);
        let (api, name) = (self.api_in(removal.object, namespace), removal.object.name());
        self.requests.send(key, move || {
            let (api, parameters) = (api.clone(), parameters.clone());
            async move { api.delete(name, &parameters).await.map(|_| (Value::Null, None)) }
        });
    }

    fn send_release(&mut self, release: &Release) {
        let patch = json!({ "metadata": {
            "uid": release.uid,
            "resourceVersion": release.resource_version,
            "ownerReferences": release.owner_references,
        } });
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let (api, name) = (self.api(release.object), release.object.name());
        self.requests.send((release.object, RELEASE), move || {
            let (api, parameters, patch) = (api.clone(), parameters.clone(), Patch::Merge(patch.clone()));
            async move { api.patch(name, &parameters, &patch).await.map(|_| (Value::Null, None)) }
        });
    }
}

/// Returns the parameters of a deletion: of this object only, and not of another one of the same name.
fn delete_parameters(removal: &Removal) -> DeleteParams {
    DeleteParams {
        // The pods must be gone before the Deployment is, so that the next steps do not take away what they need.
        propagation_policy: Some(match removal.object {
            ManagedObject::Deployment => PropagationPolicy::Foreground,
            _ => PropagationPolicy::Background,
        }),
        preconditions: Some(Preconditions { uid: Some(removal.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    }
}
