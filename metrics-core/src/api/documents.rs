//! All answers that never change, made once.

use super::discovery;
use super::negotiate::DiscoveryVersion;
use super::openapi;
use super::resource::Version;

/// Discovery and OpenAPI.
#[derive(Debug)]
pub(super) struct Documents {
    /// `/`, and the body of 404 for unknown paths.
    pub(super) paths: Vec<u8>,
    /// `/version`.
    pub(super) version: Vec<u8>,
    /// `/apis`.
    pub(super) groups: discovery::Document,
    /// `/apis/metrics.k8s.io`.
    pub(super) group: discovery::Document,
    resources: [discovery::Document; 2],
    aggregated: [(discovery::Document, String); 2],
    /// `/openapi/v2`.
    pub(super) openapi_v2: openapi::Document,
    /// `/openapi/v3`.
    pub(super) openapi_v3_index: openapi::Document,
    openapi_v3: [openapi::Document; 2],
}

impl Documents {
    /// Makes them.
    pub(super) fn new() -> Self {
        let openapi_v3 = [openapi::v3(Version::V1), openapi::v3(Version::V1beta1)];
        let aggregated = |version| {
            let document = discovery::aggregated(version);
            let tag = document.tag();
            (document, tag)
        };
        Self {
            paths: discovery::paths(),
            version: discovery::version(),
            groups: discovery::groups(),
            group: discovery::group(),
            resources: [discovery::resources(Version::V1), discovery::resources(Version::V1beta1)],
            aggregated: [aggregated(DiscoveryVersion::V2), aggregated(DiscoveryVersion::V2beta1)],
            openapi_v2: openapi::v2(),
            openapi_v3_index: openapi::v3_index([
                (Version::V1, &openapi_v3[0]),
                (Version::V1beta1, &openapi_v3[1]),
            ]),
            openapi_v3,
        }
    }

    /// `/apis/metrics.k8s.io/VERSION`.
    pub(super) fn resources(&self, version: Version) -> &discovery::Document {
        match version {
            Version::V1 => &self.resources[0],
            Version::V1beta1 => &self.resources[1],
        }
    }

    /// `/apis`, aggregated, with its entity tag.
    pub(super) fn aggregated(&self, version: DiscoveryVersion) -> (&discovery::Document, &str) {
        let (document, tag) = match version {
            DiscoveryVersion::V2 => &self.aggregated[0],
            DiscoveryVersion::V2beta1 => &self.aggregated[1],
        };
        (document, tag)
    }

    /// `/openapi/v3/apis/metrics.k8s.io/VERSION`.
    pub(super) fn openapi_v3(&self, version: Version) -> &openapi::Document {
        match version {
            Version::V1 => &self.openapi_v3[0],
            Version::V1beta1 => &self.openapi_v3[1],
        }
    }
}
