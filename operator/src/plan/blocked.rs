//! Which objects must be left alone in a round.

use std::collections::BTreeMap;

use crds::{Adoption, Reason};

use super::migration;
use super::objects::Context;
use crate::common::ownership::{describe_owner, is_ours};
use crate::common::{ManagedObject, Problem};
use crate::observe::Observed;

/// Returns the objects to leave alone: those that can't be read, foreign ones, and APIServices without a ready pod.
pub(super) fn blocked_objects(context: Context<'_>, observed: &Observed) -> BTreeMap<ManagedObject, Problem> {
    let namespace = &context.settings.namespace;
    let mut blocked: BTreeMap<ManagedObject, Problem> = ManagedObject::ALL
        .into_iter()
        .filter_map(|object| {
            let problem = unreadable(observed, object, namespace)
                .or_else(|| foreign(context, observed, object))
                .or_else(|| too_early(observed, object))
                .or_else(|| migration::too_early(context, observed, object))?;
            Some((object, problem))
        })
        .collect();
    // Both versions or none: two servers behind one API group would return different results.
    let foreign = ManagedObject::API_SERVICES.into_iter().find_map(|object| {
        blocked.get(&object).filter(|problem| problem.reason == Reason::ForeignAPIService).cloned()
    });
    if let Some(foreign) = foreign {
        for object in ManagedObject::API_SERVICES {
            blocked.entry(object).or_insert_with(|| foreign.clone());
        }
    }
    blocked
}

pub(super) fn unreadable(observed: &Observed, object: ManagedObject, namespace: &str) -> Option<Problem> {
    let why = observed.unreadable(object)?;
    let name = object.describe(namespace);
    Some(if why.forbidden {
        let value =
            object.permission().map(|permission| format!(" and --set {}=true", permission.chart_value()));
        Problem::new(
            Reason::PermissionMissing,
            format!(
                "{name} cannot be read: kube-apiserver returned \"{}\". Restore the operator's permissions: run `helm \
                 upgrade` with the chart of this version{}.",
                why.message,
                value.unwrap_or_default()
            ),
        )
    } else {
        Problem::new(
            Reason::ApplyFailed,
            format!(
                "{name} cannot be read: kube-apiserver returned \"{}\". The operator retries.",
                why.message
            ),
        )
    })
}

fn foreign(context: Context<'_>, observed: &Observed, object: ManagedObject) -> Option<Problem> {
    let found = observed.object(object).filter(|found| !is_ours(found))?;
    let namespace = &context.settings.namespace;
    let name = object.describe(namespace);
    let owner = describe_owner(found);
    let kubectl = object.kubectl(namespace);
    if !ManagedObject::API_SERVICES.contains(&object) {
        return Some(Problem::new(
            Reason::ForeignObject,
            format!(
                "{name} is not managed by this operator and is left unchanged ({owner}). Inspect it with `kubectl get \
                 {kubectl} -o yaml`. If it is not needed, run `kubectl delete {kubectl}`.",
            ),
        ));
    }
    if context.spec.api_service.adoption == Adoption::Adopt {
        return None;
    }
    Some(Problem::new(
        Reason::ForeignAPIService,
        format!(
            "{name} is not managed by this operator and is left unchanged ({owner}). Either remove that metrics \
             server, or let the operator take the APIService over: `kubectl patch metricspipeline {} --type=merge -p \
             '{{\"spec\":{{\"apiService\":{{\"adoption\":\"Adopt\"}}}}}}'`.",
            context.pipeline.name,
        ),
    ))
}

/// An APIService without a ready server breaks discovery and the deletion of namespaces, so its creation and its adoption
/// wait for a ready pod. One that the operator already manages stays when pods fail: without it clients would receive
/// `NotFound` instead of a temporary error, and it still announces the CA.
fn too_early(observed: &Observed, object: ManagedObject) -> Option<Problem> {
    let is_registration = ManagedObject::API_SERVICES.contains(&object);
    let exists = observed.object(object).is_some_and(is_ours);
    if !is_registration || exists || observed.ready_endpoints.is_some_and(|ready| ready > 0) {
        return None;
    }
    Some(Problem::new(
        Reason::WaitingForDependency,
        "The APIServices are created once a pod of metrics-core is ready. Without a ready pod they would break API \
         discovery and namespace deletion.",
    ))
}
