//! Requests as kubelets create them, for tests.

use base64::Engine as _;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use super::SIGNER;

/// Returns the request of a Node's kubelet for DNS names and addresses. Its UID is `uid-NAME`.
pub(crate) fn request(name: &str, node: &str, names: &[&str]) -> CertificateSigningRequest {
    let user = format!("system:node:{node}");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("params");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, &user);
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    serde_json::from_value(json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7" },
        "spec": {
            "signerName": SIGNER, "username": user, "groups": ["system:nodes", "system:authenticated"],
            "usages": ["digital signature", "server auth"],
            "request": base64::engine::general_purpose::STANDARD.encode(pem),
        },
    }))
    .expect("a request")
}

/// Returns a request that can never be approved.
pub(crate) fn malformed(name: &str) -> CertificateSigningRequest {
    let mut csr = request(name, "node-1", &["node-1"]);
    csr.spec.request.0 = b"nonsense".to_vec();
    csr
}
