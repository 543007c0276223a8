//! Requests metrics through the aggregation layer, as kubectl and the HPA do.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::common::error_chain;

/// The maximum size of the response; 5,000 nodes take 2 MiB.
pub(super) const MAX_RESPONSE: usize = 32 * 1024 * 1024;

/// The timeout, equal to that of kube-apiserver's own check. A response for 5,000 nodes takes a tenth of a second.
const TIMEOUT: Duration = Duration::from_secs(5);

const PATH: &str = "/apis/metrics.k8s.io/v1beta1/nodes";

/// Names suffice; a server that does not know this form returns whole metrics.
const ACCEPT: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// The result of a request for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Served {
    /// No request was sent.
    #[default]
    NotRequested,
    /// The response has metrics.
    Succeeded {
        /// The count of nodes.
        nodes: usize,
    },
    /// The response is an error.
    ErrorResponse {
        /// The HTTP status.
        code: u16,
        /// The message of the response, truncated.
        message: String,
    },
    /// There was no response.
    Failed {
        /// The error.
        message: String,
    },
}

#[derive(Deserialize)]
struct List {
    items: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Status {
    message: String,
}

/// Requests the metrics of all nodes.
pub(super) async fn request_metrics(client: &Client) -> Served {
    match tokio::time::timeout(TIMEOUT, request(client)).await {
        Ok(Ok((code, body))) => judge(code, &body),
        Ok(Err(message)) => Served::Failed { message },
        Err(_) => Served::Failed { message: format!("no response within {} s", TIMEOUT.as_secs()) },
    }
}

async fn request(client: &Client) -> Result<(u16, Vec<u8>), String> {
    let request = http::Request::get(PATH)
        .header(http::header::ACCEPT, ACCEPT)
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let response = client.send(request).await.map_err(|error| error_chain(&error))?;
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_RESPONSE)
        .collect()
        .await
        .map_err(|error| format!("the response could not be read: {error}"))?;
    Ok((code, body.to_bytes().into()))
}

fn judge(code: u16, body: &[u8]) -> Served {
    if code != 200 {
        let message = serde_json::from_slice::<Status>(body)
            .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |status| status.message);
        let message = message.trim().chars().take(300).collect();
        return Served::ErrorResponse { code, message };
    }
    match serde_json::from_slice::<List>(body) {
        Ok(list) => Served::Succeeded { nodes: list.items.len() },
        Err(error) => Served::Failed { message: format!("the response is not a list of nodes: {error}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_metrics_errors_and_other_responses() {
        let items =
            br#"{"kind":"NodeMetricsList","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#;
        assert_eq!(judge(200, items), Served::Succeeded { nodes: 2 });
        assert!(matches!(judge(200, b"<html>"), Served::Failed { .. }));
        assert_eq!(
            judge(403, br#"{"kind":"Status","message":"no right"}"#),
            Served::ErrorResponse { code: 403, message: "no right".to_owned() }
        );
        assert_eq!(
            judge(503, b"service unavailable\n"),
            Served::ErrorResponse { code: 503, message: "service unavailable".to_owned() }
        );
    }
}
