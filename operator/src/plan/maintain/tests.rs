use super::super::objects::tests::with_context;
use super::*;
use crate::common::{MANAGED_BY, MANAGED_BY_LABEL, OptionalPermissions};
use crate::observe::{Found, Unreadable};
use crate::plan::{Action, differences, teardown};
use crds::{
    Adoption, CertificateSource, ConfigMapKey, FrontProxyDeletion, KubeletTlsMode, MANAGED_SECRETS,
    MetricsPipelineSpec, SecretReference,
};
use kube::core::DynamicObject;
use serde_json::json;

const CA: &str = include_str!("../testdata/ca.pem");

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

/// Returns a namespace with a kubelet CA and nothing else.
fn empty() -> Observed {
    let objects = ManagedObject::ALL.map(|object| (object, Found::Absent)).into();
    Observed {
        objects,
        kubelet_ca: KubeletCa::Found(CA.to_owned()),
        ready_endpoints: Some(0),
        ..Observed::default()
    }
}

fn planned(change: impl FnOnce(&mut MetricsPipelineSpec), observed: &Observed) -> MaintainPlan {
    with_context(change, |context| maintain_plan(context, observed, now()).expect("a plan"))
}

fn objects(plan: &MaintainPlan) -> Vec<ManagedObject> {
    let mut objects: Vec<_> = plan.desired.iter().map(|desired| desired.object).collect();
    objects.dedup();
    objects
}

fn put(observed: &mut Observed, object: ManagedObject, labels: &Value, spec: &Value) {
    let found: DynamicObject = serde_json::from_value(json!({
        "metadata": { "name": object.name(), "uid": format!("uid-{object:?}"), "resourceVersion": "7", "labels": labels },
        "spec": spec,
    }))
    .expect("an object");
    observed.objects.insert(object, Found::Present(Box::new(found)));
}

fn ours() -> Value {
    json!({ MANAGED_BY_LABEL: MANAGED_BY })
}

#[test]
fn new_pipeline_gets_everything_but_the_api_services() {
    let plan = planned(|_| {}, &empty());
    let on_request = [ManagedObject::DisruptionBudget, ManagedObject::Certificate];
    let later = [ManagedObject::API_SERVICES.as_slice(), &ManagedObject::FRONT_PROXY, &on_request].concat();
    let expected: Vec<_> = ManagedObject::ALL.into_iter().filter(|object| !later.contains(object)).collect();
    assert_eq!(objects(&plan), expected);
    assert_eq!(plan.blocked[&ManagedObject::ApiServiceV1beta1].reason, Reason::WaitingForDependency);
    assert!(plan.removals.is_empty());
    let deployments: Vec<_> =
        plan.desired.iter().filter(|desired| desired.object == ManagedObject::Deployment).collect();
    assert_eq!(deployments.len(), 2, "the operator's fields and the nanny's");
    assert_eq!(deployments[0].body["spec"]["paused"], true, "no pod before both are there");
}

#[test]
fn common_metadata_is_on_every_object() {
    let mut observed = empty();
    observed.ready_endpoints = Some(1);
    let plan = planned(
        |spec| {
            spec.common_metadata.labels.insert("team".to_owned(), "a".to_owned());
            spec.common_metadata.annotations.insert("note".to_owned(), "b".to_owned());
            spec.metrics_core.replicas = 2;
            spec.certificates.front_proxy.mode = FrontProxyMode::Issue;
        },
        &observed,
    );
    let main: Vec<_> =
        plan.desired.iter().filter(|desired| desired.manager == crate::common::FIELD_MANAGER).collect();
    assert_eq!(main.len(), ManagedObject::ALL.len() - 1, "all but cert-manager's Certificate");
    for desired in main {
        let metadata = &desired.body["metadata"];
        assert_eq!(
            (&metadata["labels"]["team"], &metadata["annotations"]["note"]),
            (&json!("a"), &json!("b")),
            "{desired:?}"
        );
        assert_eq!(metadata["labels"][MANAGED_BY_LABEL], MANAGED_BY, "{desired:?}");
    }
}

#[test]
fn api_services_follow_the_first_ready_pod_and_stay_without_one() {
    let mut observed = empty();
    observed.ready_endpoints = Some(1);
    let all = objects(&planned(|_| {}, &observed));
    assert_eq!(all[all.len() - 2..], ManagedObject::API_SERVICES);

    observed.ready_endpoints = Some(0);
    for object in ManagedObject::API_SERVICES {
        put(&mut observed, object, &ours(), &json!({}));
    }
    assert_eq!(objects(&planned(|_| {}, &observed)).last(), Some(&ManagedObject::ApiServiceV1));
}

