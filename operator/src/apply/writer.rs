//! Applies and deletes objects.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crds::Reason;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::drift::{DriftLimiter, MAX_REVERTS, WINDOW};
use super::{Applied, ApplyError, Interruption, rejection};
use crate::common::error_chain;
use crate::common::{FIELD_MANAGER, ManagedObject, NANNY_FIELD_MANAGER, Problem};
use crate::observe::{Known, Learned, Observed, Source, Unreadable};
use crate::plan::{Desired, MaintainPlan, Release, Removal, differences};

/// The timeout of one write; kube-apiserver itself gives up after a minute.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The fields of one object that one field manager owns.
pub(super) type FieldsOf = (ManagedObject, &'static str);

/// What was written, and what could not be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Objects that could not be written, with the reason.
    pub problems: BTreeMap<ManagedObject, Problem>,
    /// Objects that were applied.
    pub applied: Vec<ManagedObject>,
    /// Objects that were deleted.
    pub deleted: Vec<ManagedObject>,
    /// Objects that another writer had changed, with a sentence for the event.
    pub drift: Vec<(ManagedObject, String)>,
}

impl Outcome {
    /// Whether anything was written.
    #[must_use]
    pub(crate) fn wrote(&self) -> bool {
        !self.applied.is_empty() || !self.deleted.is_empty()
    }
}

/// Writes what differs.
pub(super) struct Writer {
    client: Client,
    namespace: String,
    known: Known,
    /// Fields that still differed after a successful write, with the hash of what was desired and the version that the
    /// write led to: an admission webhook mutates them. They are not written again until either changes.
    mutated_by_admission: BTreeMap<FieldsOf, (u64, Option<String>)>,
    /// The hash of what was last found or made to be as desired. If it is still desired and something differs, another
    /// writer changed it.
    settled: BTreeMap<FieldsOf, u64>,
    drift: DriftLimiter,
}

enum Failure {
    /// It concerns one object.
    Rejected(Problem),
    /// The object changed after it was read.
    Outdated(Problem),
    /// It concerns all objects.
    Unreachable(String),
}

/// One pass over a plan: what was observed, and what was written since.
struct Pass<'a> {
    observed: &'a Observed,
    applied: &'a mut Applied,
}

impl Pass<'_> {
    /// Returns an object as the last write of this pass left it, or else as it was observed.
    fn object(&self, object: ManagedObject) -> Option<&DynamicObject> {
        let written = self.applied.learned.iter().rev().find_map(|learned| match learned {
            Learned::Written(written, found) if *written == object => Some(&**found),
            _ => None,
        });
        written.or_else(|| self.observed.object(object))
    }

    fn learn(&mut self, learned: Learned) {
        self.applied.learned.push(learned);
    }
}

impl Applied {
    fn fail(&mut self, object: ManagedObject, failure: Failure) {
        match failure {
            Failure::Rejected(problem) => _ = self.outcome.problems.insert(object, problem),
            Failure::Outdated(problem) => {
                self.interrupted.get_or_insert(Interruption::Outdated);
                self.outcome.problems.insert(object, problem);
            }
            Failure::Unreachable(why) => {
                self.interrupted = Some(Interruption::Failed(ApplyError::Unreachable(why)));
            }
        }
    }

    fn is_unreachable(&self) -> bool {
        matches!(self.interrupted, Some(Interruption::Failed(_)))
    }
}

impl Writer {
    pub(super) fn new(client: Client, namespace: String, known: Known) -> Self {
        Self {
            client,
            namespace,
            known,
            mutated_by_admission: BTreeMap::new(),
            settled: BTreeMap::new(),
            drift: DriftLimiter::default(),
        }
    }

    /// Applies and deletes objects in order. An object that can't be written blocks only those that require it.
    pub(super) async fn write(&mut self, plan: &MaintainPlan, observed: &Observed, applied: &mut Applied) {
        let mut pass = Pass { observed, applied };
        for desired in &plan.desired {
            let object = desired.object;
            if pass.applied.outcome.problems.contains_key(&object) {
                continue;
            }
            if let Some(problem) = self.blocked(object, plan, &pass) {
                pass.applied.outcome.problems.insert(object, problem);
                continue;
            }
            match self.apply(desired, &mut pass).await {
                Ok(false) => {}
                Ok(true) => pass.applied.outcome.applied.push(object),
                Err(failure) => pass.applied.fail(object, failure),
            }
            if pass.applied.is_unreachable() {
                return;
            }
        }
        self.remove(&plan.removals, pass.applied).await;
    }

