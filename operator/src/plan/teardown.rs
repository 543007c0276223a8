//! Plans the deletion of everything that a MetricsPipeline owns, in order, or its release if it is orphaned.

use std::collections::BTreeMap;

use crds::FrontProxyDeletion;

use super::blocked::unreadable;
use super::{Action, Release, Removal, TeardownPlan};
use crate::common::ownership::{has_pipeline_as_owner, is_ours};
use crate::common::{ManagedObject, Problem};
use crate::observe::{Observed, Pipeline};

/// The finalizer that kube-apiserver sets for `kubectl delete --cascade=orphan` (metav1.FinalizerOrphanDependents). The
/// garbage collector removes it once it has removed the owner references.
const ORPHAN: &str = "orphan";

/// Returns the first step of the teardown that is not done.
pub(super) fn plan(pipeline: &Pipeline, observed: &Observed, namespace: &str) -> Action {
    if is_orphaned(pipeline, observed) {
        return Action::Orphan(releases(pipeline, observed));
    }
    for step in ManagedObject::teardown() {
        let ours = |object: &ManagedObject| {
            !is_kept(pipeline, *object) && observed.object(*object).is_some_and(is_ours)
        };
        let waiting: Vec<ManagedObject> = step.iter().copied().filter(ours).collect();
        let blocked: BTreeMap<ManagedObject, Problem> = step
            .iter()
            .filter_map(|object| Some((*object, unreadable(observed, *object, namespace)?)))
            .collect();
        if !waiting.is_empty() || !blocked.is_empty() {
            let removals = waiting.iter().filter_map(|object| removal(observed, *object)).collect();
            return Action::TearDown(TeardownPlan { removals, waiting, blocked });
        }
    }
    Action::RemoveFinalizer
}

/// Whether the objects must outlive the MetricsPipeline. The garbage collector may have removed its finalizer before the
/// operator saw it; then no object has an owner reference any more, which no other deletion brings about.
fn is_orphaned(pipeline: &Pipeline, observed: &Observed) -> bool {
    let front_proxy = [ManagedObject::FrontProxyCaSecret, ManagedObject::FrontProxySecret];
    // Kept Secrets of the front proxy never have an owner reference.
    let mut objects = ManagedObject::ALL
        .into_iter()
        .filter(|object| !front_proxy.contains(object))
        .filter_map(|object| observed.object(object).filter(|found| is_ours(found)))
        .peekable();
    let released = objects.peek().is_some() && objects.all(|found| !has_pipeline_as_owner(found));
    released || pipeline.finalizers.iter().any(|finalizer| finalizer == ORPHAN)
}

/// Returns the objects that still have an owner reference to the MetricsPipeline. The garbage collector removes them, too,
/// but not from an object that was created a moment ago; it would delete that one later.
fn releases(pipeline: &Pipeline, observed: &Observed) -> Vec<Release> {
    let release = |object: ManagedObject| {
        let metadata = &observed.object(object).filter(|found| is_ours(found))?.metadata;
        let references = metadata.owner_references.clone().unwrap_or_default();
        let others: Vec<_> = references.iter().filter(|owner| owner.uid != pipeline.uid).cloned().collect();
        (others.len() < references.len()).then_some(Release {
            object,
            uid: metadata.uid.clone()?,
            resource_version: metadata.resource_version.clone(),
            owner_references: others,
        })
    };
    ManagedObject::ALL.into_iter().filter_map(release).collect()
}

/// Whether an object outlives the MetricsPipeline: a kube-apiserver may depend on it.
pub(super) fn is_kept(pipeline: &Pipeline, object: ManagedObject) -> bool {
    let is_one = matches!(object, ManagedObject::FrontProxyCaSecret | ManagedObject::FrontProxySecret);
    // A spec that can't be read may have requested it.
    let keep = pipeline
        .spec
        .as_ref()
        .map_or(FrontProxyDeletion::Keep, |spec| spec.certificates.front_proxy.on_deletion);
    is_one && keep == FrontProxyDeletion::Keep
}

/// Returns the removal of an object, unless it is foreign or already being deleted.
pub(super) fn removal(observed: &Observed, object: ManagedObject) -> Option<Removal> {
    let found = observed.object(object).filter(|found| is_ours(found))?;
    if found.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Removal { object, uid: found.metadata.uid.clone()?, replaced: None })
}

#[cfg(test)]
mod tests;
