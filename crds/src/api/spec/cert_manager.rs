//! A serving certificate that cert-manager issues.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The parameters of the Certificate that the operator creates for cert-manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManagerSpec {
    /// The issuer of the certificate, as in cert-manager's `Certificate.spec.issuerRef`.
    pub issuer_ref: IssuerReference,
}

/// A reference to an issuer (cert-manager.io/v1, `Certificate.spec.issuerRef`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.group != 'cert-manager.io' || self.kind in ['Issuer', 'ClusterIssuer']",
    "message": "kind: must be Issuer or ClusterIssuer in the group cert-manager.io",
    "fieldPath": ".kind",
}]))]
pub struct IssuerReference {
    /// The name of the issuer.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The kind of the issuer. In the group `cert-manager.io` it is `Issuer` (in the operator's namespace) or
    /// `ClusterIssuer`; in another group, a kind of that group's controller. Default: `Issuer`.
    #[serde(default = "kind")]
    #[schemars(length(max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// The API group of the issuer. Default: `cert-manager.io`. Set it for an external issuer, such as
    /// `awspca.cert-manager.io`.
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
