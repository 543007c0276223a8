//! The discovery documents, plain and aggregated.

use serde_json::{Value, json};

use super::encode::protobuf::{integer, message, string};
use super::negotiate::DiscoveryVersion;
use super::resource::{ApiVersion, GROUP, Resource};
use crate::digest::sha512_hex_upper;

/// Returns the verbs of both resources.
pub(super) fn verbs(watch: bool) -> &'static [&'static str] {
    if watch { &["get", "list", "watch"] } else { &["get", "list"] }
}

/// A document as compact JSON, and as the body of a protobuf envelope.
#[derive(Debug)]
pub(super) struct DiscoveryDocument {
    /// `apiVersion`, for the envelope.
    pub(super) api_version: &'static str,
    /// `kind`, for the envelope.
    pub(super) kind: &'static str,
    /// Compact JSON.
    pub(super) json: Vec<u8>,
    /// The protobuf message.
    pub(super) protobuf: Vec<u8>,
}

impl DiscoveryDocument {
    fn new(
        api_version: &'static str,
        kind: &'static str,
        mut json: Value,
        protobuf: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        json["kind"] = kind.into();
        json["apiVersion"] = api_version.into();
        let mut message = Vec::new();
        protobuf(&mut message);
        Self { api_version, kind, json: json.to_string().into_bytes(), protobuf: message }
    }

    /// Returns the document's ETag.
    pub(super) fn tag(&self) -> String {
        sha512_hex_upper(&self.json)
    }
}

/// `/apis`: `APIGroupList` (groups 1).
pub(super) fn groups() -> DiscoveryDocument {
    DiscoveryDocument::new("v1", "APIGroupList", json!({ "groups": [group_json()] }), |out| {
        message(out, 1, group_protobuf);
    })
}

/// `/apis/metrics.k8s.io`: `APIGroup`.
pub(super) fn group() -> DiscoveryDocument {
    DiscoveryDocument::new("v1", "APIGroup", group_json(), group_protobuf)
}

fn group_json() -> Value {
    let version =
        |version: ApiVersion| json!({ "groupVersion": version.group_version(), "version": version.name() });
    json!({
        "name": GROUP,
        "versions": ApiVersion::ALL.map(version),
        "preferredVersion": version(ApiVersion::ALL[0]),
    })
}

/// `APIGroup`: name 1, versions 2, preferredVersion 3; `GroupVersionForDiscovery`: groupVersion 1, version 2.
fn group_protobuf(out: &mut Vec<u8>) {
    let version = |out: &mut Vec<u8>, version: ApiVersion| {
        string(out, 1, version.group_version());
        string(out, 2, version.name());
    };
    string(out, 1, GROUP);
    for each in ApiVersion::ALL {
        message(out, 2, |out| version(out, each));
    }
    message(out, 3, |out| version(out, ApiVersion::ALL[0]));
}

/// `/apis/metrics.k8s.io/VERSION`: `APIResourceList` (groupVersion 1, resources 2).
pub(super) fn resources(version: ApiVersion, verbs: &[&str]) -> DiscoveryDocument {
    let resource = |resource: Resource| {
        json!({
            "name": resource.name(),
            "singularName": "",
            "namespaced": resource.namespaced(),
            "kind": resource.kind(),
            "verbs": verbs,
        })
    };
    let json = json!({ "groupVersion": version.group_version(), "resources": Resource::ALL.map(resource) });
    DiscoveryDocument::new("v1", "APIResourceList", json, |out| {
        string(out, 1, version.group_version());
        for resource in Resource::ALL {
            // `APIResource`: name 1, namespaced 2, kind 3, verbs 4 (items 1).
            message(out, 2, |out| {
                string(out, 1, resource.name());
                integer(out, 2, resource.namespaced().into());
                string(out, 3, resource.kind());
                message(out, 4, |out| verbs.iter().for_each(|verb| string(out, 1, verb)));
            });
        }
    })
}

/// `/apis`, aggregated: `APIGroupDiscoveryList` (KEP-3352).
pub(super) fn aggregated(version: DiscoveryVersion, verbs: &[&str]) -> DiscoveryDocument {
    let api_version = match version {
        DiscoveryVersion::V2 => "apidiscovery.k8s.io/v2",
        DiscoveryVersion::V2beta1 => "apidiscovery.k8s.io/v2beta1",
    };
    let resource = |version: ApiVersion, resource: Resource| {
        json!({
            "resource": resource.name(),
            "responseKind": { "group": GROUP, "version": version.name(), "kind": resource.kind() },
            "scope": scope(resource),
            "singularResource": "",
            "verbs": verbs,
        })
    };
    let version = |version: ApiVersion| {
        json!({
            "version": version.name(),
            "resources": Resource::ALL.map(|each| resource(version, each)),
            "freshness": "Current",
        })
    };
    let group = json!({ "metadata": { "name": GROUP }, "versions": ApiVersion::ALL.map(version) });
    let json = json!({ "metadata": {}, "items": [group] });
    // `APIGroupDiscoveryList`: items 2; `APIGroupDiscovery`: metadata 1 (name 1), versions 2.
    DiscoveryDocument::new(api_version, "APIGroupDiscoveryList", json, |out| {
        message(out, 2, |out| {
            message(out, 1, |out| string(out, 1, GROUP));
            for version in ApiVersion::ALL {
                message(out, 2, |out| version_protobuf(out, version, verbs));
            }
        });
    })
}

fn scope(resource: Resource) -> &'static str {
    if resource.namespaced() { "Namespaced" } else { "Cluster" }
}

/// `APIVersionDiscovery`: version 1, resources 2, freshness 3.
fn version_protobuf(out: &mut Vec<u8>, version: ApiVersion, verbs: &[&str]) {
    string(out, 1, version.name());
    for resource in Resource::ALL {
        // `APIResourceDiscovery`: resource 1, responseKind 2 (group 1, version 2, kind 3), scope 3, verbs 5.
        message(out, 2, |out| {
            string(out, 1, resource.name());
            message(out, 2, |out| {
                string(out, 1, GROUP);
                string(out, 2, version.name());
                string(out, 3, resource.kind());
            });
            string(out, 3, scope(resource));
            for verb in verbs {
                string(out, 5, verb);
            }
        });
    }
    string(out, 3, "Current");
}

/// `/`, and the body for unknown paths: all supported paths.
pub(super) fn paths() -> Vec<u8> {
    let mut paths = vec!["/apis".to_owned(), format!("/apis/{GROUP}")];
    paths.extend(ApiVersion::ALL.map(|version| format!("/apis/{}", version.group_version())));
    paths.extend(
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned),
    );
    json!({ "paths": paths }).to_string().into_bytes()
}

/// `/version`: the version of metrics-core. Clients do not derive the Kubernetes version from an extension API server.
pub(super) fn version() -> Vec<u8> {
    let part = |text: &str| if text.is_empty() { "0".to_owned() } else { text.to_owned() };
    json!({
        "major": part(env!("CARGO_PKG_VERSION_MAJOR")),
        "minor": part(env!("CARGO_PKG_VERSION_MINOR")),
        "gitVersion": concat!("v", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_architecture()),
    })
    .to_string()
    .into_bytes()
}

/// Returns Kubernetes' name of the CPU architecture.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
