//! The requests that write.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crds::Reason;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::Value;

use crate::common::error_chain::causes;
use crate::common::normalize::normalize;
use crate::common::{FIELD_MANAGER, NANNY_FIELD_MANAGER, Owned, Problem};
use crate::observe::{Found, Observer, Source};
use crate::plan::{Desired, Maintain, Removal, differences};

/// How long one write may take; kube-apiserver itself gives up after a minute.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Somebody else who changes an object more often than so many times in [`QUARREL`] will go on doing so.
const MAX_DRIFTS: u32 = 10;

/// How long such an object is then left as it is.
const QUARREL: Duration = Duration::from_secs(60);

/// What was written, and what could not be.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What could not be written, and why.
    pub problems: BTreeMap<Owned, Problem>,
    /// What was applied.
    pub applied: Vec<Owned>,
    /// What was deleted.
    pub deleted: Vec<Owned>,
    /// What somebody had changed, in words, and was set back.
    pub drift: Vec<(Owned, String)>,
    /// Something was decided on an older version of an object than there is: look again before telling anybody.
    pub outdated: bool,
    /// kube-apiserver can't be reached; what came after was not tried.
    pub unreachable: Option<String>,
}

impl Outcome {
    /// Whether anything was written.
    #[must_use]
    pub fn wrote(&self) -> bool {
        !self.applied.is_empty() || !self.deleted.is_empty()
    }
}