    /// Returns why something that the object requires is missing.
    fn blocked(&self, object: ManagedObject, plan: &MaintainPlan, pass: &Pass<'_>) -> Option<Problem> {
        object.requires().iter().find_map(|required| {
            let problem =
                plan.blocked.get(required).or_else(|| pass.applied.outcome.problems.get(required))?;
            let exists = pass.object(*required).is_some();
            // A certificate that was not stored must not be announced; for the rest, an older version suffices.
            let by_value = matches!(
                required,
                ManagedObject::CaSecret | ManagedObject::ServingSecret | ManagedObject::FrontProxyCaSecret
            );
            if exists && !(by_value && object != ManagedObject::Deployment) {
                return None;
            }
            Some(Problem::new(
                Reason::WaitingForDependency,
                format!("Waiting for {}: {}", required.describe(&self.namespace), problem.message),
            ))
        })
    }

    /// Applies one object if it differs. Returns whether it was written.
    async fn apply(&mut self, desired: &Desired, pass: &mut Pass<'_>) -> Result<bool, Failure> {
        if !self.is_due(desired, pass)? {
            return Ok(false);
        }
        let key = (desired.object, desired.manager);
        let mut body = desired.body.clone();
        if let Some(version) = &desired.resource_version {
            body["metadata"]["resourceVersion"] = Value::String(version.clone());
        }
        // Forced: the object was found to be managed by this operator, so drift is reverted.
        let parameters = PatchParams::apply(desired.manager).force();
        let api = self.api(desired.object);
        let patch = Patch::Apply(&body);
        match within(api.patch(desired.object.name(), &parameters, &patch)).await {
            Ok(written) => {
                self.known.record(desired.object, &written);
                let left = differences(desired, &written);
                if left.is_empty() {
                    self.mutated_by_admission.remove(&key);
                    self.settled.insert(key, hash(&desired.body));
                } else {
                    tracing::warn!(
                        object = %desired.object,
                        fields = %left.join(" "),
                        "the stored object differs from the applied one, probably because of an admission webhook; it is \
                         not applied again until either changes"
                    );
                    self.mutated_by_admission.insert(key, (hash(&desired.body), version(&written)));
                }
                pass.learn(Learned::MutatedByAdmission(desired.object, desired.manager, !left.is_empty()));
                pass.learn(Learned::Written(desired.object, Box::new(written)));
                Ok(true)
            }
            Err(error) => {
                pass.learn(Learned::Outdated(Source::Object(desired.object)));
                let failure = self.failure(desired.object, "applied", error.as_ref());
                Err(match (failure, &error) {
                    (Failure::Rejected(problem), Some(kube::Error::Api(status)))
                        if status.is_conflict() && desired.resource_version.is_some() =>
                    {
                        Failure::Outdated(problem)
                    }
                    (failure, _) => failure,
                })
            }
        }
    }

    /// Whether the object must be written. Counts and records drift.
    fn is_due(&mut self, desired: &Desired, pass: &mut Pass<'_>) -> Result<bool, Failure> {
        let key = (desired.object, desired.manager);
        let wanted = hash(&desired.body);
        let was_settled = self.settled.get(&key) == Some(&wanted);
        let name = desired.object.describe(&self.namespace);
        let Some(found) = pass.object(desired.object) else {
            if was_settled {
                self.admit_drift(key, "deleted")?;
                let note = format!("{name} was deleted. The operator recreates it.");
                pass.applied.outcome.drift.push((desired.object, note));
            }
            tracing::info!(object = %desired.object, manager = desired.manager, "creating");
            return Ok(true);
        };
        let differing = differences(desired, found);
        if differing.is_empty() {
            self.mutated_by_admission.remove(&key);
            self.settled.insert(key, wanted);
            pass.learn(Learned::MutatedByAdmission(desired.object, desired.manager, false));
            return Ok(false);
        }
        if self.mutated_by_admission.get(&key) == Some(&(wanted, version(found))) {
            return Ok(false);
        }
        let fields = differing.join(" ");
        if was_settled {
            let who = last_writer(found).unwrap_or("an unknown writer");
            self.admit_drift(key, &format!("changed by {who} ({fields})"))?;
            let note = format!("{name} was changed by {who}. The operator reverts {fields}.");
            pass.applied.outcome.drift.push((desired.object, note));
        }
        tracing::info!(object = %desired.object, manager = desired.manager, fields, "applying");
        Ok(true)
    }

    fn admit_drift(&mut self, key: FieldsOf, what: &str) -> Result<(), Failure> {
        if self.drift.admit(key) {
            return Ok(());
        }
        let name = key.0.describe(&self.namespace);
        Err(Failure::Rejected(Problem::new(
            Reason::ApplyFailed,
            format!(
                "{name} is repeatedly {what}. The operator reverts it at most {MAX_REVERTS} times in {} s. Find the other \
                 writer and stop it.",
                WINDOW.as_secs()
            ),
        )))
    }

    /// Deletes objects.
    pub(super) async fn remove(&mut self, removals: &[Removal], applied: &mut Applied) {
        for removal in removals {
            if let Err(failure) = self.remove_one(removal, applied).await {
                applied.fail(removal.object, failure);
            }
            if applied.is_unreachable() {
                return;
            }
        }
    }

