//! Applies objects.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crds::Reason;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::Value;

use super::drift::{DriftLimiter, MAX_REVERTS, WINDOW};
use super::in_flight::{InFlight, Patience, Progress};
use super::{Applied, ApplyError, Interruption, rejection, removal};
use crate::common::request::RequestError;
use crate::common::{FIELD_MANAGER, ManagedObject, NANNY_FIELD_MANAGER, Problem};
use crate::observe::{Known, Learned, Observed, Source};
use crate::plan::{Desired, MaintainPlan, differences};

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
    pub(super) namespace: String,
    known: Known,
    /// Fields that still differed after a successful write, with the hash of what was desired and the version that the
    /// write led to: an admission webhook mutates them. They are not written again until either changes.
    mutated_by_admission: BTreeMap<FieldsOf, (u64, Option<String>)>,
    /// The hash of what was last found or made to be as desired. If it is still desired and something differs, another
    /// writer changed it.
    pub(super) settled: BTreeMap<FieldsOf, u64>,
    drift: DriftLimiter,
    /// The requests, each with what it applied. They are sent beside the loop, so that a webhook that hangs for one object
    /// does not stop the others.
    pub(super) requests: InFlight<FieldsOf, (Value, Option<DynamicObject>)>,
}

/// Why an object could not be written.
pub(super) enum Failure {
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
    patience: Patience,
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
    pub(super) fn fail(&mut self, object: ManagedObject, failure: Failure) {
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

    pub(super) fn is_unreachable(&self) -> bool {
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
            requests: InFlight::default(),
        }
    }

    /// Cancels the requests that have no response yet, but for those that release objects. kube-apiserver may still execute
    /// them.
    pub(super) fn cancel(&mut self) {
        self.requests.cancel(|(_, kind)| kind != removal::RELEASE);
    }

    /// Applies and deletes objects in order. An object that can't be written blocks only those that require it.
    pub(super) async fn write(&mut self, plan: &MaintainPlan, observed: &Observed, applied: &mut Applied) {
        let mut pass = Pass { observed, applied, patience: Patience::default() };
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
        let Pass { applied, patience, .. } = pass;
        self.remove_all(&plan.removals, applied, patience).await;
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
        let key = (desired.object, desired.manager);
        if !self.requests.is_sent(key) {
            if !self.is_due(desired, pass)? {
                return Ok(false);
            }
            self.send(desired);
        }
        match self.requests.response(key, &mut pass.patience).await {
            Progress::Response(Ok((body, written))) => {
                if let Some(written) = written {
                    self.learn_written(desired, &body, written, pass);
                }
                Ok(true)
            }
            Progress::Response(Err(error)) => {
                pass.learn(Learned::Outdated(Source::Object(desired.object)));
                let is_conflict = error.response().is_some_and(kube::core::Status::is_conflict);
                Err(match self.failure(desired.object, "applied", &error) {
                    Failure::Rejected(problem) if is_conflict && desired.resource_version.is_some() => {
                        Failure::Outdated(problem)
                    }
                    failure => failure,
                })
            }
            Progress::Waiting => Err(Failure::Rejected(self.no_response(desired.object, "applied"))),
        }
    }

    /// Sends the request that applies an object.
    fn send(&mut self, desired: &Desired) {
        let mut body = desired.body.clone();
        if let Some(version) = &desired.resource_version {
            body["metadata"]["resourceVersion"] = Value::String(version.clone());
        }
        // Forced: the object was found to be managed by this operator, so drift is reverted.
        let parameters = PatchParams::apply(desired.manager).force();
        let (api, name) = (self.api(desired.object), desired.object.name());
        let sent = desired.body.clone();
        self.requests.send((desired.object, desired.manager), move || {
            let (api, parameters, patch, sent) =
                (api.clone(), parameters.clone(), Patch::Apply(body.clone()), sent.clone());
            async move { api.patch(name, &parameters, &patch).await.map(|written| (sent, Some(written))) }
        });
    }

    /// Takes over the object that a write returned. `sent` is what was desired when the request was sent.
    fn learn_written(
        &mut self,
        desired: &Desired,
        sent: &Value,
        written: DynamicObject,
        pass: &mut Pass<'_>,
    ) {
        let key = (desired.object, desired.manager);
        self.known.record(desired.object, &written);
        // While the request had no response, the desired object may have changed: then it is applied in the next round.
        if *sent == desired.body {
            let left = differences(desired, &written);
            if left.is_empty() {
                self.mutated_by_admission.remove(&key);
                self.settled.insert(key, hash(&desired.body));
            } else {
                tracing::warn!(
                    object = %desired.object,
                    fields = %left.join(" "),
                    "the stored object differs from the applied one, probably because of an admission webhook; it is not \
                     applied again until either changes"
                );
                self.mutated_by_admission.insert(key, (hash(&desired.body), version(&written)));
            }
            pass.learn(Learned::MutatedByAdmission(desired.object, desired.manager, !left.is_empty()));
        }
        pass.learn(Learned::Written(desired.object, Box::new(written)));
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

    pub(super) fn admit_drift(&mut self, key: FieldsOf, what: &str) -> Result<(), Failure> {
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

    pub(super) fn api(&self, object: ManagedObject) -> Api<DynamicObject> {
        self.api_in(object, &self.namespace)
    }

    pub(super) fn api_in(&self, object: ManagedObject, namespace: &str) -> Api<DynamicObject> {
        let resource = object.resource();
        match object.namespace(namespace) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub(super) fn failure(&self, object: ManagedObject, verb: &str, error: &RequestError) -> Failure {
        match error.response() {
            Some(status) => {
                let (name, kubectl) = (object.describe(&self.namespace), object.kubectl(&self.namespace));
                Failure::Rejected(rejection::problem(&name, &kubectl, verb, status))
            }
            None if error.is_timeout() => Failure::Rejected(self.no_response(object, verb)),
            None => Failure::Unreachable(error.to_string()),
        }
    }

    pub(super) fn no_response(&self, object: ManagedObject, verb: &str) -> Problem {
        rejection::no_response(&object.describe(&self.namespace), verb)
    }
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

#[cfg(test)]
mod tests;
