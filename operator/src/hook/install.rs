//! Creates MetricsPipeline `cluster`, or updates the one that the chart created.
//!
//! Helm can't create a CustomResourceDefinition from templates and an object of it in one release. The MetricsPipeline is no
//! part of the release: Helm neither replaces nor deletes it.

use std::time::Duration;

use clap::Args;
use crds::MetricsPipeline;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, ValidationDirective};
use kube::core::DynamicObject;
use kube::{Api, Client, CustomResourceExt as _, Resource as _};
use serde_json::{Value, json};

use super::requests::{Deadline, PAUSE, until};
use super::{CHART_FIELD_MANAGER, HookError, RELEASE_ANNOTATION, is_deleting, name, pipelines};

/// The name of the MetricsPipeline that the chart creates.
const NAME: &str = "cluster";

/// The timeout of the hook, below `activeDeadlineSeconds` of its Job, so that the message is the hook's.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The flags of the hook.
#[derive(Args, Clone, Debug)]
pub struct InstallFlags {
    /// The spec of the MetricsPipeline, as JSON
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub spec: String,

    /// The Helm release; it is recorded in an annotation of the MetricsPipeline
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub release: String,
}

/// What the hook does.
#[derive(Debug)]
enum Choice<'a> {
    /// No MetricsPipeline exists.
    Create,
    /// The chart created this one.
    Update(&'a DynamicObject),
    /// Others exist, and are not the chart's.
    Leave(Vec<&'a str>),
    /// None exists but those that are being deleted.
    Wait(Vec<&'a str>),
}

pub(super) async fn run(client: &Client, flags: &InstallFlags) -> Result<(), HookError> {
    let spec: Value =
        serde_json::from_str(&flags.spec).map_err(|error| HookError::Spec(error.to_string()))?;
    if !spec.is_object() {
        return Err(HookError::Spec(format!("it is {spec}")));
    }
    let deadline = Deadline::after(TIMEOUT);
    established(client, deadline).await?;
    loop {
        let found = list(client, deadline).await?;
        match choose(&found) {
            Choice::Create => return create(client, flags, &spec, deadline).await,
            Choice::Update(object) => return update(client, object, flags, &spec, deadline).await,
            Choice::Leave(names) => {
                tracing::info!(
                    names = names.join(", "),
                    "a MetricsPipeline exists that the chart did not create; nothing was changed"
                );
                return Ok(());
            }
            Choice::Wait(names) => {
                let names = names.join(", ");
                if deadline.is_over() {
                    return Err(deadline.exceeded(
                        format!("create MetricsPipeline {NAME}"),
                        format!(
                            "MetricsPipeline {names} is still being deleted; \
                             `kubectl get metricspipeline {names} --output=yaml` shows the finalizers that it waits for"
                        ),
                    ));
                }
                tracing::info!(names, "waiting for the deletion of a MetricsPipeline");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn choose(found: &[DynamicObject]) -> Choice<'_> {
    let live: Vec<_> = found.iter().filter(|object| !is_deleting(object)).collect();
    if let Some(object) = live.iter().find(|object| is_marked(object)) {
        return Choice::Update(object);
    }
    match (live.as_slice(), found) {
        ([], []) => Choice::Create,
        ([], deleting) => Choice::Wait(deleting.iter().map(name).collect()),
        (live, _) => Choice::Leave(live.iter().map(|object| name(object)).collect()),
    }
}

fn is_marked(object: &DynamicObject) -> bool {
    let annotations = object.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(RELEASE_ANNOTATION))
}

/// Waits until kube-apiserver serves the CustomResourceDefinition.
async fn established(client: &Client, deadline: Deadline) -> Result<(), HookError> {
    let crd = MetricsPipeline::crd_name();
    let action = format!("get CustomResourceDefinition {crd}");
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    loop {
        let found = until(deadline, &action, || api.get_opt(crd)).await?;
        let conditions = found.and_then(|found| found.status?.conditions);
        let last = match &conditions {
            None => "it does not exist, or has no status".to_owned(),
            Some(conditions) => {
                if conditions.iter().any(|known| known.type_ == "Established" && known.status == "True") {
                    return Ok(());
                }
                let texts = conditions.iter().map(|known| {
                    let message = known.message.as_deref().unwrap_or_default();
                    format!("{} is {}: {message}", known.type_, known.status)
                });
                texts.collect::<Vec<_>>().join("; ")
            }
        };
        if deadline.is_over() {
            return Err(
                deadline.exceeded(format!("use CustomResourceDefinition {crd}: it is not Established"), last)
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lists the MetricsPipelines. Each kube-apiserver starts to serve an established kind a moment later, and returns 404 until
/// then.
async fn list(client: &Client, deadline: Deadline) -> Result<Vec<DynamicObject>, HookError> {
    let (api, everything) = (pipelines(client), ListParams::default());
    loop {
        match until(deadline, "list MetricsPipelines", || api.list(&everything)).await {
            Ok(list) => return Ok(list.items),
            Err(HookError::Rejected { code: 404, .. }) if !deadline.is_over() => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn create(
    client: &Client,
    flags: &InstallFlags,
    spec: &Value,
    deadline: Deadline,
) -> Result<(), HookError> {
    let metadata = json!({ "name": NAME, "annotations": { RELEASE_ANNOTATION: flags.release } });
    let written = apply(client, NAME, &metadata, Some(spec), deadline).await?;
    // Server-side apply has no precondition that an object does not exist.
    let others = written.metadata.managed_fields.iter().flatten();
    let mut others = others.filter(|entry| entry.manager.as_deref() != Some(CHART_FIELD_MANAGER));
    if let Some(other) = others.next() {
        apply(client, NAME, &json!({ "name": NAME }), None, deadline).await?;
        tracing::info!(
            manager = other.manager,
            "MetricsPipeline {NAME} was created meanwhile; nothing was changed"
        );
        return Ok(());
    }
    tracing::info!("created MetricsPipeline {NAME}");
    Ok(())
}

async fn update(
    client: &Client,
    object: &DynamicObject,
    flags: &InstallFlags,
    spec: &Value,
    deadline: Deadline,
) -> Result<(), HookError> {
    let name = name(object);
    // By its UID: an object that replaces it is not the chart's.
    let metadata = json!({
        "name": name, "uid": object.metadata.uid, "annotations": { RELEASE_ANNOTATION: flags.release },
    });
    let written = apply(client, name, &metadata, Some(spec), deadline).await?;
    let changed = written.metadata.generation != object.metadata.generation;
    tracing::info!(changed, "MetricsPipeline {name} has the spec of the chart's values");
    Ok(())
}

/// Applies the fields of the chart. Without force: a field that another field manager changed stays, and is an error.
async fn apply(
    client: &Client,
    name: &str,
    metadata: &Value,
    spec: Option<&Value>,
    deadline: Deadline,
) -> Result<DynamicObject, HookError> {
    let api = pipelines(client);
    let mut body = json!({
        "apiVersion": MetricsPipeline::api_version(&()), "kind": "MetricsPipeline", "metadata": metadata,
    });
    if let Some(spec) = spec {
        body["spec"] = spec.clone();
    }
    let parameters = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply(CHART_FIELD_MANAGER)
    };
    let action = format!("apply the chart value pipeline.spec to MetricsPipeline {name}");
    let patch = Patch::Apply(&body);
    until(deadline, &action, || api.patch(name, &parameters, &patch)).await.map_err(|error| match error {
        HookError::Rejected { code: 409, message, .. } => {
            HookError::Conflict { name: name.to_owned(), message }
        }
        other => other,
    })
}
