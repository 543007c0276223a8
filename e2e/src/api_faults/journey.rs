//! The journeys: from which state each starts, what triggers it, and when it is complete.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::env::{self, EXTERNAL_SECRET, Env, collection, pipeline_path};
use super::fault::Fault;
use super::operator::IMAGE;
use super::{NAMESPACES, NODE, foreign, inventory};
use crate::error::Result;
use crate::testbed::pipeline;

/// The replicas of metrics-core.
const REPLICAS: u64 = 2;
/// The image after the upgrade.
const NEXT_IMAGE: &str = "registry.example/metrics-core:2";
/// The nodes that the journey `resize` adds.
const MORE_NODES: usize = 12;

/// What a user or a clock has the operator do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Journey {
    /// A MetricsPipeline is created.
    Install,
    /// The CA is replaced, because the key algorithm changes.
    RotateCa,
    /// The serving certificate comes from a Secret.
    ChangeSource,
    /// The APIService of a metrics-server is taken over.
    Adopt,
    /// Nodes are added, and the nanny resizes the pods.
    Resize,
    /// The image changes.
    Upgrade,
    /// The operator moves to another namespace.
    MoveNamespace,
    /// The MetricsPipeline is deleted.
    Delete,
    /// The MetricsPipeline is deleted with `--cascade=foreground`.
    DeleteForeground,
}

impl Journey {
    /// All journeys.
    pub const ALL: [Self; 9] = [
        Self::Install,
        Self::RotateCa,
        Self::ChangeSource,
        Self::Adopt,
        Self::Resize,
        Self::Upgrade,
        Self::MoveNamespace,
        Self::Delete,
        Self::DeleteForeground,
    ];

    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::RotateCa => "rotate-ca",
            Self::ChangeSource => "change-source",
            Self::Adopt => "adopt",
            Self::Resize => "resize",
            Self::Upgrade => "upgrade",
            Self::MoveNamespace => "move-namespace",
            Self::Delete => "delete",
            Self::DeleteForeground => "delete-foreground",
        }
    }

    /// Whether the journey ends without a MetricsPipeline.
    #[must_use]
    pub const fn is_deletion(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteForeground)
    }
}

impl fmt::Display for Journey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Journey {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|journey| journey.name() == name);
        found.ok_or_else(|| format!("no journey {name:?}: use one of {}", names()))
    }
}

impl Journey {
    /// Brings the cluster into the state from which the journey starts, with an undisturbed operator.
    pub(super) async fn prepare(self, env: &mut Env) -> Result<()> {
        wipe(env).await?;
        if env.namespace != NAMESPACES[0] {
            env.install_chart(NAMESPACES[0]).await?;
        }
        for number in 0..MORE_NODES {
            env.api.delete(&format!("/api/v1/nodes/{}", more(number)), &Value::Null).await?;
        }
        foreign::plant(&env.api).await?;
        if self == Self::Install {
            return Ok(());
        }
        if self == Self::Adopt {
            foreign::install_metrics_server(&env.api).await?;
        }
        env.restart_operator(Fault::Nothing).await?;
        create(env).await?;
        if self == Self::Adopt {
            return env
                .until("the foreign APIService is reported", async |env| {
                    let pipeline = env.pipeline().await?.unwrap_or_default();
                    let reason = condition(&pipeline, "APIServiceAvailable", "reason");
                    Ok(reason == "ForeignAPIService" && replicas_ready(env).await?)
                })
                .await;
        }
        env.until("the pipeline is Ready", async |env| {
            Self::Install.lack(env, &Value::Null).await.map(|lack| lack.is_none())
        })
        .await
    }

    /// Returns what [`Self::lack`] compares with: the CA before the journey.
    pub(super) async fn before(self, env: &Env) -> Result<Value> {
        secret(env, env.namespace, "metrics-core-ca").await
    }