/// Writes what differs.
pub struct Writer {
    client: Client,
    namespace: String,
    /// What a write left different although it succeeded, by the version that it led to: somebody rewrites what
    /// is written, such as an admission webhook. It is not written again until either side changes.
    overruled: BTreeMap<(Owned, &'static str), (u64, Option<String>)>,
    /// What was last found or made to be as desired. If that is still desired and something differs, somebody
    /// else changed it.
    settled: BTreeMap<(Owned, &'static str), u64>,
    /// How often each object was set back lately.
    drifts: BTreeMap<(Owned, &'static str), Drifts>,
}

/// How often an object was found changed by somebody else since a time.
#[derive(Clone, Copy)]
struct Drifts {
    since: Instant,
    count: u32,
}

impl Drifts {
    /// Counts one more; whether it is set back still.
    fn admit(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= QUARREL {
            *self = Self { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= MAX_DRIFTS
    }
}

enum Failure {
    /// It concerns one object.
    Refused(Problem),
    /// The object changed after it was read.
    Outdated(Problem),
    /// It concerns all.
    Unreachable(String),
}

impl Writer {
    /// A writer that has written nothing yet.
    #[must_use]
    pub fn new(client: Client, namespace: String) -> Self {
        Self {
            client,
            namespace,
            overruled: BTreeMap::new(),
            settled: BTreeMap::new(),
            drifts: BTreeMap::new(),
        }
    }

    /// Applies and deletes in order. An object that can't be written stops only those that need it.
    pub async fn maintain(&mut self, plan: &Maintain, observer: &mut Observer) -> Outcome {
        let mut outcome = Outcome::default();
        for desired in &plan.desired {
            if outcome.problems.contains_key(&desired.object) {
                continue;
            }
            if let Some(problem) = self.blocked(desired.object, plan, &outcome, observer) {
                outcome.problems.insert(desired.object, problem);
                continue;
            }
            match self.apply(desired, observer, &mut outcome.drift).await {
                Ok(false) => {}
                Ok(true) => outcome.applied.push(desired.object),
                Err(Failure::Refused(problem)) => _ = outcome.problems.insert(desired.object, problem),
                Err(Failure::Outdated(problem)) => {
                    outcome.outdated = true;
                    outcome.problems.insert(desired.object, problem);
                }
                Err(Failure::Unreachable(why)) => {
                    outcome.unreachable = Some(why);
                    return outcome;
                }
            }
        }
        self.remove(&plan.removals, observer, &mut outcome).await;
        outcome
    }

    /// Deletes.
    pub async fn dismantle(&mut self, removals: &[Removal], observer: &mut Observer) -> Outcome {
        let mut outcome = Outcome::default();
        self.remove(removals, observer, &mut outcome).await;
        outcome
    }

    /// Whether something that the object needs is not there.
    fn blocked(
        &self,
        object: Owned,
        plan: &Maintain,
        outcome: &Outcome,
        observer: &Observer,
    ) -> Option<Problem> {
        object.requires().iter().find_map(|required| {
            let problem = plan.blocked.get(required).or_else(|| outcome.problems.get(required))?;
            let exists = observer.observed().object(*required).is_some();
            // A certificate that was not stored must not be announced; for the rest, an older version will do.
            let by_value =
                matches!(required, Owned::CaSecret | Owned::ServingSecret | Owned::FrontProxyCaSecret);
            if exists && !(by_value && object != Owned::Deployment) {
                return None;
            }
            Some(Problem::new(
                Reason::WaitingForDependency,
                format!("Waiting for {}: {}", required.describe(&self.namespace), problem.message),
            ))
        })
    }

    /// Whether it was written.
    async fn apply(
        &mut self,
        desired: &Desired,
        observer: &mut Observer,
        drift: &mut Vec<(Owned, String)>,
    ) -> Result<bool, Failure> {
        let key = (desired.object, desired.manager);
        let wanted = hash(&desired.body);
        if let Some(found) = observer.observed().object(desired.object) {
            let differing = differences(desired, found);
            if differing.is_empty() {
                self.overruled.remove(&key);
                observer.overruled(desired.object, desired.manager, false);
                self.settled.insert(key, wanted);
                return Ok(false);
            }
            if self.overruled.get(&key) == Some(&(wanted, version(found))) {
                return Ok(false);
            }
            let fields = differing.join(" ");
            if self.settled.get(&key) == Some(&wanted) {
                let name = desired.object.describe(&self.namespace);
                let who = last_writer(found).unwrap_or("an unknown writer");
                self.admit_drift(key, &format!("changed by {who} ({fields})"))?;
                drift.push((
                    desired.object,
                    format!("{name} was changed by {who}. The operator reverts {fields}."),
                ));
            }
            tracing::info!(object = %desired.object, manager = desired.manager, fields, "applying");
        } else {
            if self.settled.get(&key) == Some(&wanted) {
                let name = desired.object.describe(&self.namespace);
                self.admit_drift(key, "deleted")?;
                drift.push((desired.object, format!("{name} was deleted. The operator recreates it.")));
            }
            tracing::info!(object = %desired.object, manager = desired.manager, "creating");
        }
        let mut body = desired.body.clone();
        if let Some(version) = &desired.resource_version {
            body["metadata"]["resourceVersion"] = Value::String(version.clone());
        }
        // Forced, as what gets here was found to be ours: drift is undone.
        let parameters = PatchParams::apply(desired.manager).force();
        let api = self.api(desired.object);
        let patch = Patch::Apply(&body);
        match within(api.patch(desired.object.name(), &parameters, &patch)).await {
            Ok(written) => {
                let left = differences(desired, &written);
                observer.overruled(desired.object, desired.manager, !left.is_empty());
                if left.is_empty() {
                    self.overruled.remove(&key);
                    self.settled.insert(key, wanted);
                } else {
                    tracing::warn!(
                        object = %desired.object,
                        fields = %left.join(" "),
                        "the stored object differs from the applied one, probably because of an admission webhook; it is \
                         not applied again until either changes"
                    );
                    self.overruled.insert(key, (wanted, version(&written)));
                }
                observer.wrote(desired.object, Found::Present(Box::new(written)));
                Ok(true)
            }
            Err(error) => {
                observer.forget(Source::Object(desired.object));
                let failure = self.failure(desired.object, "applied", error.as_ref());
                Err(match (failure, &error) {
                    (Failure::Refused(problem), Some(kube::Error::Api(status)))
                        if status.is_conflict() && desired.resource_version.is_some() =>
                    {
                        Failure::Outdated(problem)
                    }
                    (failure, _) => failure,
                })
            }
        }
    }

    /// Counts a drift. Against somebody who changes an object again and again, setting it back at once would be an
    /// endless stream of writes and events, and the object would be never what either wants.
    fn admit_drift(&mut self, key: (Owned, &'static str), what: &str) -> Result<(), Failure> {
        let now = Instant::now();
        if self.drifts.entry(key).or_insert(Drifts { since: now, count: 0 }).admit(now) {
            return Ok(());
        }
        let name = key.0.describe(&self.namespace);
        Err(Failure::Refused(Problem::new(
            Reason::ApplyFailed,
            format!(
                "{name} is repeatedly {what}. The operator reverts it at most {MAX_DRIFTS} times in {} s. Find the other \
                 writer and stop it.",
                QUARREL.as_secs()
            ),
        )))
    }

    async fn remove(&mut self, removals: &[Removal], observer: &mut Observer, outcome: &mut Outcome) {
        for removal in removals {
            if removal.replaced.is_some()
                && let Err(Failure::Refused(problem)) = self.admit_drift(
                    (removal.object, FIELD_MANAGER),
                    "created with a wrong value of an immutable field",
                )
            {
                outcome.problems.insert(removal.object, problem);
                continue;
            }
            let parameters = DeleteParams {
                // The pods go before the Deployment does, so that what comes after it outlives them.
                propagation_policy: Some(match removal.object {
                    Owned::Deployment => PropagationPolicy::Foreground,
                    _ => PropagationPolicy::Background,
                }),
                preconditions: Some(Preconditions { uid: Some(removal.uid.clone()), resource_version: None }),
                ..DeleteParams::default()
            };
            let api = self.api(removal.object);
            let answer = within(api.delete(removal.object.name(), &parameters)).await;
            // Gone, going, or another one: the next look tells.
            observer.forget(Source::Object(removal.object));
            match answer {
                Ok(_) => {
                    tracing::info!(object = %removal.object, "deleted");
                    outcome.deleted.push(removal.object);
                    outcome.drift.extend(removal.replaced.clone().map(|why| (removal.object, why)));
                    // What is removed on purpose was not deleted by somebody.
                    self.settled.retain(|(object, _), _| *object != removal.object);
                }
                Err(Some(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => {}
                Err(error) => match self.failure(removal.object, "deleted", error.as_ref()) {
                    Failure::Refused(problem) | Failure::Outdated(problem) => {
                        _ = outcome.problems.insert(removal.object, problem);
                    }
                    Failure::Unreachable(why) => {
                        outcome.unreachable = Some(why);
                        return;
                    }
                },
            }
        }
    }

    fn api(&self, object: Owned) -> Api<DynamicObject> {
        let resource = object.resource();
        match object.namespace(&self.namespace) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    fn failure(&self, object: Owned, verb: &str, error: Option<&kube::Error>) -> Failure {
        let name = object.describe(&self.namespace);
        match error {
            Some(kube::Error::Api(status)) => {
                let kubectl = object.kubectl(&self.namespace);
                Failure::Refused(refusal(&name, &kubectl, verb, status))
            }
            Some(error) => Failure::Unreachable(causes(error)),
            None => Failure::Unreachable(format!("no response within {} s", TIMEOUT.as_secs())),
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// kube-apiserver's refusal in our words. It says 403 both for a missing right and for what admission refuses.
fn refusal(name: &str, kubectl: &str, verb: &str, status: &kube::core::Status) -> Problem {
    let says = normalize(&status.message);
    let about_rights = says.contains(" cannot ") || says.contains("attempting to grant RBAC permissions");
    if status.is_forbidden() && about_rights {
        return Problem::new(
            Reason::PermissionMissing,
            format!(
                "{name} cannot be {verb} because the operator lacks a permission: kube-apiserver returned \"{says}\". \
                 Restore it: run `helm upgrade` with the chart of this version.",
            ),
        );
    }
    // apimachinery's validation (422): "field is immutable", and RBAC's own "cannot change roleRef".
    if status.code == 422 && (says.contains("immutable") || says.contains("cannot change roleRef")) {
        return Problem::new(
            Reason::ImmutableField,
            format!(
                "{name} cannot be {verb} because an immutable field has another value: kube-apiserver returned \
                 \"{says}\". Run `kubectl delete {kubectl}`; the operator then recreates it.",
            ),
        );
    }
    Problem::new(
        Reason::ApplyFailed,
        format!("{name} cannot be {verb}: kube-apiserver returned \"{says}\". The operator retries."),
    )
}

/// `Err(None)` when the time is over.
async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Option<kube::Error>> {
    tokio::time::timeout(TIMEOUT, request).await.map_or(Err(None), |answer| answer.map_err(Some))
}

/// The field manager that wrote last, other than ours.
fn last_writer(object: &DynamicObject) -> Option<&str> {
    let others = object.metadata.managed_fields.iter().flatten().filter(|entry| {
        let ours = matches!(entry.manager.as_deref(), Some(FIELD_MANAGER | NANNY_FIELD_MANAGER));
        !ours && entry.subresource.as_deref().unwrap_or_default().is_empty()
    });
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.as_deref()
}

fn version(object: &DynamicObject) -> Option<String> {
    // What others write to the status must not count as a change of the rest, where that can be told.
    let generation = object.metadata.generation.map(|generation| generation.to_string());
    generation.or_else(|| object.metadata.resource_version.clone())
}

fn hash(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn a_quarrel_is_paused_and_taken_up_again() {
        let begin = Instant::now();
        let mut drifts = Drifts { since: begin, count: 0 };
        assert!((0..MAX_DRIFTS).all(|_| drifts.admit(begin)));
        assert!(!drifts.admit(begin + Duration::from_secs(59)));
        assert!(drifts.admit(begin + QUARREL));
    }

    #[test]
    fn a_missing_right_is_told_from_a_refused_object() {
        let forbidden = |message: &str| {
            refusal("Role ns/a", "roles a", "applied", &Status::failure(message, "Forbidden").with_code(403))
        };
        let missing =
            forbidden("roles is forbidden: User \"x\" cannot patch resource \"roles\" in API group \"\"");
        assert_eq!(missing.reason, Reason::PermissionMissing);
        assert!(missing.message.contains("cannot patch resource \"roles\""), "{}", missing.message);
        assert_eq!(forbidden("exceeded quota: q").reason, Reason::ApplyFailed);
    }
}
