//! Plans which objects are applied, deleted or left alone.

use std::collections::BTreeMap;

use crds::{CsrApproval, FrontProxyMode, MANAGED_CONFIG_MAPS, Reason};
use jiff::Timestamp;
use serde_json::Value;

use super::certificates::{self, CertificateError};
use super::objects::{self, Context, Desired};
use super::role_ref::{self, RoleRefAction};
use super::{MaintainPlan, PlanError, Removal, cert_manager, front_proxy, migration, rollout, template};
use crate::common::{ManagedObject, OptionalPermission, Problem};
use crate::csr::AllowList;
use crate::observe::{KubeletCa, Observed};
use crate::pki::{self, Certificate, Rollover};
use crate::plan::blocked::blocked_objects;
use crate::plan::{ExpectedCertificate, differences, teardown};

/// Returns the plan for a MetricsPipeline that is not being deleted.
pub(super) fn maintain_plan(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Result<MaintainPlan, PlanError> {
    let mut blocked = blocked_objects(context, observed);
    let certificates = plan_certificates(context, observed, now, &mut blocked);
    let sizing = template::sizing(context, observed, now)?;
    let front_proxy = plan_front_proxy(context, observed, now, &mut blocked);
    let expected_certificate =
        certificates.as_ref().and_then(|certificates| expected_certificate(context, certificates));
    let mut plan = MaintainPlan {
        desired: Vec::new(),
        removals: Vec::new(),
        blocked,
        certificates,
        not_issued: pki::cert_manager::requested(context.spec)
            .and_then(|requested| cert_manager::lack(requested, context.settings, observed, now)),
        front_proxy,
        approve_csrs: approve_csrs(context),
        csr_approval: approval_problem(context, observed),
        expected_certificate,
        sizing,
        namespace: context.settings.namespace.clone(),
        migration: migration::plan(context, observed),
    };
    if let Some(migration) = &plan.migration {
        plan.namespace.clone_from(&migration.from);
    }
    for object in ManagedObject::ALL {
        if plan.blocked.contains_key(&object) {
            continue;
        }
        match build(context, observed, object, &plan, now)? {
            Built::Wanted(desired) => plan.desired.extend(desired),
            Built::Unwanted => plan.removals.extend(teardown::removal(observed, object)),
            Built::Replaced(removal) => plan.removals.push(removal),
            Built::Blocked(problem) => _ = plan.blocked.insert(object, problem),
        }
    }
    Ok(plan)
}

enum Built {
    Wanted(Vec<Desired>),
    Unwanted,
    Replaced(Removal),
    Blocked(Problem),
}

/// Returns what the replicas must serve before the old CA is dropped.
fn expected_certificate(
    context: Context<'_>,
    certificates: &pki::ServingPlan,
) -> Option<ExpectedCertificate> {
    (certificates.rollover == Rollover::Retiring).then(|| ExpectedCertificate {
        server: format!("{}.{}.svc", ManagedObject::Service.name(), context.settings.namespace),
        certificate: certificates.serving_certificate.clone(),
        ca: certificates.ca_certificate.clone(),
    })
}

fn plan_certificates(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
    blocked: &mut BTreeMap<ManagedObject, Problem>,
) -> Option<pki::ServingPlan> {
    let depend = [
        ManagedObject::CaSecret,
        ManagedObject::ServingSecret,
        ManagedObject::ApiServiceV1beta1,
        ManagedObject::ApiServiceV1,
    ];
    // Without knowing the stored Secrets, a new certificate could replace a valid one.
    let cause = [ManagedObject::CaSecret, ManagedObject::ServingSecret]
        .into_iter()
        .find_map(|object| blocked.get(&object))
        .cloned();
    let problem = match cause {
        Some(problem) => problem,
        None => match certificates::plan(context.spec, context.settings, observed, now) {
            Ok(plan) => return Some(plan),
            Err(CertificateError::Source(problem)) => problem,
            Err(CertificateError::Issue(error)) => Problem::new(
                Reason::ApplyFailed,
                format!("A certificate could not be issued: {error}. The operator retries."),
            ),
        },
    };
    for object in depend {
        blocked.entry(object).or_insert_with(|| problem.clone());
    }
    None
}

fn build(
    context: Context<'_>,
    observed: &Observed,
    object: ManagedObject,
    plan: &MaintainPlan,
    now: Timestamp,
) -> Result<Built, PlanError> {
    let one = |desired: Desired| Built::Wanted(vec![desired]);
    Ok(match object {
        ManagedObject::ServiceAccount => one(objects::service_account::build(context)?),
        ManagedObject::CollectorRole => one(objects::collector::role(context)?),
        ManagedObject::CollectorBinding => binding(context, observed, objects::collector::binding(context)?),
        ManagedObject::AuthDelegatorBinding => {
            binding(context, observed, objects::auth_delegator::build(context)?)
        }
        ManagedObject::AuthReaderBinding => binding(context, observed, objects::auth_reader::build(context)?),
        ManagedObject::AggregatedReaderRole => one(objects::aggregated_reader::build(context)?),
        ManagedObject::Role => one(objects::serving_secret_access::role(context)?),
        ManagedObject::RoleBinding => {
            binding(context, observed, objects::serving_secret_access::binding(context)?)
        }
        ManagedObject::Certificate => match pki::cert_manager::requested(context.spec) {
            None => Built::Unwanted,
            Some(requested) => match cert_manager::obstacle(context.settings, observed) {
                Some(problem) => Built::Blocked(problem),
                None => one(objects::certificate::build(context, requested)?),
            },
        },
        ManagedObject::Service => one(objects::service::build(context)?),
        ManagedObject::DisruptionBudget => {
            objects::disruption_budget::build(context)?.map_or(Built::Unwanted, one)
        }
        ManagedObject::ConfigMap => config_map(context, observed)?,
        ManagedObject::Deployment => deployment(context, observed, now)?,
        ManagedObject::FrontProxyCaSecret
        | ManagedObject::FrontProxySecret
        | ManagedObject::FrontProxyFlags => {
            with_front_proxy(context, observed, object, plan.front_proxy.as_ref())?
        }
        // Blocked, all four, when there are no certificates.
        ManagedObject::CaSecret
        | ManagedObject::ServingSecret
        | ManagedObject::ApiServiceV1beta1
        | ManagedObject::ApiServiceV1 => match &plan.certificates {
            Some(plan) if object == ManagedObject::CaSecret && plan.ca.is_none() => Built::Unwanted,
            Some(plan) => one(with_certificates(context, observed, object, plan)?),
            None => Built::Wanted(Vec::new()),
        },
    })
}

fn binding(context: Context<'_>, observed: &Observed, desired: Desired) -> Built {
    match role_ref::role_ref_action(&desired, observed.object(desired.object), &context.settings.namespace) {
        RoleRefAction::Apply => Built::Wanted(vec![desired]),
        RoleRefAction::Replace(removal) => Built::Replaced(removal),
        RoleRefAction::Wait(problem) => Built::Blocked(problem),
    }
}

fn with_certificates(
    context: Context<'_>,
    observed: &Observed,
    object: ManagedObject,
    plan: &pki::ServingPlan,
) -> Result<Desired, PlanError> {
    let found = observed.object(object);
    let version = || found.and_then(|found| found.metadata.resource_version.clone());
    let desired = match object {
        // A key that another writer stored meanwhile must not be overwritten.
        ManagedObject::CaSecret => {
            Desired { resource_version: version(), ..objects::ca_secret::build(context, plan)? }
        }
        ManagedObject::ServingSecret => {
            Desired { resource_version: version(), ..objects::serving_secret::build(context, plan)? }
        }
        _ => {
            let insecure = found.and_then(|found| found.data.pointer("/spec/insecureSkipTLSVerify"));
            objects::api_service::build(context, object, &plan.bundle, insecure == Some(&Value::Bool(true)))?
        }
    };
    Ok(desired)
}

/// Returns what may be approved. Without a valid allow-list, nothing is.
fn approve_csrs(context: Context<'_>) -> Option<AllowList> {
    let tls = &context.spec.metrics_core.kubelet.tls;
    let is_granted = context.settings.permissions.has(OptionalPermission::CsrApproval);
    (tls.csr_approval == CsrApproval::Exact && is_granted)
        .then(|| AllowList::parse(tls.csr_allow_list.as_deref()).ok())
        .flatten()
}

fn approval_problem(context: Context<'_>, observed: &Observed) -> Option<Problem> {
    if context.spec.metrics_core.kubelet.tls.csr_approval == CsrApproval::Never {
        return None;
    }
    if !context.settings.permissions.has(OptionalPermission::CsrApproval) {
        let field = "spec.metricsCore.kubelet.tls.csrApproval";
        return Some(OptionalPermission::CsrApproval.missing(field, &context.settings.namespace));
    }
    if let Err(invalid) = AllowList::parse(context.spec.metrics_core.kubelet.tls.csr_allow_list.as_deref()) {
        return Some(Problem::new(
            Reason::InvalidSpec,
            format!(
                "spec.metricsCore.kubelet.tls.csrAllowList is invalid: {invalid}. The operator approves no \
                 CertificateSigningRequest. Correct the entry."
            ),
        ));
    }
    let why = observed.signing_requests_error.as_ref().or(observed.csr_approval_error.as_ref())?;
    Some(Problem::new(
        Reason::ApplyFailed,
        format!(
            "The kubelets' CertificateSigningRequests cannot be read or approved: \"{why}\". If a permission is missing, run `helm upgrade` with the chart of this version and --set {}=true.",
            OptionalPermission::CsrApproval.chart_value()
        ),
    ))
}

/// Front-proxy objects that the spec no longer requests are deleted, except those that a kube-apiserver may use.
fn with_front_proxy(
    context: Context<'_>,
    observed: &Observed,
    object: ManagedObject,
    plan: Option<&pki::front_proxy::FrontProxyPlan>,
) -> Result<Built, PlanError> {
    if context.spec.certificates.front_proxy.mode == FrontProxyMode::Off {
        return Ok(if teardown::is_kept(context.pipeline, object) {
            Built::Wanted(Vec::new())
        } else {
            Built::Unwanted
        });
    }
    let Some(plan) = plan else { return Ok(Built::Wanted(Vec::new())) };
    let mut desired = match object {
        ManagedObject::FrontProxyCaSecret => objects::front_proxy_ca_secret::build(context, plan)?,
        ManagedObject::FrontProxySecret => objects::front_proxy_secret::build(context, plan)?,
        _ => return Ok(Built::Wanted(vec![objects::front_proxy_flags::build(context)?])),
    };
    // A key that another writer stored meanwhile must not be overwritten.
    desired.resource_version =
        observed.object(object).and_then(|found| found.metadata.resource_version.clone());
    Ok(Built::Wanted(vec![desired]))
}

fn plan_front_proxy(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
    blocked: &mut BTreeMap<ManagedObject, Problem>,
) -> Option<pki::front_proxy::FrontProxyPlan> {
    if context.spec.certificates.front_proxy.mode == FrontProxyMode::Off {
        return None;
    }
    let settings = context.settings;
    let secrets = [ManagedObject::FrontProxyCaSecret, ManagedObject::FrontProxySecret];
    let problem = if !settings.permissions.has(OptionalPermission::FrontProxy) {
        OptionalPermission::FrontProxy.missing("spec.certificates.frontProxy", &settings.namespace)
    } else if let Some(problem) = secrets.into_iter().find_map(|object| blocked.get(&object)) {
        problem.clone()
    } else {
        match front_proxy::plan(context.spec, settings, observed, now) {
            Ok(plan) => return Some(plan),
            Err(error) => Problem::new(
                Reason::ApplyFailed,
                format!("A front-proxy certificate could not be issued: {error}. The operator retries."),
            ),
        }
    };
    for object in ManagedObject::FRONT_PROXY {
        blocked.entry(object).or_insert_with(|| problem.clone());
    }
    None
}

fn config_map(context: Context<'_>, observed: &Observed) -> Result<Built, PlanError> {
    let source = context.spec.metrics_core.kubelet.tls.certificate_authority.as_ref();
    let elsewhere = source.and_then(|source| source.namespace.as_ref());
    let elsewhere = elsewhere.filter(|namespace| **namespace != context.settings.namespace);
    // The schema rejects these names, but the object may be older than the schema. A copy of itself would never change.
    if let Some(source) =
        source.filter(|source| elsewhere.is_none() && MANAGED_CONFIG_MAPS.contains(&source.name.as_str()))
    {
        let message = format!(
            "spec.metricsCore.kubelet.tls.certificateAuthority names ConfigMap {}, which the operator itself manages. \
             Store the kubelets' CA in a ConfigMap of another name, and set it there.",
            source.name
        );
        return Ok(Built::Blocked(Problem::new(Reason::InvalidSpec, message)));
    }
    let pem = match &observed.kubelet_ca {
        KubeletCa::Unused => return Ok(Built::Unwanted),
        KubeletCa::Found(pem) => pem,
        KubeletCa::Missing { place } => return Ok(Built::Blocked(kubelet_ca_missing(context, place))),
        KubeletCa::Unreadable(why) => {
            let reason = if why.forbidden { Reason::PermissionMissing } else { Reason::ApplyFailed };
            let remedy = match (why.forbidden, source.zip(elsewhere)) {
                (true, Some((source, namespace))) => format!(
                    "Grant access with the chart values kubeletCA: `helm upgrade RELEASE CHART --namespace {} \
                     --reset-then-reuse-values --set kubeletCA.namespace={namespace} --set kubeletCA.name={}`.",
                    context.settings.namespace, source.name
                ),
                (true, None) => {
                    "Restore the operator's permissions: run `helm upgrade` with the chart of this version."
                        .to_owned()
                }
                (false, _) => "The operator retries.".to_owned(),
            };
            let message = format!(
                "The kubelets' CA cannot be read: kube-apiserver returned \"{}\". {remedy}",
                why.message
            );
            return Ok(Built::Blocked(Problem::new(reason, message)));
        }
    };
    if let Err(error) = Certificate::parse_pem(pem.as_bytes()) {
        let message = format!(
            "The kubelets' CA is invalid: it {error}. Store the PEM certificates of the CA that signs the kubelets' \
             serving certificates in a ConfigMap, and name it in spec.metricsCore.kubelet.tls.certificateAuthority."
        );
        return Ok(Built::Blocked(Problem::new(Reason::CertificateUnreadable, message)));
    }
    Ok(Built::Wanted(vec![objects::config_map::build(context, pem)?]))
}

fn kubelet_ca_missing(context: Context<'_>, place: &str) -> Problem {
    let remedy = if context.spec.metrics_core.kubelet.tls.certificate_authority.is_some() {
        "Create it, or correct spec.metricsCore.kubelet.tls.certificateAuthority."
    } else {
        "kube-controller-manager publishes it in every namespace (controller root-ca-certificate-publisher). Check \
         that it runs with --root-ca-file, or name a ConfigMap in spec.metricsCore.kubelet.tls.certificateAuthority."
    };
    Problem::new(
        Reason::KubeletCANotFound,
        format!("The kubelets' CA was not found: {place} does not exist. {remedy}"),
    )
}

fn deployment(context: Context<'_>, observed: &Observed, now: Timestamp) -> Result<Built, PlanError> {
    let Some(image) = context.image() else {
        return Ok(Built::Blocked(Problem::new(
            Reason::InvalidSpec,
            "spec.metricsCore.image is not set, and the operator was started without --metrics-core-image. Set one of \
            them.",
        )));
    };
    let found = observed.object(ManagedObject::Deployment);
    let template = template::decide(context, observed, now)?;
    let nanny = objects::resources::build(context, &template.resources, template.again)?;
    // Fields that an admission webhook mutates always differ. Waiting for them would keep the Deployment paused forever.
    let agrees = found.is_some_and(|found| {
        observed.mutated_by_admission.contains(&(nanny.object, nanny.manager))
            || differences(&nanny, found).is_empty()
    });
    // While the template changes, a pod that can't be scheduled is about to be replaced: no old pod is deleted for it.
    let order = if agrees {
        let host_network = context.spec.metrics_core.scheduling.host_network;
        rollout::order(host_network, &observed.pods, &observed.resize_rejections, now)
    } else {
        rollout::Order::NewFirst
    };
    // Two field managers write the template. While both have to, the Deployment is paused, so that it is one rollout.
    let main = objects::deployment::build(context, &image, order, false)?;
    let is_half = found.is_none_or(|found| {
        let is_template = |path: &String| !path.starts_with('.') || path.starts_with(".spec.template");
        let is_paused = found.data.pointer("/spec/paused") == Some(&Value::Bool(true));
        is_paused || differences(&main, found).iter().any(is_template)
    });
    let main =
        if is_half && !agrees { objects::deployment::build(context, &image, order, true)? } else { main };
    Ok(Built::Wanted(vec![main, nanny]))
}

#[cfg(test)]
mod tests;
