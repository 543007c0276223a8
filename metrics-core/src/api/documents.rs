//! The documents that never change, built once at startup.

use super::discovery;
use super::negotiate::DiscoveryVersion;
use super::openapi;
use super::resource::ApiVersion;

/// Discovery and OpenAPI.
#[derive(Debug)]
pub(super) struct Documents {
    /// `/`, and the body of 404 for unknown paths.
    pub(super) paths: Vec<u8>,
    /// `/version`.
    pub(super) version: Vec<u8>,
    /// `/apis`.
    pub(super) groups: discovery::DiscoveryDocument,
    /// `/apis/metrics.k8s.io`.
    pub(super) group: discovery::DiscoveryDocument,
    resources: [discovery::DiscoveryDocument; 2],
    aggregated: [(discovery::DiscoveryDocument, String); 2],
    /// `/openapi/v2`.
    pub(super) openapi_v2: openapi::OpenApiDocument,
    /// `/openapi/v3`.
    pub(super) openapi_v3_index: openapi::OpenApiDocument,
    openapi_v3: [openapi::OpenApiDocument; 2],
}

impl Documents {
    /// Builds all documents, with or without watch.
    pub(super) fn new(watch: bool) -> Self {
        let openapi_v3 = ApiVersion::ALL.map(|version| openapi::v3(version, watch));
        let verbs = discovery::verbs(watch);
        let aggregated = |version| {
            let document = discovery::aggregated(version, verbs);
            let tag = document.tag();
            (document, tag)
        };
        Self {
            paths: discovery::paths(),
            version: discovery::version(),
            groups: discovery::groups(),
            group: discovery::group(),
            resources: ApiVersion::ALL.map(|version| discovery::resources(version, verbs)),
            aggregated: [aggregated(DiscoveryVersion::V2), aggregated(DiscoveryVersion::V2beta1)],
            openapi_v2: openapi::v2(watch),
            openapi_v3_index: openapi::v3_index([
                (ApiVersion::V1, &openapi_v3[0]),
                (ApiVersion::V1beta1, &openapi_v3[1]),
            ]),
            openapi_v3,
        }
    }

    /// Returns `/apis/metrics.k8s.io/VERSION`.
    pub(super) fn resources(&self, version: ApiVersion) -> &discovery::DiscoveryDocument {
        match version {
            ApiVersion::V1 => &self.resources[0],
            ApiVersion::V1beta1 => &self.resources[1],
        }
    }

    /// Returns aggregated discovery (`/apis`), with its ETag.
    pub(super) fn aggregated(&self, version: DiscoveryVersion) -> (&discovery::DiscoveryDocument, &str) {
        let (document, tag) = match version {
            DiscoveryVersion::V2 => &self.aggregated[0],
            DiscoveryVersion::V2beta1 => &self.aggregated[1],
        };
        (document, tag)
    }

    /// Returns `/openapi/v3/apis/metrics.k8s.io/VERSION`.
    pub(super) fn openapi_v3(&self, version: ApiVersion) -> &openapi::OpenApiDocument {
        match version {
            ApiVersion::V1 => &self.openapi_v3[0],
            ApiVersion::V1beta1 => &self.openapi_v3[1],
        }
    }
}
