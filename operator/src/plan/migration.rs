//! Moves the managed objects to the operator's namespace after the operator was installed into another one.
//!
//! Everything is created beside the previous objects. The replicas there keep their permissions and serve until the new
//! ones are ready; then the APIServices move. When every kube-apiserver has seen that, the previous objects are deleted,
//! the workload first. Each step follows from the objects, so the operator may restart at any time.

use std::collections::BTreeMap;

use crds::Reason;

use super::objects::Context;
use super::{MigrationPlan, Removal, teardown};
use crate::common::ownership::is_ours;
use crate::common::{ManagedObject, Problem};
use crate::observe::{Found, Observed, Pipeline, Unreadable, moves_from};
use crate::settings::Settings;

/// Returns the namespace whose replicas still serve, or may; they must keep their permissions.
#[must_use]
pub(super) fn serves_from(pipeline: &Pipeline, observed: &Observed, settings: &Settings) -> Option<String> {
    let from = moves_from(pipeline, observed, &settings.namespace)?;
    let workload = observed
        .previous_namespace
        .as_ref()
        .and_then(|previous| previous.objects.get(&ManagedObject::Deployment));
    let may_run = match workload {
        Some(Found::Present(found)) => is_ours(found),
        // Where the operator can't look, a binding must not outlive the move: whoever creates a ServiceAccount of that name
        // in that namespace would have the permissions of metrics-core.
        Some(Found::Absent | Found::Unserved | Found::Unreadable(_)) | None => false,
    };
    (may_run || !has_moved(observed, settings)).then(|| from.to_owned())
}

/// Returns why an APIService must stay where it is.
#[must_use]
pub(super) fn too_early(context: Context<'_>, observed: &Observed, object: ManagedObject) -> Option<Problem> {
    let here = &context.settings.namespace;
    let from = observed.service_namespace(object).filter(|namespace| namespace != here)?;
    // Another namespace is drift, or that of a move which this one interrupted: replicas may serve there.
    let is_move = moves_from(context.pipeline, observed, here) == Some(from);
    let serves = is_move
        && observed.previous_namespace.as_ref().is_none_or(|previous| {
            !matches!(previous.objects.get(&ManagedObject::Deployment), Some(Found::Absent))
        });
    let replicas = usize::try_from(context.spec.metrics_core.replicas).unwrap_or(1);
    let wanted = if serves { replicas } else { 1 };
    let ready = observed.ready_endpoints.unwrap_or_default();
    (ready < wanted).then(|| {
        Problem::new(
            Reason::Progressing,
            format!(
                "The pipeline moves from namespace {from} to {here}. The APIServices reference the replicas in {from} until \
                 {wanted} replicas in {here} are ready; {ready} are. See DeploymentAvailable for the cause."
            ),
        )
    })
}

/// Plans the deletions in the previous namespace; `None` if nothing is left there.
#[must_use]
pub(super) fn plan(context: Context<'_>, observed: &Observed) -> Option<MigrationPlan> {
    let from = moves_from(context.pipeline, observed, &context.settings.namespace)?.to_owned();
    let waiting = |from| Some(MigrationPlan { from, removals: Vec::new(), problem: None });
    let Some(previous) = observed.previous_namespace.as_ref().filter(|previous| previous.namespace == from)
    else {
        return waiting(from);
    };
    let unreadable = previous.objects.values().find_map(|found| match found {
        Found::Unreadable(why) => Some(why),
        _ => None,
    });
    if let Some(why) = unreadable {
        let problem = Some(cannot_read(context, &from, why));
        return Some(MigrationPlan { from, removals: Vec::new(), problem });
    }
    let [_, steps @ ..] = ManagedObject::teardown();
    let left = steps
        .into_iter()
        .map(|step| left(context, &previous.objects, &step))
        .find(|left| !left.is_empty())?;
    if !has_moved(observed, context.settings) {
        return waiting(from);
    }
    let removals = left.into_iter().flatten().collect();
    Some(MigrationPlan { from, removals, problem: None })
}

/// Returns the objects of a step that are left; `None` in place of one that is already being deleted.
fn left(
    context: Context<'_>,
    objects: &BTreeMap<ManagedObject, Found>,
    step: &[ManagedObject],
) -> Vec<Option<Removal>> {
    let is_left = |object: &ManagedObject| match objects.get(object) {
        Some(Found::Present(found)) if is_ours(found) && !teardown::is_kept(context.pipeline, *object) => {
            let uid = found.metadata.uid.clone().filter(|_| found.metadata.deletion_timestamp.is_none());
            Some(uid.map(|uid| Removal { object: *object, uid, replaced: None }))
        }
        _ => None,
    };
    step.iter().filter_map(is_left).collect()
}

/// Whether no APIService of the operator references another namespace, for so long that every kube-apiserver knows it.
fn has_moved(observed: &Observed, settings: &Settings) -> bool {
    ManagedObject::API_SERVICES.into_iter().all(|object| {
        let announced_for = observed.announced_for.get(&object).copied().unwrap_or_default();
        let is_readable = observed.unreadable(object).is_none();
        is_readable
            && observed.service_namespace(object).is_none_or(|namespace| {
                namespace == settings.namespace && announced_for >= settings.certificates.trust_delay
            })
    })
}

fn cannot_read(context: Context<'_>, from: &str, why: &Unreadable) -> Problem {
    let here = &context.settings.namespace;
    if !why.forbidden {
        return Problem::new(
            Reason::ApplyFailed,
            format!(
                "The objects in the previous namespace {from} cannot be read or deleted: kube-apiserver returned \"{}\". \
                 The operator retries.",
                why.message
            ),
        );
    }
    Problem::new(
        Reason::PermissionMissing,
        format!(
            "The objects in the previous namespace {from} cannot be deleted: kube-apiserver returned \"{}\". Grant access \
             with the chart value previousNamespace: `helm upgrade RELEASE CHART --namespace {here} \
             --reset-then-reuse-values --set previousNamespace={from}`. If you deleted them yourself, run `kubectl patch \
             metricspipeline {} --subresource=status --type=merge -p '{{\"status\":{{\"namespace\":\"{here}\"}}}}'`.",
            why.message, context.pipeline.name
        ),
    )
}

#[cfg(test)]
mod tests;