#[test]
fn adopts_both_foreign_api_services_or_none() {
    let mut observed = empty();
    observed.ready_endpoints = Some(1);
    let service = json!({ "service": { "name": "metrics-server", "namespace": "kube-system" }, "insecureSkipTLSVerify": true });
    put(&mut observed, ManagedObject::ApiServiceV1beta1, &json!({ "k8s-app": "metrics-server" }), &service);
    let plan = planned(|_| {}, &observed);
    assert!(!objects(&plan).iter().any(|object| ManagedObject::API_SERVICES.contains(object)));
    for object in ManagedObject::API_SERVICES {
        assert_eq!(plan.blocked[&object].reason, Reason::ForeignAPIService);
        assert!(plan.blocked[&object].message.contains("Service kube-system/metrics-server"));
    }

    let plan = planned(|spec| spec.api_service.adoption = Adoption::Adopt, &observed);
    let adopted = plan
        .desired
        .iter()
        .find(|desired| desired.object == ManagedObject::ApiServiceV1beta1)
        .expect("adopted");
    assert_eq!(adopted.body["spec"]["insecureSkipTLSVerify"], false, "or kube-apiserver refuses the CA");
    let other =
        plan.desired.iter().find(|desired| desired.object == ManagedObject::ApiServiceV1).expect("both");
    assert_eq!(other.body["spec"].get("insecureSkipTLSVerify"), None);

    observed.ready_endpoints = Some(0);
    let plan = planned(|spec| spec.api_service.adoption = Adoption::Adopt, &observed);
    assert_eq!(
        plan.blocked[&ManagedObject::ApiServiceV1beta1].reason,
        Reason::WaitingForDependency,
        "no gap at a take-over"
    );
}

#[test]
fn never_changes_a_foreign_object() {
    let mut observed = empty();
    put(&mut observed, ManagedObject::Service, &json!({ MANAGED_BY_LABEL: "Helm" }), &json!({}));
    let plan = planned(|_| {}, &observed);
    assert!(!objects(&plan).contains(&ManagedObject::Service));
    let problem = &plan.blocked[&ManagedObject::Service];
    assert_eq!(problem.reason, Reason::ForeignObject);
    assert!(problem.message.contains("managed by Helm"), "{}", problem.message);
    assert!(objects(&plan).contains(&ManagedObject::Deployment), "the others go on");
}

#[test]
fn does_not_replace_an_unreadable_secret() {
    let mut observed = empty();
    let why = Unreadable { forbidden: true, message: "secrets is forbidden".to_owned() };
    observed.objects.insert(ManagedObject::CaSecret, Found::Unreadable(why));
    let plan = planned(|_| {}, &observed);
    assert!(plan.certificates.is_none());
    assert!(
        !objects(&plan)
            .iter()
            .any(|object| matches!(object, ManagedObject::CaSecret | ManagedObject::ServingSecret))
    );
    assert_eq!(plan.blocked[&ManagedObject::ServingSecret].reason, Reason::PermissionMissing);
}

#[test]
fn deletes_what_is_no_longer_desired() {
    let mut observed = empty();
    put(&mut observed, ManagedObject::DisruptionBudget, &ours(), &json!({}));
    put(&mut observed, ManagedObject::ConfigMap, &ours(), &json!({}));
    observed.kubelet_ca = KubeletCa::Unused;
    let plan = planned(|spec| spec.metrics_core.kubelet.tls.mode = KubeletTlsMode::Insecure, &observed);
    let removed: Vec<_> = plan.removals.iter().map(|removal| removal.object).collect();
    assert_eq!(removed, [ManagedObject::ConfigMap, ManagedObject::DisruptionBudget]);
    assert_eq!(plan.removals[0].uid, "uid-ConfigMap");

    // A foreign object of that name stays.
    put(&mut observed, ManagedObject::DisruptionBudget, &json!({}), &json!({}));
    assert!(
        !planned(|_| {}, &observed)
            .removals
            .iter()
            .any(|removal| removal.object == ManagedObject::DisruptionBudget)
    );
}

