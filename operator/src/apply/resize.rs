//! Resizes running pods through their `resize` subresource (KEP-1287): no restart, no lost sample.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::{Applied, ApplyError, Interruption};
use crate::common::error_chain;
use crate::common::{METRICS_CORE, NANNY_FIELD_MANAGER};
use crate::nanny::resize::{
    RejectionKind, ResizeRejection, ResizeRejections, ResizeState, is_active, resize_state, spec_resources,
};
use crate::observe::{Learned, Observed, Source};

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Resources that another writer changed are reverted once. If that writer changes them again, they are left alone for
/// this time.
const CONFLICT_PAUSE: Duration = Duration::from_secs(600);

/// The maximum count of pods for each replica that are resized to the same resources within [`CONFLICT_PAUSE`].
const MAX_REPLACED: usize = 5;

/// A rejected resize is retried after this time, as a quota or a permission may have changed.
const RETRY: Duration = Duration::from_secs(60);

/// What was done to pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resized {
    /// The resources before, of each pod that was resized.
    pub from: Vec<ResourceRequirements>,
    /// Sentences about resources that another writer had changed and that were reverted.
    pub drift: Vec<String>,
    /// The count of rejected requests.
    pub rejected: usize,
}

/// Resizes pods.
pub(super) struct Resizer {
    api: Api<Pod>,
    /// What was last requested for each pod, by the pod's UID.
    requested: BTreeMap<String, Requested>,
    /// The pods that were resized lately, with the time of the first resize to these resources.
    resized: Vec<(Instant, String)>,
    /// The resources to which they were resized.
    resized_to: Option<ResourceRequirements>,
    /// Since when each pod's resize is rejected, by the pod's UID.
    rejected_since: BTreeMap<String, Instant>,
    rejections: ResizeRejections,
}

struct Requested {
    wanted: ResourceRequirements,
    at: Instant,
    reverted: bool,
}

impl Requested {
    fn now(wanted: &ResourceRequirements, reverted: bool) -> Self {
        Self { wanted: wanted.clone(), at: Instant::now(), reverted }
    }
}