    /// Starts the journey.
    pub(super) async fn trigger(self, env: &mut Env) -> Result<()> {
        let patch = match self {
            Self::Install => return create(env).await,
            Self::Delete | Self::DeleteForeground => {
                let policy = if self == Self::Delete { "Background" } else { "Foreground" };
                return env.api.delete(&pipeline_path(), &json!({"propagationPolicy": policy})).await;
            }
            Self::Resize => {
                for number in 0..MORE_NODES {
                    env.api.apply(&env::node(&more(number))).await?;
                }
                return Ok(());
            }
            Self::MoveNamespace => {
                env.operators.clear();
                env.install_chart(NAMESPACES[1]).await?;
                return env.start_operator(0).await;
            }
            Self::RotateCa => json!({"certificates": {"keyAlgorithm": "RSA2048"}}),
            Self::ChangeSource => {
                json!({"certificates": {"source": "Secret", "secretRef": {"name": EXTERNAL_SECRET}}})
            }
            Self::Adopt => json!({"apiService": {"adoption": "Adopt"}}),
            Self::Upgrade => json!({"metricsCore": {"image": NEXT_IMAGE}}),
        };
        env.api.merge(&pipeline_path(), &json!({"spec": patch})).await.map(drop)
    }

    /// Returns what is missing until the journey is complete.
    pub(super) async fn lack(self, env: &Env, before: &Value) -> Result<Option<String>> {
        let pipeline = env.pipeline().await?;
        if self.is_deletion() {
            let left = inventory::read(&env.api).await?;
            return Ok(match (pipeline, left.into_keys().next()) {
                (Some(_), _) => Some("the MetricsPipeline still exists".to_owned()),
                (None, Some(left)) => Some(format!("{left} still exists")),
                (None, None) => None,
            });
        }
        let Some(pipeline) = pipeline else {
            return Ok(Some("the MetricsPipeline does not exist".to_owned()));
        };
        if let Some(lack) = not_ready(&pipeline) {
            return Ok(Some(lack));
        }
        if !replicas_ready(env).await? {
            return Ok(Some("the rollout is not complete".to_owned()));
        }
        let missing = |state: bool, what: &str| Ok((!state).then(|| what.to_owned()));
        match self {
            Self::RotateCa => {
                let now = secret(env, env.namespace, "metrics-core-ca").await?;
                let is_new = now["tls.crt"] != before["tls.crt"] && now["previous.crt"].is_null();
                missing(is_new, "the CA was not replaced")
            }
            Self::ChangeSource => {
                let now = secret(env, env.namespace, "metrics-core-serving").await?;
                let external = BASE64_STANDARD.encode(&env.external.certificate);
                missing(now["tls.crt"] == external, "the certificate of the Secret is not served")
            }
            Self::Adopt => {
                let found = env.api.get(foreign::API_SERVICE).await?.unwrap_or_default();
                let is_ours = found["spec"]["service"]["name"] == "metrics-core";
                missing(is_ours, "the APIService was not taken over")
            }
            Self::Resize => {
                let pods = pods(env).await?;
                // 64Mi and 4Mi for each node.
                let memory = format!("{}Mi", 64 + 4 * (MORE_NODES + 1));
                let resized = |pod: &Value| {
                    let [wanted, actual] =
                        [&pod["spec"]["containers"][0], &pod["status"]["containerStatuses"][0]]
                            .map(|one| &one["resources"]);
                    wanted == actual && actual["requests"]["memory"] == memory.as_str()
                };
                missing(pods.iter().all(resized), "the pods were not resized")
            }
            Self::Upgrade => {
                let pods = pods(env).await?;
                let is_new = |pod: &Value| pod["spec"]["containers"][0]["image"] == NEXT_IMAGE;
                missing(pods.iter().all(is_new), "the pods have the old image")
            }
            Self::MoveNamespace => {
                let left = inventory::read(&env.api).await?;
                let place = format!(" {}/", NAMESPACES[0]);
                let left = left.into_keys().find(|key| key.contains(&place));
                let moved = pipeline["status"]["namespace"] == NAMESPACES[1];
                Ok(left
                    .map(|left| format!("{left} is left"))
                    .or_else(|| (!moved).then(|| "status.namespace is the old one".to_owned())))
            }
            Self::Install | Self::Delete | Self::DeleteForeground => Ok(None),
        }
    }
}

