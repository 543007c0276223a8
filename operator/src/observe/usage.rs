//! Reads the usage of the replicas and the count of containers with metrics, both from the Metrics API and so from
//! metrics-core itself.

use http_body_util::{BodyExt, Limited};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::common::quantity::nanos;
use crate::common::{METRICS_CORE, error_chain};
use crate::nanny::Usage;

/// The maximum size of a page of 500 pods.
const MAX_PAGE: usize = 8 * 1024 * 1024;

/// The maximum count of pages: more than a cluster at Kubernetes' limit of 150,000 pods has.
const MAX_PAGES: usize = 400;

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

#[derive(Deserialize)]
struct Pods<T> {
    #[serde(default)]
    metadata: Page,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct Page {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct PodMetrics {
    timestamp: jiff::Timestamp,
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: Amounts,
}

#[derive(Deserialize)]
struct Amounts {
    cpu: Quantity,
    memory: Quantity,
}

#[derive(Deserialize)]
struct Counted {
    containers: Vec<IgnoredAny>,
}

/// Returns the highest usage of a replica; `None` when the replicas have no metrics.
pub(super) async fn of_replicas(client: &Client, namespace: &str) -> Option<Usage> {
    let path = format!(
        "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io%2Fname%3D{METRICS_CORE}"
    );
    let pods: Pods<PodMetrics> = get(client, &path).await?;
    most(&pods.items)
}

fn most(pods: &[PodMetrics]) -> Option<Usage> {
    let amount = |quantity: &Quantity, unit: i128| {
        nanos(&quantity.0).and_then(|amount| u64::try_from(amount / unit).ok()).unwrap_or(0)
    };
    pods.iter()
        .flat_map(|pod| pod.containers.iter().map(move |container| (pod.timestamp, container)))
        .filter(|(_, container)| container.name == METRICS_CORE)
        .map(|(sampled, container)| Usage {
            cpu: amount(&container.usage.cpu, 1),
            memory: amount(&container.usage.memory, 1_000_000_000),
            sampled,
        })
        .reduce(|a, b| Usage {
            cpu: a.cpu.max(b.cpu),
            memory: a.memory.max(b.memory),
            sampled: a.sampled.max(b.sampled),
        })
}

/// Counts the containers with metrics, page by page.
pub(super) async fn containers(client: &Client) -> Option<usize> {
    let mut count = 0;
    let mut next = String::new();
    for _ in 0..MAX_PAGES {
        let path = format!("/apis/metrics.k8s.io/v1beta1/pods?limit=500&continue={next}");
        let page: Pods<Counted> = get(client, &path).await?;
        count += page.items.iter().map(|pod| pod.containers.len()).sum::<usize>();
        next = page.metadata.next;
        if next.is_empty() {
            return Some(count);
        }
        // It becomes part of a query, so only characters that need no escape are accepted.
        if !next.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)) {
            return None;
        }
    }
    None
}

/// Returns `None` after any error; the conditions explain why metrics are not served.
async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Option<T> {
    let request = async {
        let request = http::Request::get(path)
            .header(http::header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        let response = client.send(request).await.map_err(|error| error_chain(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("HTTP status {status}"));
        }
        let body = Limited::new(response.into_body(), MAX_PAGE)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
    };
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::debug!(path, error, "could not read the usage of metrics-core from the Metrics API");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_highest_usage_of_its_own_container() {
        let pods: Pods<PodMetrics> = serde_json::from_value(serde_json::json!({ "metadata": {}, "items": [
            { "timestamp": "2026-01-01T00:00:00Z", "window": "15s", "containers": [
                { "name": "proxy", "usage": { "cpu": "9", "memory": "9Gi" } },
                { "name": "metrics-core", "usage": { "cpu": "7500000n", "memory": "20Mi" } } ] },
            { "timestamp": "2026-01-01T00:00:05Z", "window": "15s", "containers": [
                { "name": "metrics-core", "usage": { "cpu": "2m", "memory": "30720Ki" } } ] } ] }))
        .expect("a list");
        let sampled = "2026-01-01T00:00:05Z".parse().expect("a time");
        assert_eq!(most(&pods.items), Some(Usage { cpu: 7_500_000, memory: 30 << 20, sampled }));
        assert_eq!(most(&[]), None);
    }
}
