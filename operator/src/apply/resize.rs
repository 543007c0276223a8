//! Resizes running pods through their `resize` subresource (KEP-1287): no restart, no lost sample.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::common::error_chain::causes;
use crate::common::{METRICS_CORE, NANNY_FIELD_MANAGER};
use crate::nanny::resize::{
    RejectionKind, ResizeRejection, ResizeState, is_active, resize_state, spec_resources,
};
use crate::observe::Observer;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A pod whose resources somebody else changed is set back once; if they do it again it is theirs for so long.
const TRUCE: Duration = Duration::from_secs(600);

/// What kube-apiserver refused is tried again after so long, as a quota or a right may have come back.
const AGAIN: Duration = Duration::from_secs(60);

/// What was done to pods.
#[derive(Clone, Debug, Default)]
pub struct Resized {
    /// The resources that a pod had before, for each that was asked to change.
    pub from: Vec<ResourceRequirements>,
    /// What somebody had changed and was set back, in words.
    pub drift: Vec<String>,
    /// How many requests were refused.
    pub refused: usize,
    /// kube-apiserver can't be reached.
    pub unreachable: Option<String>,
}

/// Resizes pods.
pub struct Resizer {
    api: Api<Pod>,
    /// By the pod's UID: what was asked for, and how it went on.
    asked: BTreeMap<String, Asked>,
}

struct Asked {
    wanted: ResourceRequirements,
    at: Instant,
    set_back: bool,
}

impl Resizer {
    /// One that has asked for nothing yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), asked: BTreeMap::new() }
    }

    /// Asks for every pod that has not what is wanted.
    pub async fn resize(
        &mut self,
        wanted: &ResourceRequirements,
        observer: &mut Observer,
        now: Timestamp,
    ) -> Resized {
        let mut done = Resized::default();
        let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
        let pods: Vec<Pod> = observer.observed().pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        self.asked.retain(|known, _| pods.iter().any(|pod| uid(pod) == *known));
        observer.forget_refusals(|known, age| age < AGAIN && pods.iter().any(|pod| uid(pod) == *known));
        for pod in pods {
            if resize_state(&pod, wanted, &observer.observed().resize_rejections, now)
                != ResizeState::NotRequested
            {
                continue;
            }
            if let Some(drift) = self.contested(&pod, wanted) {
                if let Some(refusal) = drift.refusal {
                    observer.refused(uid(&pod), refusal);
                    continue;
                }
                done.drift.push(drift.words);
            }
            let from = spec_resources(&pod).cloned().unwrap_or_default();
            match self.ask(&pod, wanted).await {
                Ok(changed) => {
                    let entry = self.asked.entry(uid(&pod)).or_insert_with(|| Asked {
                        wanted: wanted.clone(),
                        at: Instant::now(),
                        set_back: false,
                    });
                    if entry.wanted != *wanted {
                        *entry = Asked { wanted: wanted.clone(), at: Instant::now(), set_back: false };
                    }
                    done.from.push(from);
                    observer.resized(changed);
                }
                Err(Failure::Refused(refusal)) => {
                    tracing::warn!(pod = pod.metadata.name, message = refusal.message, "cannot resize a pod");
                    done.refused += 1;
                    observer.refused(uid(&pod), refusal);
                }
                Err(Failure::Gone) => observer.forget(crate::observe::Source::Pods),
                Err(Failure::Unreachable(why)) => {
                    done.unreachable = Some(why);
                    return done;
                }
            }
        }
        done
    }

    /// Whether somebody changed what was asked for before.
    fn contested(&mut self, pod: &Pod, wanted: &ResourceRequirements) -> Option<Drift> {
        let before = self.asked.get_mut(pod.metadata.uid.as_deref()?)?;
        if before.wanted != *wanted {
            return None;
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let who = owner(pod).unwrap_or("an unknown writer");
        if before.set_back && before.at.elapsed() < TRUCE {
            return Some(Drift {
                words: String::new(),
                refusal: Some(ResizeRejection {
                    wanted: wanted.clone(),
                    message: format!("{who} repeatedly changes the resources of pod {name}"),
                    kind: RejectionKind::Conflict,
                }),
            });
        }
        *before = Asked { wanted: wanted.clone(), at: Instant::now(), set_back: true };
        let words =
            format!("The resources of pod {name} were changed by {who}. The operator reverts them once.");
        Some(Drift { words, refusal: None })
    }

    async fn ask(&self, pod: &Pod, wanted: &ResourceRequirements) -> Result<Pod, Failure> {
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
        let kube::Error::Api(status) = &error else { return Err(Failure::Unreachable(causes(&error))) };
        // A 404 is either the pod's, which then names it, or the subresource's, which an older cluster has not.
        let names_the_pod = status.details.as_ref().is_some_and(|details| details.name == name);
        let says = format!("kube-apiserver returned \"{}\"", status.message.trim());
        let (message, kind) = match status.code {
            404 if names_the_pod => return Err(Failure::Gone),
            409 => return Err(Failure::Gone),
            404 | 405 => (
                format!(
                    "{says}; it does not serve the subresource pods/resize (Kubernetes 1.33 and newer do)"
                ),
                RejectionKind::NotInPlace,
            ),
            415 | 422 => (says, RejectionKind::NotInPlace),
            // Admission of kube-apiserver 1.36 compares with the node itself, before the kubelet does.
            403 if status.message.contains("enough allocatable") => (says, RejectionKind::Infeasible),
            403 if status.message.contains(" cannot ") => {
                let remedy = "run `helm upgrade` with the chart of this version to grant the permission";
                (format!("{says}; {remedy}"), RejectionKind::Forbidden)
            }
            _ => (says, RejectionKind::Forbidden),
        };
        Err(Failure::Refused(ResizeRejection { wanted: wanted.clone(), message, kind }))
    }
}

struct Drift {
    words: String,
    refusal: Option<ResizeRejection>,
}

enum Failure {
    Refused(ResizeRejection),
    /// The pod is gone or another one.
    Gone,
    Unreachable(String),
}

/// The field manager of the container's resources that wrote last, other than ours.
fn owner(pod: &Pod) -> Option<&str> {
    let others = pod.metadata.managed_fields.iter().flatten().filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| fields.0.to_string()).unwrap_or_default();
        entry.manager.as_deref() != Some(NANNY_FIELD_MANAGER)
            && fields.contains("f:resources")
            && entry.subresource.as_deref() != Some("status")
    });
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.as_deref()
}

impl std::fmt::Debug for Resizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resizer").finish_non_exhaustive()
    }
}
