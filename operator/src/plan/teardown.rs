//! Plans the deletion of everything that a MetricsPipeline owns, in order.

use std::collections::BTreeMap;

use crds::FrontProxyDeletion;

use super::blocked::unreadable;
use super::{Action, Removal, TeardownPlan};
use crate::common::ownership::is_ours;
use crate::common::{ManagedObject, Problem};
use crate::observe::{Observed, Pipeline};

/// Returns the first step of the teardown that is not done.
pub(super) fn plan(pipeline: &Pipeline, observed: &Observed, namespace: &str) -> Action {
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
