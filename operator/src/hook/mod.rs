//! The hooks of the Helm chart: programs that run once, in Jobs, and exit.
//!
//! `install.rs` (after an installation, an upgrade and a rollback) creates MetricsPipeline `cluster`, or updates the one that
//! the chart created. `uninstall.rs` (before the release is deleted) deletes the MetricsPipelines while the operator still
//! runs, and removes the APIServices itself if the operator does not. `requests.rs` retries requests.
//!
//! Each hook has a ServiceAccount of its own, which exists only while the hook runs.

mod install;
mod requests;
mod uninstall;

use std::time::Duration;

use clap::Subcommand;
use crds::MetricsPipeline;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Config};

use crate::common::error_chain;
use install::InstallFlags;
use uninstall::UninstallFlags;

/// The annotation of a MetricsPipeline that the chart created and may update; its value is the Helm release.
pub const RELEASE_ANNOTATION: &str = "metrics-pipeline.dev/helm-release";

/// The field manager of the chart's values in a MetricsPipeline.
const CHART_FIELD_MANAGER: &str = "metrics-pipeline-chart";

const USER_AGENT: &str = concat!("metrics-pipeline-hook/", env!("CARGO_PKG_VERSION"));

/// A hook of the Helm chart.
#[derive(Clone, Debug, Subcommand)]
pub enum HookCommand {
    /// Creates MetricsPipeline `cluster` if none exists, or updates the one that the chart created
    Install(InstallFlags),
    /// Deletes the MetricsPipelines and waits until the operator has deleted what they own
    Uninstall(UninstallFlags),
}

/// Why a hook failed. Helm prints it.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No configuration for kube-apiserver was found.
    #[error("found neither an in-cluster configuration nor a kubeconfig (KUBECONFIG): {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be created.
    #[error("the client for kube-apiserver could not be created: {}", error_chain(.0))]
    Client(#[source] kube::Error),
    /// The argument is not a JSON object.
    #[error("--spec is not a JSON object: {0}")]
    Spec(String),
    /// kube-apiserver rejected a request.
    #[error("cannot {action}: kube-apiserver returned {code}: {message}")]
    Rejected {
        /// What the request does.
        action: String,
        /// The HTTP status code.
        code: u16,
        /// The message of kube-apiserver.
        message: String,
    },
    /// A state did not occur in time.
    #[error("cannot {action}: not within {} s; {last}", after.as_secs())]
    Timeout {
        /// What the hook waits for.
        action: String,
        /// The timeout.
        after: Duration,
        /// The last error or state.
        last: String,
    },
    /// A field of the chart's MetricsPipeline was changed by another field manager.
    #[error(
        "MetricsPipeline {name} was not updated, because another field manager owns a field that the chart value \
         pipeline.spec sets to another value: {message}. Set the same value in pipeline.spec, or let the chart leave this \
         MetricsPipeline alone: `kubectl annotate metricspipeline {name} {RELEASE_ANNOTATION}-`"
    )]
    Conflict {
        /// The MetricsPipeline.
        name: String,
        /// The message of kube-apiserver.
        message: String,
    },
    /// kubectl applied the Job.
    #[error(
        "Job {0} is a Helm hook, and kubectl applied it: nothing was deleted. Delete the Job, and render the chart with \
         `helm template --no-hooks`"
    )]
    AppliedByKubectl(String),
    /// Something is left that makes the deletion of the operator unsafe.
    #[error(
        "the operator can't be deleted safely: {0}. Repair that and run `helm uninstall` again, or follow \"If the release is \
         already gone\" in docs/install.md"
    )]
    Left(String),
}

/// Runs a hook.
///
/// # Errors
/// If its result is not reached. Helm then reports that the hook failed.
pub async fn run_hook(command: HookCommand) -> Result<(), HookError> {
    let mut config = Config::infer().await?;
    config.default_retry = false;
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    let client = Client::try_from(config).map_err(HookError::Client)?;
    match command {
        HookCommand::Install(flags) => install::run(&client, &flags).await,
        HookCommand::Uninstall(flags) => uninstall::run(&client, &flags).await,
    }
}

/// Returns the API of MetricsPipelines. Their spec may be one that this version cannot decode.
fn pipelines(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<MetricsPipeline>(&()))
}

fn name(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

fn is_deleting(object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests;