impl Resizer {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            requested: BTreeMap::new(),
            resized: Vec::new(),
            resized_to: None,
            rejected_since: BTreeMap::new(),
            rejections: ResizeRejections::new(),
        }
    }

    /// Resizes every pod that has other resources than the wanted ones.
    pub(super) async fn resize(
        &mut self,
        wanted: &ResourceRequirements,
        observed: &Observed,
        now: Timestamp,
        resized: &mut Resized,
        applied: &mut Applied,
    ) {
        let pods: Vec<&Pod> = observed.pods.iter().filter(|pod| is_active(pod)).collect();
        self.forget_all_but(&pods);
        if self.resized_to.as_ref() != Some(wanted) {
            (self.resized, self.resized_to) = (Vec::new(), Some(wanted.clone()));
        }
        self.resized.retain(|(at, _)| at.elapsed() < CONFLICT_PAUSE);
        for pod in pods.iter().copied() {
            if resize_state(pod, wanted, &self.rejections, now) != ResizeState::NotRequested {
                continue;
            }
            if let Err(failure) = self.resize_one(pod, pods.len(), wanted, resized, applied).await {
                match failure {
                    Failure::Rejected(rejection) => self.reject(uid(pod), rejection),
                    Failure::Gone => applied.learned.push(Learned::Outdated(Source::Pods)),
                    Failure::Unreachable(why) => {
                        applied.interrupted = Some(Interruption::Failed(ApplyError::Unreachable(why)));
                        break;
                    }
                }
            }
        }
        applied.learned.push(Learned::ResizeRejections(self.rejections.clone()));
    }

    /// Forgets pods that are gone, and rejections that are due for a retry.
    fn forget_all_but(&mut self, pods: &[&Pod]) {
        let exists = |known: &String| pods.iter().any(|pod| uid(pod) == *known);
        self.requested.retain(|known, _| exists(known));
        self.rejected_since.retain(|known, since| since.elapsed() < RETRY && exists(known));
        let kept = &self.rejected_since;
        self.rejections.retain(|known, _| kept.contains_key(known));
    }

    fn reject(&mut self, uid: String, rejection: ResizeRejection) {
        self.rejected_since.entry(uid.clone()).or_insert_with(Instant::now);
        self.rejections.insert(uid, rejection);
    }

    async fn resize_one(
        &mut self,
        pod: &Pod,
        replicas: usize,
        wanted: &ResourceRequirements,
        resized: &mut Resized,
        applied: &mut Applied,
    ) -> Result<(), Failure> {
        self.refuse_if_replaced_repeatedly(pod, replicas, wanted)?;
        if let Some(note) = self.revert_once(pod, wanted)? {
            resized.drift.push(note);
        }
        let response = match self.request(pod, wanted).await {
            Err(Failure::Rejected(rejection)) => {
                tracing::warn!(pod = pod.metadata.name, message = rejection.message, "cannot resize a pod");
                resized.rejected += 1;
                return Err(Failure::Rejected(rejection));
            }
            result => result?,
        };
        let requested = self.requested.entry(uid(pod)).or_insert_with(|| Requested::now(wanted, false));
        if requested.wanted != *wanted {
            *requested = Requested::now(wanted, false);
        }
        resized.from.push(spec_resources(pod).cloned().unwrap_or_default());
        let uid = uid(&response);
        self.rejected_since.remove(&uid);
        self.rejections.remove(&uid);
        applied.learned.push(Learned::Resized(Box::new(response)));
        Ok(())
    }

    /// Refuses to resize one more pod after many were resized to the same amounts and replaced. An unknown writer may set
    /// other amounts at their creation and evict those that differ.
    fn refuse_if_replaced_repeatedly(
        &mut self,
        pod: &Pod,
        replicas: usize,
        wanted: &ResourceRequirements,
    ) -> Result<(), Failure> {
        let uid = uid(pod);
        if self.resized.iter().any(|(_, known)| *known == uid) {
            return Ok(());
        }
        if self.resized.len() >= replicas * MAX_REPLACED {
            return Err(Failure::Rejected(ResizeRejection {
                wanted: wanted.clone(),
                message: format!(
                    "{} pods were created with other resources, resized, and replaced again within {} minutes",
                    self.resized.len(),
                    CONFLICT_PAUSE.as_secs() / 60
                ),
                kind: RejectionKind::Conflict,
            }));
        }
        self.resized.push((Instant::now(), uid));
        Ok(())
    }

    /// Returns a note if another writer changed what was requested before. The second change within
    /// [`CONFLICT_PAUSE`] is a rejection.
    fn revert_once(&mut self, pod: &Pod, wanted: &ResourceRequirements) -> Result<Option<String>, Failure> {
        let Some(before) = self.requested.get_mut(&uid(pod)).filter(|before| before.wanted == *wanted) else {
            return Ok(None);
        };
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let who = owner(pod).unwrap_or("an unknown writer");
        if before.reverted && before.at.elapsed() < CONFLICT_PAUSE {
            return Err(Failure::Rejected(ResizeRejection {
                wanted: wanted.clone(),
                message: format!("{who} repeatedly changes the resources of pod {name}"),
                kind: RejectionKind::Conflict,
            }));
        }
        *before = Requested::now(wanted, true);
        Ok(Some(format!(
            "The resources of pod {name} were changed by {who}. The operator reverts them once."
        )))
    }

    async fn request(&self, pod: &Pod, wanted: &ResourceRequirements) -> Result<Pod, Failure> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        tracing::info!(pod = name, resources = %json!(wanted), "resizing in place");
        let body = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "uid": pod.metadata.uid },
            "spec": { "containers": [{ "name": METRICS_CORE, "resources": wanted }] },
        });
        let parameters = PatchParams::apply(NANNY_FIELD_MANAGER).force();
        let patch = Patch::Apply(&body);
        let request = self.api.patch_subresource("resize", name, &parameters, &patch);
        let error = match tokio::time::timeout(TIMEOUT, request).await {
            Ok(Ok(pod)) => return Ok(pod),
            Ok(Err(error)) => error,
            Err(_) => {
                return Err(Failure::Unreachable(format!("no response within {} s", TIMEOUT.as_secs())));
            }
        };
        let kube::Error::Api(status) = &error else { return Err(Failure::Unreachable(error_chain(&error))) };
        // A 404 is either the pod's, which then names it, or the subresource's, which an older cluster has not.
        let names_the_pod = status.details.as_ref().is_some_and(|details| details.name == name);
        let reported = format!("kube-apiserver returned \"{}\"", status.message.trim());
        let (message, kind) = match status.code {
            404 if names_the_pod => return Err(Failure::Gone),
            409 => return Err(Failure::Gone),
            404 | 405 => (
                format!(
                    "{reported}; it does not serve the subresource pods/resize (Kubernetes 1.33 and newer do)"
                ),
                RejectionKind::NotInPlace,
            ),
            415 | 422 => (reported, RejectionKind::NotInPlace),
            // Admission of kube-apiserver 1.36 compares with the node itself, before the kubelet does.
            403 if status.message.contains("enough allocatable") => (reported, RejectionKind::Infeasible),
            403 if status.message.contains(" cannot ") => {
                let remedy = "run `helm upgrade` with the chart of this version to grant the permission";
                (format!("{reported}; {remedy}"), RejectionKind::Forbidden)
            }
            _ => (reported, RejectionKind::Forbidden),
        };
        Err(Failure::Rejected(ResizeRejection { wanted: wanted.clone(), message, kind }))
    }
}

enum Failure {
    Rejected(ResizeRejection),
    /// The pod is gone or another one.
    Gone,
    Unreachable(String),
}

/// Returns the foreign field manager that last wrote the container's resources.
fn owner(pod: &Pod) -> Option<&str> {
    let others = pod.metadata.managed_fields.iter().flatten().filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| fields.0.to_string()).unwrap_or_default();
        entry.manager.as_deref() != Some(NANNY_FIELD_MANAGER)
            && fields.contains("f:resources")
            && entry.subresource.as_deref() != Some("status")
    });
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.as_deref()
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