/// Deletes the pipeline and everything that an earlier run left.
async fn wipe(env: &mut Env) -> Result<()> {
    let is_empty = async |env: &Env| Journey::Delete.lack(env, &Value::Null).await.map(|lack| lack.is_none());
    if !is_empty(env).await? {
        env.restart_operator(Fault::Nothing).await?;
        env.api.delete(&pipeline_path(), &json!({"propagationPolicy": "Background"})).await?;
        let began = Instant::now();
        while !is_empty(env).await? && began.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    env.kill_operators().await?;
    if !is_empty(env).await? {
        // A violation of the run before may leave objects that nothing deletes.
        let orphan = json!({"metadata": {"finalizers": null}});
        if env.pipeline().await?.is_some() {
            env.api.merge(&pipeline_path(), &orphan).await?;
        }
        inventory::delete_all(&env.api).await?;
        env.until("nothing is left of the run before", is_empty).await?;
    }
    let registration = env.api.get(foreign::API_SERVICE).await?;
    if registration.is_some() {
        env.api.delete(foreign::API_SERVICE, &Value::Null).await?;
    }
    Ok(())
}

async fn create(env: &Env) -> Result<()> {
    let spec = json!({
        "metricsCore": {"replicas": REPLICAS, "image": IMAGE},
        "nanny": {"estimator": "Linear", "scaleUpDelay": "0s", "extraMemory": "4Mi"},
    });
    let manifest = serde_json::from_str(&pipeline::manifest(super::PIPELINE, &spec)).unwrap_or_default();
    env.api.create(&collection(), &manifest).await.map(drop)
}

fn more(number: usize) -> String {
    format!("{NODE}-{number}")
}

/// Returns a field of a condition.
pub(super) fn condition(pipeline: &Value, name: &str, field: &str) -> String {
    let conditions = pipeline["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|one| one["type"] == name);
    found.and_then(|one| one[field].as_str()).unwrap_or_default().to_owned()
}

/// Returns why a pipeline is not Ready, or not settled.
fn not_ready(pipeline: &Value) -> Option<String> {
    if pipeline["metadata"]["generation"] != pipeline["status"]["observedGeneration"] {
        return Some("the current generation is not observed".to_owned());
    }
    if condition(pipeline, "Ready", "status") != "True" {
        return Some(format!("not Ready: {}", condition(pipeline, "Ready", "message")));
    }
    let reason = condition(pipeline, "CertificatesReady", "reason");
    (reason != "AsExpected").then(|| {
        format!("CertificatesReady: {reason}: {}", condition(pipeline, "CertificatesReady", "message"))
    })
}

/// Returns the active pods of metrics-core in the operator's namespace.
async fn pods(env: &Env) -> Result<Vec<Value>> {
    let path = format!(
        "/api/v1/namespaces/{}/pods?labelSelector=app.kubernetes.io%2Fname%3Dmetrics-core",
        env.namespace
    );
    let mut pods = env.api.list(&path).await?;
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(pods)
}

/// Whether the Deployment's rollout is complete.
async fn replicas_ready(env: &Env) -> Result<bool> {
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/metrics-core", env.namespace);
    let found = env.api.get(&path).await?.unwrap_or_default();
    let status = &found["status"];
    let all =
        ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|field| status[*field] == REPLICAS);
    Ok(all && status["observedGeneration"] == found["metadata"]["generation"])
}

async fn secret(env: &Env, namespace: &str, name: &str) -> Result<Value> {
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    Ok(env.api.get(&path).await?.map(|secret| secret["data"].clone()).unwrap_or_default())
}
