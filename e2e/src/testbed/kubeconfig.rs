//! Kubeconfig files that contain their certificates, written as JSON, which is also YAML.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;

use crate::testbed::pki::Identity;

/// Returns a kubeconfig for one user of one cluster.
#[must_use]
pub fn render(server: &str, authority: &str, user: &Identity) -> String {
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "e2e",
            "cluster": {"server": server, "certificate-authority-data": base64(authority)},
        }],
        "users": [{
            "name": "e2e",
            "user": {
                "client-certificate-data": base64(&user.certificate),
                "client-key-data": base64(&user.key),
            },
        }],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    });
    format!("{config:#}\n")
}
