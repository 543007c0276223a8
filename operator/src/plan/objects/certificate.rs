//! The Certificate that cert-manager issues for metrics-core (cert-manager.io/v1).

use std::time::Duration;

use crds::{CertManagerSpec, KeyAlgorithm};
use serde_json::json;

use super::{Context, Desired};
use crate::common::ManagedObject;
use crate::pki::cert_manager::SECRET;
use crate::pki::service_names;

/// The DNS names that kube-apiserver and in-cluster clients use. Shorter ones are left out: many CAs sign none.
const NAMES: usize = 2;

/// Builds the Certificate. Fields with a default in cert-manager are set, so that versions do not differ.
pub(crate) fn build(
    context: Context<'_>,
    cert_manager: &CertManagerSpec,
) -> Result<Desired, serde_json::Error> {
    let certificates = &context.spec.certificates;
    let (algorithm, size) = match certificates.key_algorithm {
        KeyAlgorithm::ECDSAP256 => ("ECDSA", 256),
        KeyAlgorithm::RSA2048 => ("RSA", 2048),
        KeyAlgorithm::RSA4096 => ("RSA", 4096),
    };
    // Not compressed in tests: cert-manager rejects a duration below one hour.
    let validity = Duration::from(certificates.serving_validity);
    let names = service_names(ManagedObject::Service.name(), &context.settings.namespace);
    let issuer = &cert_manager.issuer_ref;
    let resource = ManagedObject::Certificate.resource();
    let body = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": context.metadata(ManagedObject::Certificate),
        "spec": {
            "secretName": SECRET,
            "issuerRef": { "name": issuer.name, "kind": issuer.kind, "group": issuer.group },
            "dnsNames": names[..NAMES],
            "usages": ["digital signature", "server auth"],
            "duration": go_duration(validity),
            // The same rule as for certificates that the operator issues.
            "renewBefore": go_duration(validity / 3),
            "privateKey": { "algorithm": algorithm, "size": size, "encoding": "PKCS8", "rotationPolicy": "Always" },
            "revisionHistoryLimit": 1,
        },
    });
    Desired::new(ManagedObject::Certificate, &body)
}

/// Formats a duration as Go does (`time.Duration.String`), in whole seconds.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;
    use crds::IssuerReference;

    #[test]
    fn requests_a_server_certificate_from_the_issuer() {
        let issuer_ref = IssuerReference {
            name: "company".to_owned(),
            kind: "ClusterIssuer".to_owned(),
            group: "cert-manager.io".to_owned(),
        };
        let cert_manager = CertManagerSpec { issuer_ref };
        let body = with_context(
            |spec| spec.certificates.key_algorithm = KeyAlgorithm::RSA2048,
            |context| build(context, &cert_manager).expect("built").body,
        );
        assert_eq!(
            (&body["kind"], &body["apiVersion"]),
            (&json!("Certificate"), &json!("cert-manager.io/v1"))
        );
        assert_eq!(body["metadata"]["namespace"], "metrics-system");
        assert!(body["metadata"]["ownerReferences"].is_array());
        let spec = &body["spec"];
        assert_eq!(spec["issuerRef"]["kind"], "ClusterIssuer");
        assert_eq!(
            spec["dnsNames"],
            json!(["metrics-core.metrics-system.svc", "metrics-core.metrics-system.svc.cluster.local"])
        );
        assert_eq!((&spec["duration"], &spec["renewBefore"]), (&json!("720h0m0s"), &json!("240h0m0s")));
        assert_eq!(spec["privateKey"]["algorithm"], "RSA");
        assert_eq!(spec["privateKey"]["rotationPolicy"], "Always");
        assert_eq!(spec["secretName"], "metrics-core-cert-manager");
    }

    #[test]
    fn formats_durations_as_go_does() {
        assert_eq!(go_duration(Duration::from_secs(3600 + 20 * 60)), "1h20m0s");
        assert_eq!(go_duration(Duration::from_secs(29)), "0h0m29s");
    }
}