    async fn remove_one(&mut self, removal: &Removal, applied: &mut Applied) -> Result<(), Failure> {
        if removal.replaced.is_some() {
            let key = (removal.object, FIELD_MANAGER);
            self.admit_drift(key, "created with a wrong value of an immutable field")?;
        }
        let api = self.api(removal.object);
        let response = within(api.delete(removal.object.name(), &delete_parameters(removal))).await;
        // It is gone, terminating, or another one: the next read shows which.
        applied.learned.push(Learned::Outdated(Source::Object(removal.object)));
        match response {
            Ok(_) => {
                tracing::info!(object = %removal.object, "deleted");
                applied.outcome.deleted.push(removal.object);
                applied.outcome.drift.extend(removal.replaced.clone().map(|why| (removal.object, why)));
                // What is deleted on purpose is no drift.
                self.settled.retain(|(object, _), _| *object != removal.object);
                Ok(())
            }
            Err(Some(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(self.failure(removal.object, "deleted", error.as_ref())),
        }
    }

    /// Removes owner references. An object whose write is rejected is left to the garbage collector, which removes them as
    /// well.
    pub(super) async fn release(&mut self, releases: &[Release], applied: &mut Applied) {
        for release in releases {
            let patch = json!({ "metadata": {
                "uid": release.uid,
                "resourceVersion": release.resource_version,
                "ownerReferences": release.owner_references,
            } });
            let parameters =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let api = self.api(release.object);
            let response = within(api.patch(release.object.name(), &parameters, &Patch::Merge(&patch))).await;
            applied.learned.push(Learned::Outdated(Source::Object(release.object)));
            match response {
                Ok(_) => tracing::info!(object = %release.object, "removed the owner reference"),
                Err(Some(kube::Error::Api(status))) if status.is_not_found() => {}
                Err(Some(kube::Error::Api(status))) if status.is_conflict() => {
                    applied.interrupted.get_or_insert(Interruption::Outdated);
                }
                Err(Some(kube::Error::Api(status))) => {
                    tracing::warn!(
                        object = %release.object,
                        message = status.message,
                        "cannot remove the owner reference; the garbage collector removes it"
                    );
                }
                Err(error) => {
                    let failure = self.failure(release.object, "changed", error.as_ref());
                    applied.fail(release.object, failure);
                    return;
                }
            }
        }
    }

    /// Deletes objects that were left in a previous namespace.
    pub(super) async fn remove_previous(&self, namespace: &str, removals: &[Removal], applied: &mut Applied) {
        for removal in removals {
            let object = removal.object;
            let api = self.api_in(object, namespace);
            let why = match within(api.delete(object.name(), &delete_parameters(removal))).await {
                Ok(_) => {
                    tracing::info!(
                        object = object.describe(namespace),
                        "deleted from the previous namespace"
                    );
                    None
                }
                // It is gone or another one: the next read shows which.
                Err(Some(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => None,
                Err(Some(kube::Error::Api(status))) => {
                    Some(Unreadable { forbidden: status.is_forbidden(), message: status.message.clone() })
                }
                Err(error) => {
                    applied.fail(object, self.failure(object, "deleted", error.as_ref()));
                    return;
                }
            };
            applied.learned.push(Learned::DeletedFromPreviousNamespace(object, why));
        }
    }

    fn api(&self, object: ManagedObject) -> Api<DynamicObject> {
        self.api_in(object, &self.namespace)
    }

    fn api_in(&self, object: ManagedObject, namespace: &str) -> Api<DynamicObject> {
        let resource = object.resource();
        match object.namespace(namespace) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    fn failure(&self, object: ManagedObject, verb: &str, error: Option<&kube::Error>) -> Failure {
        let name = object.describe(&self.namespace);
        match error {
            Some(kube::Error::Api(status)) => {
                let kubectl = object.kubectl(&self.namespace);
                Failure::Rejected(rejection::problem(&name, &kubectl, verb, status))
            }
            Some(error) => Failure::Unreachable(error_chain(error)),
            None => Failure::Unreachable(format!("no response within {} s", TIMEOUT.as_secs())),
        }
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

/// Returns `Err(None)` after the timeout.
async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Option<kube::Error>> {
    tokio::time::timeout(TIMEOUT, request).await.map_or(Err(None), |response| response.map_err(Some))
}

/// Returns the foreign field manager that wrote last.
fn last_writer(object: &DynamicObject) -> Option<&str> {
    let others = object.metadata.managed_fields.iter().flatten().filter(|entry| {
        let ours = matches!(entry.manager.as_deref(), Some(FIELD_MANAGER | NANNY_FIELD_MANAGER));
        !ours && entry.subresource.as_deref().unwrap_or_default().is_empty()
    });
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.as_deref()
}

/// Returns what changes with each change of the object but for its status.
fn version(object: &DynamicObject) -> Option<String> {
    // A write to the status must not count as a change of the rest, where the object has a generation.
    let generation = object.metadata.generation.map(|generation| generation.to_string());
    generation.or_else(|| object.metadata.resource_version.clone())
}

fn hash(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    hasher.finish()
}
