use super::*;
use serde_json::{Value, json};

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn certificate(conditions: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": { "name": "metrics-core", "namespace": "ns", "uid": "u", "generation": 2 },
        "status": { "conditions": conditions, "renewalTime": "2026-02-01T00:00:00Z" },
    }))
    .expect("a Certificate")
}

fn condition(kind: &str, status: &str, generation: i64) -> Value {
    json!({ "type": kind, "status": status, "reason": "R", "message": "Said so.", "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:10Z" })
}

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

#[test]
fn certificate_ready_at_its_generation_is_issued() {
    let issued = certificate(json!([condition("Ready", "True", 2)]));
    assert_eq!(issuance(&issued, None), Issuance::Issued);
    assert_eq!(renewal_time(&issued), Some(at("2026-02-01T00:00:00Z")));
    // The current certificate is used during a renewal.
    let renewing = certificate(json!([condition("Ready", "True", 2), condition("Issuing", "True", 2)]));
    assert_eq!(issuance(&renewing, None), Issuance::Issued);
    let failed = certificate(json!([condition("Ready", "True", 2), condition("Issuing", "False", 2)]));
    let message = "Issuing is False (R): Said so".to_owned();
    assert_eq!(issuance(&failed, None), Issuance::NotRenewed { message });
}

#[test]
fn pending_certificate_has_a_message_and_a_start() {
    let waiting = |certificate: &DynamicObject, applied: &str| match issuance(certificate, Some(at(applied)))
    {
        Issuance::Pending { since, message } => (since, message),
        other => panic!("{other:?}"),
    };
    let missing = certificate(json!([condition("Ready", "False", 2), condition("Issuing", "True", 2)]));
    let (since, message) = waiting(&missing, "2026-01-01T00:00:00Z");
    assert_eq!(since, Some(at("2026-01-01T00:00:10Z")));
    assert_eq!(message, "Ready is False (R): Said so");
    let failed = certificate(json!([condition("Ready", "False", 2), condition("Issuing", "False", 2)]));
    assert_eq!(waiting(&failed, "2026-01-01T00:00:00Z").1, "Issuing is False (R): Said so");

    let changed = certificate(json!([condition("Ready", "True", 1)]));
    let (since, message) = waiting(&changed, "2026-01-01T00:00:20Z");
    assert_eq!((since, message.contains("its latest change")), (Some(at("2026-01-01T00:00:20Z")), true));
    let fresh = certificate(Value::Null);
    assert!(waiting(&fresh, "2026-01-01T00:00:20Z").1.contains("cert-manager has not processed it"));
}

#[test]
fn quotes_the_latest_request_of_the_certificate() {
    let request = |name: &str, owner: &str, revision: u32, conditions: Value| -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
            "metadata": { "name": name, "namespace": "ns",
                "annotations": { "cert-manager.io/certificate-revision": revision.to_string() },
                "ownerReferences": [{ "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "x", "uid": owner }] },
            "status": { "conditions": conditions },
        }))
        .expect("a request")
    };
    let pending = json!([{ "type": "Approved", "status": "True" },
        { "type": "Ready", "status": "False", "reason": "Pending", "message": "Referenced issuer not found" }]);
    let requests = [
        request("a-10", "u", 10, pending),
        request("a-9", "u", 9, json!([])),
        request("b-11", "other", 11, json!([])),
    ];
    assert_eq!(
        latest_request(&requests, "u").as_deref(),
        Some("CertificateRequest ns/a-10: Ready is False (Pending): Referenced issuer not found")
    );
    assert_eq!(latest_request(&requests, "nobody"), None);
    let message = |conditions: Value| latest_request(&[request("a", "u", 1, conditions)], "u").expect("one");
    assert!(message(json!([])).ends_with("it is not approved"));
    assert!(message(json!([{ "type": "Approved", "status": "True" }])).ends_with("has not signed it yet"));
    let denied = json!([{ "type": "Ready", "status": "False" },
        { "type": "Denied", "status": "True", "reason": "policy", "message": "no" }]);
    assert!(message(denied).ends_with("Denied is True (policy): no"));
}
