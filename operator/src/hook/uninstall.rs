//! Deletes the MetricsPipelines before the release is deleted.
//!
//! The operator removes what they own, the APIServices first. If it is not Ready or does not finish, the hook does what must
//! not be left undone: it deletes the APIServices, because one without a server blocks the deletion of namespaces, and
//! removes the operator's finalizer. The garbage collector then deletes the rest, which has owner references.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use crds::FINALIZER;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::requests::{Deadline, PAUSE, until};
use super::{HookError, is_deleting, name, pipelines};
use crate::common::ownership::{describe_owner, is_ours};
use crate::common::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, ManagedObject};

/// The time in which the operator deletes what the MetricsPipelines own.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The time for which the operator may be not Ready before the hook stops waiting for it: a pod that restarts is Ready again
/// within it.
const NOT_READY: Duration = Duration::from_secs(20);

/// The time in which the hook deletes what the operator did not.
const BY_HAND: Duration = Duration::from_secs(60);

/// The finalizer of `kubectl delete --cascade=orphan`.
const ORPHAN: &str = "orphan";

/// The flags of the hook.
#[derive(Args, Clone, Debug)]
pub struct UninstallFlags {
    /// The namespace of the operator and of the hook
    #[arg(long, value_name = "NAME")]
    pub namespace: String,

    /// The Job of the hook, which must not have been applied by kubectl
    #[arg(long, value_name = "NAME")]
    pub job: String,

    /// The Job of the other hook, which stays if that hook failed
    #[arg(long, value_name = "NAME")]
    pub install_job: String,
}

/// How the wait for the operator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// It removed its finalizer from all MetricsPipelines.
    Finished,
    /// It is not Ready.
    NotReady,
    /// It is Ready and did not finish.
    Stuck,
}

pub(super) async fn run(client: &Client, flags: &UninstallFlags) -> Result<(), HookError> {
    let deadline = Deadline::after(TIMEOUT);
    refuse_kubectl(client, flags, deadline).await?;
    delete_install_job(client, flags, deadline).await?;
    for pipeline in list(client, deadline).await? {
        delete_pipeline(client, &pipeline, deadline).await?;
    }
    match wait_for_operator(client, flags, deadline).await? {
        Operator::Finished => {
            tracing::info!("no MetricsPipeline is left");
            return Ok(());
        }
        Operator::NotReady => {
            tracing::warn!("the operator is not Ready: deleting the APIServices without it");
        }
        Operator::Stuck => tracing::warn!(
            seconds = TIMEOUT.as_secs(),
            "the operator has not deleted everything in time: deleting the APIServices without it"
        ),
    }
    by_hand(client).await
}

/// Fails if kubectl applied the Job: the output of `helm template` contains the hooks, too, and one that deletes the
/// MetricsPipelines must not run when the chart is installed.
async fn refuse_kubectl(
    client: &Client,
    flags: &UninstallFlags,
    deadline: Deadline,
) -> Result<(), HookError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), &flags.namespace);
    let action = format!("get Job {}/{}", flags.namespace, flags.job);
    let Some(job) = until(deadline, &action, || jobs.get_metadata_opt(&flags.job)).await? else {
        return Ok(());
    };
    let mut managers = job.metadata.managed_fields.iter().flatten();
    if managers.any(|entry| entry.manager.as_deref().is_some_and(|manager| manager.starts_with("kubectl"))) {
        return Err(HookError::AppliedByKubectl(flags.job.clone()));
    }
    Ok(())
}

/// Deletes the Job of a hook that failed, which is not an object of the release.
async fn delete_install_job(
    client: &Client,
    flags: &UninstallFlags,
    deadline: Deadline,
) -> Result<(), HookError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), &flags.namespace);
    let action = format!("delete Job {}/{}", flags.namespace, flags.install_job);
    let parameters = DeleteParams::background();
    gone_or_replaced(until(deadline, &action, || jobs.delete(&flags.install_job, &parameters)).await)
}

