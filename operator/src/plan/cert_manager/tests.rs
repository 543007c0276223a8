use super::super::objects::tests::with_context;
use super::super::{MaintainPlan, maintain};
use super::*;
use crate::common::OptionalPermissions;
use crate::common::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};
use crate::observe::{KubeletCa, Unreadable};
use crate::pki::external::ExternalCertificate;
use crate::pki::{Pair, issue_ca, issue_leaf};
use crds::{CertificateSource, IssuerReference, KeyAlgorithm, MetricsPipelineSpec};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().expect("a time")
}

fn request(spec: &mut MetricsPipelineSpec) {
    let issuer_ref = IssuerReference {
        name: "company".to_owned(),
        kind: "Issuer".to_owned(),
        group: "cert-manager.io".to_owned(),
    };
    spec.certificates.source = CertificateSource::CertManager;
    spec.certificates.cert_manager = Some(CertManagerSpec { issuer_ref });
}

fn empty() -> Observed {
    Observed {
        objects: ManagedObject::ALL.map(|object| (object, Found::Absent)).into(),
        kubelet_ca: KubeletCa::Found(include_str!("../testdata/ca.pem").to_owned()),
        serving_source: ServingSource::Missing,
        ..Observed::default()
    }
}

/// Adds a managed Certificate, applied at a time, with conditions `[type, status, message]`.
fn put(observed: &mut Observed, applied: &str, conditions: &[[&str; 3]]) {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|[kind, status, message]| {
            json!({ "type": kind, "status": status, "reason": "R", "message": message,
            "lastTransitionTime": applied, "observedGeneration": 1 })
        })
        .collect();
    let found = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": { "name": "metrics-core", "uid": "u", "generation": 1, "labels": { MANAGED_BY_LABEL: MANAGED_BY },
            "managedFields": [{ "manager": FIELD_MANAGER, "operation": "Apply", "time": applied }] },
        "status": { "conditions": conditions, "renewalTime": "2026-08-01T00:00:00Z" },
    });
    let found = serde_json::from_value(found).expect("a Certificate");
    observed.objects.insert(ManagedObject::Certificate, Found::Present(Box::new(found)));
}

fn bytes(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    (pair.certificate.clone().into_bytes(), pair.key.expose().as_bytes().to_vec())
}

/// Returns what cert-manager stores.
fn issued() -> ExternalCertificate {
    let ca = issue_ca("company", KeyAlgorithm::ECDSAP256, 365 * DAY, now()).expect("a CA");
    let names = ["metrics-core.metrics-system.svc".to_owned()];
    let leaf = issue_leaf(&ca, now() + 365 * DAY, &names, KeyAlgorithm::ECDSAP256, 90 * DAY, now());
    ExternalCertificate {
        pair: Some(bytes(&leaf.expect("a leaf"))),
        ca_bundle: Some(ca.certificate.into_bytes()),
    }
}

fn planned(observed: &Observed) -> MaintainPlan {
    with_context(request, |context| maintain::maintain_plan(context, observed, now()).expect("a plan"))
}

fn lacking(observed: &Observed) -> (Reason, String) {
    let problem = planned(observed).not_issued.expect("a problem");
    (problem.reason, problem.message)
}

fn requests(plan: &MaintainPlan) -> bool {
    plan.desired.iter().any(|desired| desired.object == ManagedObject::Certificate)
}

#[test]
fn applies_the_certificate_and_blocks_what_depends_on_it() {
    let plan = planned(&empty());
    assert!(requests(&plan) && plan.certificates.is_none());
    assert_eq!(plan.blocked[&ManagedObject::ServingSecret].reason, Reason::Progressing);
    let not_asked =
        with_context(|_| {}, |context| maintain::maintain_plan(context, &empty(), now()).expect("a plan"));
    assert!(!requests(&not_asked) && not_asked.not_issued.is_none());
}

#[test]
fn deletes_the_certificate_when_it_is_not_requested() {
    let mut observed = empty();
    put(&mut observed, "2026-05-01T00:00:00Z", &[["Ready", "True", ""]]);
    let plan =
        with_context(|_| {}, |context| maintain::maintain_plan(context, &observed, now()).expect("a plan"));
    let removed: Vec<_> = plan.removals.iter().map(|removal| removal.object).collect();
    assert_eq!(removed, [ManagedObject::Certificate]);
}

#[test]
fn applies_no_certificate_without_api_or_permission() {
    let mut observed = empty();
    observed.objects.insert(ManagedObject::Certificate, Found::Unserved);
    let plan = planned(&observed);
    let problem = &plan.blocked[&ManagedObject::Certificate];
    assert_eq!(problem.reason, Reason::CertManagerNotInstalled);
    assert!(problem.message.contains("helm install cert-manager"), "{}", problem.message);
    assert_eq!(plan.blocked[&ManagedObject::ServingSecret].reason, Reason::CertManagerNotInstalled);

    let plan = with_context(request, |context| {
        let settings = Settings { permissions: OptionalPermissions::default(), ..context.settings.clone() };
        let context = super::super::objects::Context { settings: &settings, ..context };
        maintain::maintain_plan(context, &empty(), now()).expect("a plan")
    });
    let problem = &plan.blocked[&ManagedObject::Certificate];
    assert_eq!(problem.reason, Reason::PermissionMissing);
    assert!(problem.message.contains("--set certManager.enabled=true"), "{}", problem.message);
}