#[test]
fn blocks_a_missing_or_invalid_kubelet_ca() {
    let mut observed = empty();
    observed.kubelet_ca =
        KubeletCa::Missing { place: "ConfigMap ns/kube-root-ca.crt, key ca.crt".to_owned() };
    let problem = &planned(|_| {}, &observed).blocked[&ManagedObject::ConfigMap];
    assert_eq!(problem.reason, Reason::KubeletCANotFound);
    assert!(problem.message.contains("root-ca-certificate-publisher"), "{}", problem.message);
    observed.kubelet_ca = KubeletCa::Found("nonsense".to_owned());
    assert_eq!(
        planned(|_| {}, &observed).blocked[&ManagedObject::ConfigMap].reason,
        Reason::CertificateUnreadable
    );
}

#[test]
fn names_the_chart_values_that_grant_the_kubelet_ca_of_another_namespace() {
    let mut observed = empty();
    let why = Unreadable { forbidden: true, message: "configmaps is forbidden".to_owned() };
    observed.kubelet_ca = KubeletCa::Unreadable(why);
    let source = |namespace: Option<&str>, name: &str| ConfigMapKey {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        key: "ca-bundle.crt".to_owned(),
    };
    let problem = |source: ConfigMapKey| {
        let specify = |spec: &mut MetricsPipelineSpec| {
            spec.metrics_core.kubelet.tls.certificate_authority = Some(source);
        };
        planned(specify, &observed).blocked[&ManagedObject::ConfigMap].clone()
    };
    let elsewhere = problem(source(Some("openshift-config-managed"), "kubelet-serving-ca"));
    assert_eq!(elsewhere.reason, Reason::PermissionMissing);
    let values = "--set kubeletCA.namespace=openshift-config-managed --set kubeletCA.name=kubelet-serving-ca";
    assert!(elsewhere.message.contains(values), "{}", elsewhere.message);
    for namespace in [None, Some("metrics-system")] {
        let here = problem(source(namespace, "company"));
        assert!(!here.message.contains("kubeletCA"), "{}", here.message);
        let managed = problem(source(namespace, "metrics-core"));
        assert_eq!(managed.reason, Reason::InvalidSpec, "{}", managed.message);
    }
    assert_eq!(problem(source(Some("other"), "metrics-core")).reason, Reason::PermissionMissing);
}

#[test]
fn refuses_a_managed_secret_as_the_source_of_the_certificate() {
    for name in MANAGED_SECRETS {
        let mut observed = empty();
        observed.ready_endpoints = Some(1);
        put(&mut observed, ManagedObject::CaSecret, &ours(), &json!({}));
        let specify = |spec: &mut MetricsPipelineSpec| {
            spec.certificates.source = CertificateSource::Secret;
            spec.certificates.secret_ref = Some(SecretReference { name: name.to_owned() });
        };
        let plan = planned(specify, &observed);
        assert!(plan.removals.is_empty(), "the CA is kept: {:?}", plan.removals);
        for object in [ManagedObject::CaSecret, ManagedObject::ServingSecret, ManagedObject::ApiServiceV1] {
            assert_eq!(plan.blocked[&object].reason, Reason::InvalidSpec, "{object}");
        }
    }
}

#[test]
fn reserved_names_are_those_of_the_managed_objects() {
    let named = |kind: &str| -> Vec<_> {
        let all = ManagedObject::ALL.into_iter().filter(|object| object.resource().kind == kind);
        all.map(ManagedObject::name).collect()
    };
    assert_eq!(named("Secret"), MANAGED_SECRETS);
    assert_eq!(named("ConfigMap"), MANAGED_CONFIG_MAPS);
}

#[test]
fn writes_secrets_on_the_observed_version() {
    let mut observed = empty();
    put(&mut observed, ManagedObject::CaSecret, &ours(), &json!({}));
    let plan = planned(|_| {}, &observed);
    let version = |object: ManagedObject| {
        plan.desired
            .iter()
            .find(|desired| desired.object == object)
            .expect("desired")
            .resource_version
            .clone()
    };
    assert_eq!(version(ManagedObject::CaSecret).as_deref(), Some("7"));
    assert_eq!(version(ManagedObject::Service), None);
}

