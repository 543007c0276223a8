//! Which objects must be left alone in a round.

use std::collections::BTreeMap;

use crds::{Adoption, Reason};

use super::objects::Context;
use crate::common::ownership::{is_ours, whose};
use crate::common::{ManagedObject, Problem};
use crate::observe::Observed;

/// What must not be touched: what can't be read, what is somebody else's, and an APIService before its time.
pub(super) fn blocked_objects(context: Context<'_>, observed: &Observed) -> BTreeMap<ManagedObject, Problem> {
    let namespace = &context.settings.namespace;
    let mut blocked: BTreeMap<ManagedObject, Problem> = ManagedObject::ALL
        .into_iter()
        .filter_map(|object| {
            let problem = unreadable(observed, object, namespace)
                .or_else(|| foreign(context, observed, object))
                .or_else(|| too_early(observed, object))?;
            Some((object, problem))
        })
        .collect();
    // Both versions or none: two servers behind one group would answer differently.
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
        let value = object.permission().map(|power| format!(" and --set {}=true", power.chart_value()));
        Problem::new(
            Reason::PermissionMissing,
            format!(
                "{name} can't be read: kube-apiserver says \"{}\". Give the operator its rights back: run `helm upgrade` \
                 with the chart of this version{}.",
                why.message,
                value.unwrap_or_default()
            ),
        )
    } else {
        Problem::new(
            Reason::ApplyFailed,
            format!("{name} can't be read: kube-apiserver says \"{}\".", why.message),
        )
    })
}

fn foreign(context: Context<'_>, observed: &Observed, object: ManagedObject) -> Option<Problem> {
    let found = observed.object(object).filter(|found| !is_ours(found))?;
    let namespace = &context.settings.namespace;
    let name = object.describe(namespace);
    let whose = whose(found);
    let kubectl = object.kubectl(namespace);
    if !ManagedObject::API_SERVICES.contains(&object) {
        return Some(Problem::new(
            Reason::ForeignObject,
            format!(
                "{name} belongs to somebody else and is left alone: {whose}. Look at it with `kubectl get {kubectl} -o yaml`; \
                 if nobody needs it, run `kubectl delete {kubectl}`.",
            ),
        ));
    }
    if context.spec.api_service.adoption == Adoption::Adopt {
        return None;
    }
    Some(Problem::new(
        Reason::ForeignAPIService,
        format!(
            "{name} belongs to somebody else and is left alone: {whose}. Either remove that metrics server, or have it \
             taken over: `kubectl patch metricspipeline {} --type=merge -p '{{\"spec\":{{\"apiService\":{{\"adoption\":\"Adopt\"}}}}}}'`.",
            context.pipeline.name,
        ),
    ))
}

/// An APIService without a ready server behind it breaks discovery and the deletion of namespaces. So the
/// first registration, and a take-over, wait for a ready pod. One of ours that exists stays when pods fail:
/// taking it away would turn a pause into `NotFound`, and it still carries the CA.
fn too_early(observed: &Observed, object: ManagedObject) -> Option<Problem> {
    let is_registration = ManagedObject::API_SERVICES.contains(&object);
    let exists = observed.object(object).is_some_and(is_ours);
    if !is_registration || exists || observed.ready_endpoints.is_some_and(|ready| ready > 0) {
        return None;
    }
    Some(Problem::new(
        Reason::WaitingForDependency,
        "The APIServices are applied once a pod of metrics-core is ready: without one they would break the discovery \
         of other APIs and the deletion of namespaces.",
    ))
}