#[test]
fn quotes_cert_manager_after_the_issuing_time() {
    let mut observed = empty();
    observed.certificate_request = Some(
        "CertificateRequest ns/metrics-core-1: Ready is False (Pending): Referenced issuer not found"
            .to_owned(),
    );
    put(&mut observed, "2026-05-31T23:59:55Z", &[["Ready", "False", "Secret does not exist"]]);
    assert_eq!(lacking(&observed).0, Reason::Progressing);
    put(&mut observed, "2026-05-31T23:59:45Z", &[["Ready", "False", "Secret does not exist"]]);
    let (reason, message) = lacking(&observed);
    assert_eq!(reason, Reason::CertificateNotIssued);
    for words in [
        "Secret does not exist; CertificateRequest ns/metrics-core-1",
        "issuer not found",
        "kubectl describe certificates.cert-manager.io metrics-core --namespace metrics-system`",
        "kubectl describe issuer.cert-manager.io company --namespace metrics-system`",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn keeps_the_issued_certificate_until_the_next_one() {
    let mut observed = empty();
    observed.ready_endpoints = Some(1);
    put(&mut observed, "2026-05-01T00:00:00Z", &[["Ready", "True", ""]]);
    let external = issued();
    observed.serving_source = ServingSource::Found(external.clone());
    let plan = planned(&observed);
    assert!(plan.not_issued.is_none());
    let first = plan.certificates.expect("certificates");
    assert!(first.ca.is_none());

    // It is served; then its issuer and the Secret are deleted.
    let secret =
        plan.desired.iter().find(|desired| desired.object == ManagedObject::ServingSecret).expect("a Secret");
    let stored = serde_json::from_value(secret.body.clone()).expect("an object");
    observed.objects.insert(ManagedObject::ServingSecret, Found::Present(Box::new(stored)));
    observed.serving_source = ServingSource::Missing;
    assert_eq!(lacking(&observed).0, Reason::CertificateNotIssued);
    put(&mut observed, "2026-05-31T23:00:00Z", &[["Ready", "False", "gone"]]);
    let plan = planned(&observed);
    assert_eq!(plan.not_issued.as_ref().expect("a problem").reason, Reason::CertificateNotIssued);
    let kept = plan.certificates.expect("certificates");
    assert_eq!(kept.serving_certificate, first.serving_certificate);
    assert!(kept.serving_renewed.is_none() && kept.bundle == first.bundle);

    // A failed renewal is reported and changes nothing.
    observed.serving_source = ServingSource::Found(external);
    put(&mut observed, "2026-05-31T23:00:00Z", &[["Ready", "True", ""], ["Issuing", "False", "denied"]]);
    let (reason, message) = lacking(&observed);
    assert!(reason == Reason::CertificateNotIssued && message.contains("did not renew"), "{message}");
}

#[test]
fn keeps_the_own_ca_until_cert_manager_issues() {
    let mut observed = empty();
    let own =
        with_context(|_| {}, |context| maintain::maintain_plan(context, &observed, now()).expect("a plan"));
    for object in [ManagedObject::CaSecret, ManagedObject::ServingSecret] {
        let desired = own.desired.iter().find(|desired| desired.object == object).expect("a Secret");
        let stored = serde_json::from_value(desired.body.clone()).expect("an object");
        observed.objects.insert(object, Found::Present(Box::new(stored)));
    }
    let plan = planned(&observed);
    assert!(plan.certificates.is_none() && plan.removals.is_empty(), "{:?}", plan.removals);
    assert!(plan.blocked.contains_key(&ManagedObject::CaSecret));
}

#[test]
fn names_an_issuer_that_publishes_no_ca() {
    let mut observed = empty();
    put(&mut observed, "2026-05-01T00:00:00Z", &[["Ready", "True", ""]]);
    observed.serving_source = ServingSource::Found(ExternalCertificate { ca_bundle: None, ..issued() });
    let problem = &planned(&observed).blocked[&ManagedObject::ServingSecret];
    assert_eq!(problem.reason, Reason::CertificateUnreadable);
    assert!(problem.message.contains("Issuer company does not publish its CA"), "{}", problem.message);
}

#[test]
fn unreadable_secret_names_the_chart_value() {
    let mut observed = empty();
    put(&mut observed, "2026-05-01T00:00:00Z", &[["Ready", "True", ""]]);
    let why = Unreadable { forbidden: true, message: "secrets is forbidden".to_owned() };
    observed.serving_source = ServingSource::Unreadable(why);
    let (reason, message) = lacking(&observed);
    assert!(reason == Reason::PermissionMissing && message.contains("certManager.enabled=true"), "{message}");
}

#[test]
fn leaves_a_foreign_certificate_alone() {
    let mut observed = empty();
    let found: Value = json!({ "metadata": { "name": "metrics-core", "labels": { MANAGED_BY_LABEL: "Helm" } },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    let found = serde_json::from_value(found).expect("a Certificate");
    observed.objects.insert(ManagedObject::Certificate, Found::Present(Box::new(found)));
    observed.serving_source = ServingSource::Found(issued());
    let plan = planned(&observed);
    assert_eq!(plan.blocked[&ManagedObject::Certificate].reason, Reason::ForeignObject);
    assert!(!requests(&plan) && plan.certificates.is_none());
}