#[test]
fn tears_down_step_by_step_from_the_api_services() {
    let mut observed = empty();
    for object in ManagedObject::ALL {
        put(&mut observed, object, &ours(), &json!({}));
        let Some(Found::Present(found)) = observed.objects.get_mut(&object) else { continue };
        found.metadata.owner_references =
            with_context(|_| {}, |context| context.metadata(object)).owner_references;
    }
    put(&mut observed, ManagedObject::CollectorRole, &json!({ "somebody": "else" }), &json!({}));
    let tear_down = |on_deletion: FrontProxyDeletion, observed: &Observed| {
        with_context(
            |spec| spec.certificates.front_proxy.on_deletion = on_deletion,
            |context| teardown::plan(context.pipeline, observed, "ns"),
        )
    };
    let mut order = Vec::new();
    for _ in 0..3 {
        let Action::TearDown(plan) = tear_down(FrontProxyDeletion::Keep, &observed) else {
            panic!("no teardown")
        };
        assert_eq!(plan.removals.len(), plan.waiting.len());
        for object in plan.waiting {
            order.push(object);
            observed.objects.insert(object, Found::Absent);
        }
    }
    assert_eq!(order[..2], ManagedObject::API_SERVICES);
    assert_eq!(
        order.len(),
        ManagedObject::ALL.len() - 3,
        "foreign objects stay, and what kube-apiserver may depend on"
    );
    assert!(matches!(tear_down(FrontProxyDeletion::Keep, &observed), Action::RemoveFinalizer));
    let Action::TearDown(plan) = tear_down(FrontProxyDeletion::Delete, &observed) else {
        panic!("no teardown")
    };
    assert_eq!(plan.waiting, [ManagedObject::FrontProxySecret, ManagedObject::FrontProxyCaSecret]);

    let why = Unreadable { forbidden: true, message: "no".to_owned() };
    observed.objects.insert(ManagedObject::ApiServiceV1, Found::Unreadable(why));
    assert!(
        matches!(tear_down(FrontProxyDeletion::Keep, &observed), Action::TearDown(plan) if plan.blocked.len() == 1)
    );
}

#[test]
fn issues_front_proxy_certificates_on_request_and_keeps_them() {
    let issue = |spec: &mut MetricsPipelineSpec| spec.certificates.front_proxy.mode = FrontProxyMode::Issue;
    let mut observed = empty();
    let plan = planned(issue, &observed);
    let all = objects(&plan);
    assert!(ManagedObject::FRONT_PROXY.iter().all(|object| all.contains(object)), "{all:?}");

    for object in ManagedObject::FRONT_PROXY {
        put(&mut observed, object, &ours(), &json!({}));
    }
    let removed =
        |plan: &MaintainPlan| plan.removals.iter().map(|removal| removal.object).collect::<Vec<_>>();
    assert_eq!(removed(&planned(|_| {}, &observed)), [ManagedObject::FrontProxyFlags]);
    let delete = |spec: &mut MetricsPipelineSpec| {
        spec.certificates.front_proxy.on_deletion = FrontProxyDeletion::Delete;
    };
    assert_eq!(removed(&planned(delete, &observed)), ManagedObject::FRONT_PROXY);
}

#[test]
fn missing_permission_names_the_chart_value() {
    let plan = with_context(
        |spec| spec.certificates.front_proxy.mode = FrontProxyMode::Issue,
        |context| {
            let settings = crate::settings::Settings {
                permissions: OptionalPermissions::default(),
                ..context.settings.clone()
            };
            maintain_plan(Context { settings: &settings, ..context }, &empty(), now()).expect("a plan")
        },
    );
    for object in ManagedObject::FRONT_PROXY {
        let problem = &plan.blocked[&object];
        assert_eq!(problem.reason, Reason::PermissionMissing);
        assert!(problem.message.contains("--set frontProxy.enabled=true"), "{}", problem.message);
    }
    assert!(objects(&plan).contains(&ManagedObject::ServingSecret), "the others go on");

    let approve =
        |spec: &mut MetricsPipelineSpec| spec.metrics_core.kubelet.tls.csr_approval = CsrApproval::Exact;
    let with = |permissions: OptionalPermissions| {
        with_context(approve, |context| {
            let settings = crate::settings::Settings { permissions, ..context.settings.clone() };
            maintain_plan(Context { settings: &settings, ..context }, &empty(), now())
                .expect("a plan")
                .csr_approval
        })
    };
    let problem = with(OptionalPermissions::default()).expect("a problem");
    assert_eq!(problem.reason, Reason::PermissionMissing);
    assert!(problem.message.contains("--set csrApproval.enabled=true"), "{}", problem.message);
    assert_eq!(with(OptionalPermissions { csr_approval: true, ..OptionalPermissions::default() }), None);
}

