//! The serving certificate and its CA.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::certificate_validity;
use super::managed_names::not_managed;
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
    "message": "secretRef: is required with source Secret and must be absent with any other source",
    "fieldPath": ".secretRef",
}, {
    "rule": "(self.source == 'CertManager') == has(self.certManager)",
    "message": "certManager: is required with source CertManager and must be absent with any other source",
    "fieldPath": ".certManager",
}]))]
pub struct CertificatesSpec {
    /// The source of metrics-core's serving certificate. A change of the source replaces the certificate without a
    /// gap: the APIServices trust the old and the new CA until all replicas serve the new certificate.
    ///
    /// - `SelfSigned`: the operator's own CA, in the Secret `metrics-core-ca`, issues it.
    /// - `Secret`: you or another controller provides it in the Secret that `secretRef` names.
    /// - `CertManager`: cert-manager issues it for a Certificate that the operator owns.
    ///
    /// Default: `SelfSigned`.
    pub source: CertificateSource,
    /// The Secret with the certificate for `source: Secret`. It must be in the operator's namespace and contain
    /// `tls.crt` (the certificate, then any intermediate certificates), `tls.key` and `ca.crt` (the CAs for the
    /// APIServices). The chart value `servingSecret` must contain its name, so that the operator may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// The issuer for `source: CertManager`. Requires the chart value `certManager.enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManagerSpec>,
    /// The algorithm of the private keys of the CA and the serving certificate. A change replaces both without a
    /// gap. It has no effect with `source: Secret`.
    ///
    /// - `ECDSAP256`: ECDSA with the curve P-256.
    /// - `RSA2048`: RSA with 2048 bits.
    /// - `RSA4096`: RSA with 4096 bits; each TLS handshake takes much more CPU time.
    ///
    /// Default: `ECDSAP256`. Set RSA if a client or a policy requires it.
    pub key_algorithm: KeyAlgorithm,
    /// The validity of the serving certificate, as a Go duration from `1h` to `87600h`. It must not exceed
    /// `caValidity`. The certificate is renewed when a third of its validity is left. Default: `2592000s` (30
    /// days).
    #[schemars(schema_with = "certificate_validity")]
    pub serving_validity: Duration,
    /// The validity of the operator's CA, as a Go duration from `1h` to `87600h`. The CA is renewed when a third of
    /// its validity is left; the APIServices trust the old and the new CA during the renewal. Default: `31536000s`
    /// (365 days).
    #[schemars(schema_with = "certificate_validity")]
    pub ca_validity: Duration,
    /// The client certificate with which kube-apiserver authenticates itself to metrics-core and other aggregated API
    /// servers.
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

/// The source of the serving certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateSource {
    /// The operator's own CA.
    #[default]
    SelfSigned,
    /// The Secret that `secretRef` names.
    Secret,
    /// cert-manager, for a Certificate that the operator owns.
    CertManager,
}

/// The names of the Secrets that the operator manages. No field may name one as its source.
pub const MANAGED_SECRETS: [&str; 4] =
    ["metrics-core-ca", "metrics-core-serving", "metrics-core-front-proxy-ca", "metrics-core-front-proxy"];

/// A Secret in the operator's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// The name of the Secret. The Secrets that the operator manages are not allowed: `metrics-core-ca`,
    /// `metrics-core-serving`, `metrics-core-front-proxy-ca` and `metrics-core-front-proxy`.
    #[schemars(
        length(min = 1, max = 253),
        extend("x-kubernetes-validations" = not_managed(&MANAGED_SECRETS, "Secret"))
    )]
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
