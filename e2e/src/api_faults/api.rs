//! The test's own client: an administrator, with JSON and one connection, past the proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::error::{Doing as _, Error, Result};
use crate::testbed::cluster::control_plane::{ADDRESS, Authorities, PORT};
use crate::testbed::http::Connection;
use crate::testbed::pki::Subject;
use crate::testbed::tls;

const TIMEOUT: Duration = Duration::from_secs(20);
/// How often a read is sent at most.
const READS: usize = 3;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A client of kube-apiserver.
pub(super) struct Api {
    config: Arc<ClientConfig>,
    connection: Mutex<Option<Connection>>,
}

impl Api {
    pub(super) fn new(authorities: &Authorities) -> Result<Self> {
        let admin = authorities.cluster.issue(&Subject::user("api-faults", Some("system:masters")))?;
        let mut config = tls::client(Some(authorities.cluster.certificate()), Some(&admin))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config), connection: Mutex::new(None) })
    }

    /// Sends a request; returns the status and the body, null unless it is JSON. A read without a response is repeated: on a
    /// busy machine it fails for reasons that are no result of a run.
    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<(u16, Value)> {
        for _ in 1..READS {
            match self.call_once(method, path, kind, body).await {
                Err(_) if method == "GET" => {}
                result => return result,
            }
        }
        self.call_once(method, path, kind, body).await
    }

    async fn call_once(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<(u16, Value)> {
        let what = || format!("{method} {path}");
        let exchange = async {
            let mut held = self.connection.lock().await;
            // Taken, so that a canceled or failed request leaves no broken connection behind.
            let mut connection = match held.take() {
                Some(connection) => connection,
                None => Connection::tls(SocketAddr::new(ADDRESS.into(), PORT), self.config.clone()).await?,
            };
            let text = if body.is_null() { String::new() } else { body.to_string() };
            let response =
                connection.call(method, path, &[("Content-Type", kind), ("Accept", JSON)], text).await?;
            let result = (response.status, serde_json::from_slice(&response.body).unwrap_or_default());
            connection.reuse(response);
            *held = Some(connection);
            Ok(result)
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { what: what(), after: TIMEOUT, last: "no response".to_owned() }),
        }
    }

    async fn expect(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value> {
        match self.call(method, path, kind, body).await? {
            (200..=299, value) => Ok(value),
            (status, value) => {
                Err(Error::Invalid(format!("{method} {path} returned {status}: {}", value["message"])))
            }
        }
    }

    /// Returns an object; `None` if it does not exist.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Value>> {
        match self.call("GET", path, JSON, &Value::Null).await? {
            (200, value) => Ok(Some(value)),
            (404, _) => Ok(None),
            (status, value) => {
                Err(Error::Invalid(format!("GET {path} returned {status}: {}", value["message"])))
            }
        }
    }

    /// Returns the objects of a list.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut list = self.expect("GET", path, JSON, &Value::Null).await?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Creates an object in a collection.
    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.expect("POST", path, JSON, object).await
    }

    /// Applies an object server-side.
    pub(super) async fn apply(&self, object: &Value) -> Result<Value> {
        let path = format!("{}?fieldManager=api-faults&force=true", path_of(object)?);
        self.expect("PATCH", &path, APPLY, object).await
    }

    /// Merges a patch into an object.
    pub(super) async fn merge(&self, path: &str, change: &Value) -> Result<Value> {
        self.expect("PATCH", path, MERGE, change).await
    }

    /// Deletes an object; succeeds if it does not exist.
    pub(super) async fn delete(&self, path: &str, options: &Value) -> Result<()> {
        match self.call("DELETE", path, JSON, options).await? {
            (200..=299 | 404, _) => Ok(()),
            (status, value) => {
                Err(Error::Invalid(format!("DELETE {path} returned {status}: {}", value["message"])))
            }
        }
    }

    /// Returns a token of a ServiceAccount, for kube-apiserver or for another audience.
    pub(super) async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
    ) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let audiences: Vec<_> = audience.into_iter().collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": 86_400},
        });
        let response = self.create(&path, &request).await?;
        let token = response["status"]["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| Error::Invalid(format!("{path} returned no token")))
    }
}

/// Returns the path of an object. The plural of each kind in use is the kind with an `s`.
pub(super) fn path_of(object: &Value) -> Result<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = &object["metadata"];
    let parts = (text(&object["apiVersion"]), text(&object["kind"]), text(&metadata["name"]));
    let (Some(version), Some(kind), Some(name)) = parts else {
        return Err(Error::Invalid(format!("an object without kind or name: {object}")));
    };
    let root = if version.contains('/') { "apis" } else { "api" };
    let namespace =
        text(&metadata["namespace"]).map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    Ok(format!("/{root}/{version}{namespace}/{}s/{name}", kind.to_lowercase()))
}

/// Parses the documents of a YAML text.
pub(super) fn documents(yaml: &str) -> Result<Vec<Value>> {
    let parse = |document: &str| {
        serde_saphyr::from_str(document).map_err(|error| Error::Invalid(format!("YAML: {error}")))
    };
    let is_content = |line: &str| !line.is_empty() && !line.starts_with('#') && line != "---";
    let documents = yaml.split("\n---").filter(|document| document.lines().any(is_content));
    documents.map(parse).collect()
}

/// Returns a JSON object as text for a file.
pub(super) fn write_json(path: &std::path::Path, value: &Value) -> Result<()> {
    std::fs::write(path, value.to_string()).doing(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_paths_of_objects() {
        let path = |version: &str, kind: &str, metadata: Value| {
            path_of(&json!({"apiVersion": version, "kind": kind, "metadata": metadata})).unwrap_or_default()
        };
        let metadata = json!({"name": "a", "namespace": "n"});
        assert_eq!(path("v1", "ConfigMap", metadata), "/api/v1/namespaces/n/configmaps/a");
        let role = path("rbac.authorization.k8s.io/v1", "ClusterRole", json!({"name": "a"}));
        assert_eq!(role, "/apis/rbac.authorization.k8s.io/v1/clusterroles/a");
        assert_eq!(path("v1", "Node", json!({})), "");
    }

    #[test]
    fn parses_documents_and_skips_empty_ones() {
        let parsed = documents("---\n# a comment\na: 1\n---\n# nothing\n---\nb: 2\n").unwrap_or_default();
        assert_eq!(parsed, [json!({"a": 1}), json!({"b": 2})]);
    }
}