#[test]
fn approves_no_request_with_an_invalid_allow_list() {
    let with = |entries: Option<&[&str]>| {
        let set = |spec: &mut MetricsPipelineSpec| {
            let tls = &mut spec.metrics_core.kubelet.tls;
            tls.csr_approval = CsrApproval::Exact;
            tls.csr_allow_list =
                entries.map(|entries| entries.iter().map(|entry| (*entry).to_owned()).collect());
        };
        with_context(set, |context| maintain_plan(context, &empty(), now()).expect("a plan"))
    };
    let invalid = with(Some(&["10.0.0.0/16", "10.1.*"]));
    assert_eq!(invalid.approve_csrs, None);
    let problem = invalid.csr_approval.expect("a problem");
    assert_eq!(problem.reason, Reason::InvalidSpec);
    assert!(problem.message.contains("csrAllowList") && problem.message.contains("10.1.*"), "{problem}");
    for entries in [None, Some(&["10.0.0.0/16", "node-*"] as &[&str])] {
        let plan = with(entries);
        assert!(plan.approve_csrs.is_some() && plan.csr_approval.is_none(), "{entries:?}");
    }
    let never = with_context(|_| {}, |context| maintain_plan(context, &empty(), now()).expect("a plan"));
    assert_eq!(never.approve_csrs, None);
}

#[test]
fn template_waits_for_the_nanny_and_is_rolled_out_once() {
    let nanny = with_context(|_| {}, objects_resources);
    let mut observed = empty();
    let found: DynamicObject = serde_json::from_value(json!({
        "metadata": { "name": "metrics-core", "labels": ours(), "managedFields": [{
            "manager": "metrics-pipeline-nanny", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": {
                "f:spec": { "f:template": { "f:spec": { "f:containers": { "k:{\"name\":\"metrics-core\"}": {
                    ".": {}, "f:name": {}, "f:resources": {
                        "f:limits": { "f:memory": {} }, "f:requests": { "f:cpu": {}, "f:memory": {} } } } } } } } } }] },
        "spec": nanny.body["spec"],
    }))
    .expect("a Deployment");
    assert!(differences(&nanny, &found).is_empty());
    observed.objects.insert(ManagedObject::Deployment, Found::Present(Box::new(found)));
    let plan = planned(|_| {}, &observed);
    let main =
        plan.desired.iter().find(|desired| desired.object == ManagedObject::Deployment).expect("desired");
    assert_eq!(main.body["spec"].get("paused"), None);
}

fn objects_resources(context: Context<'_>) -> Desired {
    objects::resources::build(context, &objects::resources::requirements(context), false).expect("built")
}

#[test]
fn pauses_until_the_nanny_applied_but_not_forever() {
    let mut observed = empty();
    let paused = |observed: &Observed| {
        let plan = planned(|_| {}, observed);
        let main = plan.desired.into_iter().find(|desired| desired.object == ManagedObject::Deployment);
        main.expect("a Deployment").body["spec"].get("paused").cloned()
    };
    assert_eq!(paused(&observed), Some(json!(true)));
    put(&mut observed, ManagedObject::Deployment, &ours(), &json!({}));
    assert_eq!(paused(&observed), Some(json!(true)));
    // An admission webhook mutates the resources after each apply.
    observed.mutated_by_admission.insert((ManagedObject::Deployment, crate::common::NANNY_FIELD_MANAGER));
    assert_eq!(paused(&observed), None);
}

#[test]
fn recreates_a_managed_binding_to_another_role_but_no_foreign_one() {
    let bound = |labels: Value| {
        let mut observed = empty();
        let found = json!({
            "metadata": { "name": "metrics-core:collector", "uid": "u", "labels": labels },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        });
        let found = serde_json::from_value(found).expect("an object");
        observed.objects.insert(ManagedObject::CollectorBinding, Found::Present(Box::new(found)));
        planned(|_| {}, &observed)
    };
    let plan = bound(ours());
    assert!(
        !objects(&plan).contains(&ManagedObject::CollectorBinding),
        "it can't be applied while it is there"
    );
    let removals: Vec<_> =
        plan.removals.iter().map(|removal| (removal.object, removal.uid.as_str())).collect();
    assert_eq!(removals, [(ManagedObject::CollectorBinding, "u")]);
    let plan = bound(json!({}));
    assert!(plan.removals.is_empty());
    assert_eq!(plan.blocked[&ManagedObject::CollectorBinding].reason, Reason::ForeignObject);
}
