//! Certificates.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::certificate_validity;
use super::{CertManagerSpec, FrontProxySpec};

/// The certificates of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "duration(self.servingValidity) <= duration(self.caValidity)",
    "message": "servingValidity: must not exceed caValidity",
    "fieldPath": ".servingValidity",
}, {
    "rule": "(self.source == 'Secret') == has(self.secretRef)",
    "message": "secretRef: names the Secret of source Secret, and of no other source",
    "fieldPath": ".secretRef",
}, {
    "rule": "(self.source == 'CertManager') == has(self.certManager)",
    "message": "certManager: names the issuer of source CertManager, and of no other source",
    "fieldPath": ".certManager",
}]))]
pub struct CertificatesSpec {
    /// Who issues the serving certificate.
    pub source: CertificateSource,
    /// The Secret of `source: Secret`, in the operator's namespace: `tls.crt` (with intermediate certificates behind
    /// it), `tls.key`, and in `ca.crt` the CAs for the APIServices. Needs the chart's value `servingSecret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// The issuer of `source: CertManager`. Needs the chart's value `certManager.enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManagerSpec>,
    /// The algorithm of new keys.
    pub key_algorithm: KeyAlgorithm,
    /// How long a serving certificate is valid, as a Go duration. It is renewed when a third of it is left.
    #[schemars(schema_with = "certificate_validity")]
    pub serving_validity: Duration,
    /// How long the CA is valid, as a Go duration. It is renewed when a third of it is left; old and new are
    /// trusted together meanwhile.
    #[schemars(schema_with = "certificate_validity")]
    pub ca_validity: Duration,
    /// The certificate by which kube-apiserver proves itself to metrics-core and other aggregated API servers.
    pub front_proxy: FrontProxySpec,
}

impl Default for CertificatesSpec {
    fn default() -> Self {
        let days = |days: u64| Duration::from(std::time::Duration::from_secs(days * 24 * 60 * 60));
        Self {
            source: CertificateSource::default(),
            secret_ref: None,
            cert_manager: None,
            key_algorithm: KeyAlgorithm::default(),
            serving_validity: days(30),
            ca_validity: days(365),
            front_proxy: FrontProxySpec::default(),
        }
    }
}

/// Who issues the serving certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateSource {
    /// A CA of the operator's own, kept in the Secret `metrics-core-ca`.
    #[default]
    SelfSigned,
    /// Somebody else, who keeps it in the Secret `secretRef`. It is taken over from there with the same overlap as
    /// one of our own.
    Secret,
    /// cert-manager, by a Certificate that the operator owns. It is taken over with the same overlap, too.
    CertManager,
}

/// A Secret in the operator's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The algorithm of a private key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// ECDSA with P-256 (FIPS 186-5).
    #[default]
    ECDSAP256,
    /// RSA with 2048 bits.
    RSA2048,
    /// RSA with 4096 bits.
    RSA4096,
}
