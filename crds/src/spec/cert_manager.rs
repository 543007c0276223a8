//! A serving certificate of cert-manager's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What cert-manager is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManagerSpec {
    /// Who issues the certificate.
    pub issuer_ref: IssuerReference,
}

/// An issuer of cert-manager's (cert-manager.io/v1, `Certificate.spec.issuerRef`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.group != 'cert-manager.io' || self.kind in ['Issuer', 'ClusterIssuer']",
    "message": "kind: is Issuer or ClusterIssuer in the group cert-manager.io",
    "fieldPath": ".kind",
}]))]
pub struct IssuerReference {
    /// The issuer's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// `Issuer` (in the operator's namespace) or `ClusterIssuer`; in another group, the kind that its controller serves.
    #[serde(default = "kind")]
    #[schemars(length(max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// The API group of the issuer.
    #[serde(default = "group")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub group: String,
}

fn kind() -> String {
    "Issuer".to_owned()
}

fn group() -> String {
    "cert-manager.io".to_owned()
}