/// Lists the MetricsPipelines; none without the CustomResourceDefinition.
async fn list(client: &Client, deadline: Deadline) -> Result<Vec<DynamicObject>, HookError> {
    let (api, everything) = (pipelines(client), ListParams::default());
    match until(deadline, "list MetricsPipelines", || api.list(&everything)).await {
        Ok(list) => Ok(list.items),
        Err(HookError::Rejected { code: 404, .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn delete_pipeline(
    client: &Client,
    pipeline: &DynamicObject,
    deadline: Deadline,
) -> Result<(), HookError> {
    if is_deleting(pipeline) {
        return Ok(());
    }
    let (api, name) = (pipelines(client), name(pipeline));
    let parameters = this_object(pipeline);
    let action = format!("delete MetricsPipeline {name}");
    gone_or_replaced(until(deadline, &action, || api.delete(name, &parameters)).await)?;
    tracing::info!("deleted MetricsPipeline {name}; the operator deletes what it owns");
    Ok(())
}

/// Returns the parameters of a deletion of this object only, and not of another one of the same name.
fn this_object(object: &DynamicObject) -> DeleteParams {
    let preconditions = Preconditions { uid: object.metadata.uid.clone(), resource_version: None };
    DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    }
}

/// An object that is gone or replaced needs no deletion; the next read shows the other one.
fn gone_or_replaced<T>(result: Result<T, HookError>) -> Result<(), HookError> {
    match result {
        Ok(_) | Err(HookError::Rejected { code: 404 | 409, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the MetricsPipelines whose objects the operator has not deleted yet. Others' finalizers do not concern the
/// operator.
fn unfinished(found: &[DynamicObject]) -> Vec<&DynamicObject> {
    found.iter().filter(|pipeline| !is_deleting(pipeline) || has_finalizer(pipeline, FINALIZER)).collect()
}

fn has_finalizer(object: &DynamicObject, finalizer: &str) -> bool {
    object.metadata.finalizers.iter().flatten().any(|known| known == finalizer)
}

async fn wait_for_operator(
    client: &Client,
    flags: &UninstallFlags,
    deadline: Deadline,
) -> Result<Operator, HookError> {
    let mut last_ready = Instant::now();
    loop {
        if unfinished(&list(client, deadline).await?).is_empty() {
            return Ok(Operator::Finished);
        }
        if is_operator_ready(client, flags, deadline).await? {
            last_ready = Instant::now();
        }
        if last_ready.elapsed() >= NOT_READY {
            return Ok(Operator::NotReady);
        }
        if deadline.is_over() {
            return Ok(Operator::Stuck);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn is_operator_ready(
    client: &Client,
    flags: &UninstallFlags,
    deadline: Deadline,
) -> Result<bool, HookError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &flags.namespace);
    let action = format!("get Deployment {}/{FIELD_MANAGER}", flags.namespace);
    let found = until(deadline, &action, || deployments.get_opt(FIELD_MANAGER)).await?;
    Ok(found.and_then(|found| found.status?.ready_replicas).is_some_and(|ready| ready > 0))
}

/// Deletes the operator's APIServices, then removes its finalizer, and fails if something is left that the garbage collector
/// does not delete.
async fn by_hand(client: &Client) -> Result<(), HookError> {
    let deadline = Deadline::after(BY_HAND);
    let mut reported = BTreeSet::new();
    let mut left;
    loop {
        left = remove_api_services(client, deadline, &mut reported).await?;
        // The finalizer keeps the objects that the APIServices refer to.
        if left.is_empty() {
            left = remove_finalizers(client, deadline).await?;
        }
        if left.is_empty() || deadline.is_over() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if !left.is_empty() {
        return Err(HookError::Left(left.join("; ")));
    }
    tracing::warn!(
        "the garbage collector deletes the other objects of the operator; check with: kubectl get \
         clusterroles,clusterrolebindings,roles,rolebindings,deployments,services,secrets --all-namespaces --selector \
         {MANAGED_BY_LABEL}={MANAGED_BY}"
    );
    Ok(())
}

/// Deletes the APIServices of the operator. Returns those that still exist.
async fn remove_api_services(
    client: &Client,
    deadline: Deadline,
    reported: &mut BTreeSet<ManagedObject>,
) -> Result<Vec<String>, HookError> {
    let mut left = Vec::new();
    for object in ManagedObject::API_SERVICES {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &object.resource());
        let name = object.name();
        let action = format!("get APIService {name}");
        let Some(found) = until(deadline, &action, || api.get_opt(name)).await? else { continue };
        if !is_ours(&found) {
            if reported.insert(object) {
                tracing::info!("APIService {name} stays: {}", describe_owner(&found));
            }
            continue;
        }
        left.push(format!("APIService {name} still exists"));
        if is_deleting(&found) {
            continue;
        }
        let parameters = this_object(&found);
        let action = format!("delete APIService {name}");
        gone_or_replaced(until(deadline, &action, || api.delete(name, &parameters)).await)?;
        tracing::info!("deleted APIService {name}");
    }
    Ok(left)
}

/// Removes the operator's finalizer from the MetricsPipelines that are being deleted. Returns those that still have it.
async fn remove_finalizers(client: &Client, deadline: Deadline) -> Result<Vec<String>, HookError> {
    let found = list(client, deadline).await?;
    let mut left = Vec::new();
    for pipeline in unfinished(&found) {
        let name = name(pipeline);
        if !is_deleting(pipeline) {
            left.push(format!("MetricsPipeline {name} was created again"));
        } else if has_finalizer(pipeline, ORPHAN) {
            // Without the operator's finalizer the garbage collector could delete what must be orphaned.
            left.push(format!("MetricsPipeline {name} is being orphaned (--cascade=orphan)"));
        } else {
            left.push(format!("MetricsPipeline {name} still has the finalizer {FINALIZER}"));
            remove_finalizer(client, pipeline, deadline).await?;
        }
    }
    Ok(left)
}

async fn remove_finalizer(
    client: &Client,
    pipeline: &DynamicObject,
    deadline: Deadline,
) -> Result<(), HookError> {
    let (api, name) = (pipelines(client), name(pipeline));
    let others: Vec<_> =
        pipeline.metadata.finalizers.iter().flatten().filter(|known| *known != FINALIZER).collect();
    // On the version that was read, so that no other finalizer is lost.
    let patch = json!({ "metadata": {
        "uid": pipeline.metadata.uid, "resourceVersion": pipeline.metadata.resource_version, "finalizers": others,
    } });
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let action = format!("remove the finalizer of MetricsPipeline {name}");
    gone_or_replaced(until(deadline, &action, || api.patch_metadata(name, &parameters, &patch)).await)?;
    tracing::info!("removed the operator's finalizer of MetricsPipeline {name}");
    Ok(())
}
