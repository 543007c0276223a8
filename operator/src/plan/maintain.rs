//! Which objects are applied, removed or left alone.

use std::collections::BTreeMap;

use crds::{Adoption, CsrApproval, FrontProxyDeletion, FrontProxyMode, Reason};
use jiff::Timestamp;
use serde_json::Value;

use super::certificates::PlanError;
use super::objects::{self, Context, Desired};
use super::role_ref::{self, Course};
use super::{
    DecideError, Decision, Dismantle, Maintain, Removal, cert_manager, certificates, front_proxy, rollout,
    template,
};
use crate::common::Owned;
use crate::common::ownership::{is_ours, whose};
use crate::common::{Power, Problem};
use crate::observe::{KubeletCa, Observed, Pipeline};
use crate::pki::{self, Certificate};
use crate::plan::differences;

/// What is to be done for the MetricsPipeline that is served.
pub fn maintain(context: Context<'_>, observed: &Observed, now: Timestamp) -> Result<Maintain, DecideError> {
    let mut blocked = blocked_objects(context, observed);
    let certificates = plan_certificates(context, observed, now, &mut blocked);
    let sizing = template::sizing(context, observed, now)?;
    let front_proxy = plan_front_proxy(context, observed, now, &mut blocked);
    let mut plan = Maintain {
        desired: Vec::new(),
        removals: Vec::new(),
        blocked,
        certificates,
        not_issued: pki::cert_manager::requested(context.spec)
            .and_then(|asked| cert_manager::lack(asked, context.settings, observed, now)),
        front_proxy,
        csr_approval: approval_problem(context, observed),
        sizing,
    };
    for object in Owned::ALL {
        if plan.blocked.contains_key(&object) {
            continue;
        }
        match build(context, observed, object, &plan, now)? {
            Built::Wanted(desired) => plan.desired.extend(desired),
            Built::Unwanted => plan.removals.extend(removal(observed, object)),
            Built::Replaced(removal) => plan.removals.push(removal),
            Built::Blocked(problem) => _ = plan.blocked.insert(object, problem),
        }
    }
    Ok(plan)
}

/// What is to be done for a MetricsPipeline that is being deleted: the first step that is not done.
pub fn dismantle(pipeline: &Pipeline, observed: &Observed, namespace: &str) -> Decision {
    for step in Owned::DISMANTLING {
        let ours =
            |object: &Owned| !stays(pipeline, *object) && observed.object(*object).is_some_and(is_ours);
        let waiting: Vec<Owned> = step.iter().copied().filter(ours).collect();
        let blocked: BTreeMap<Owned, Problem> = step
            .iter()
            .filter_map(|object| Some((*object, unreadable(observed, *object, namespace)?)))
            .collect();
        if !waiting.is_empty() || !blocked.is_empty() {
            let removals = waiting.iter().filter_map(|object| removal(observed, *object)).collect();
            return Decision::Dismantle(Dismantle { removals, waiting, blocked });
        }
    }
    Decision::Release
}

/// Whether an object outlives the MetricsPipeline: a kube-apiserver may depend on it.
fn stays(pipeline: &Pipeline, object: Owned) -> bool {
    let is_one = matches!(object, Owned::FrontProxyCaSecret | Owned::FrontProxySecret);
    // A spec that can't be read may have asked for it.
    let keep = pipeline
        .spec
        .as_ref()
        .map_or(FrontProxyDeletion::Keep, |spec| spec.certificates.front_proxy.on_deletion);
    is_one && keep == FrontProxyDeletion::Keep
}

enum Built {
    Wanted(Vec<Desired>),
    Unwanted,
    Replaced(Removal),
    Blocked(Problem),
}

/// What must not be touched: what can't be read, what is somebody else's, and an APIService before its time.
fn blocked_objects(context: Context<'_>, observed: &Observed) -> BTreeMap<Owned, Problem> {
    let namespace = &context.settings.namespace;
    let mut blocked: BTreeMap<Owned, Problem> = Owned::ALL
        .into_iter()
        .filter_map(|object| {
            let problem = unreadable(observed, object, namespace)
                .or_else(|| foreign(context, observed, object))
                .or_else(|| too_early(observed, object))?;
            Some((object, problem))
        })
        .collect();
    // Both versions or none: two servers behind one group would answer differently.
    let foreign = Owned::API_SERVICES.into_iter().find_map(|object| {
        blocked.get(&object).filter(|problem| problem.reason == Reason::ForeignAPIService).cloned()
    });
    if let Some(foreign) = foreign {
        for object in Owned::API_SERVICES {
            blocked.entry(object).or_insert_with(|| foreign.clone());
        }
    }
    blocked
}

fn unreadable(observed: &Observed, object: Owned, namespace: &str) -> Option<Problem> {
    let why = observed.unreadable(object)?;
    let name = object.describe(namespace);
    Some(if why.forbidden {
        let value = object.power().map(|power| format!(" and --set {}=true", power.chart_value()));
        Problem::new(
            Reason::PermissionMissing,
            format!(
                "{name} cannot be read: kube-apiserver returned \"{}\". Restore the operator's permissions: run `helm \
                 upgrade` with the chart of this version{}.",
                why.message,
                value.unwrap_or_default()
            ),
        )
    } else {
        Problem::new(
            Reason::ApplyFailed,
            format!(
                "{name} cannot be read: kube-apiserver returned \"{}\". The operator retries.",
                why.message
            ),
        )
    })
}

fn foreign(context: Context<'_>, observed: &Observed, object: Owned) -> Option<Problem> {
    let found = observed.object(object).filter(|found| !is_ours(found))?;
    let namespace = &context.settings.namespace;
    let name = object.describe(namespace);
    let whose = whose(found);
    let kubectl = object.kubectl(namespace);
    if !Owned::API_SERVICES.contains(&object) {
        return Some(Problem::new(
            Reason::ForeignObject,
            format!(
                "{name} is not managed by this operator and is left unchanged ({whose}). Inspect it with `kubectl get \
                 {kubectl} -o yaml`. If it is not needed, run `kubectl delete {kubectl}`.",
            ),
        ));
    }
    if context.spec.api_service.adoption == Adoption::Adopt {
        return None;
    }
    Some(Problem::new(
        Reason::ForeignAPIService,
        format!(
            "{name} is not managed by this operator and is left unchanged ({whose}). Either remove that metrics \
             server, or let the operator take the APIService over: `kubectl patch metricspipeline {} --type=merge -p \
             '{{\"spec\":{{\"apiService\":{{\"adoption\":\"Adopt\"}}}}}}'`.",
            context.pipeline.name,
        ),
    ))
}

/// An APIService without a ready server behind it breaks discovery and the deletion of namespaces. So the
/// first registration, and a take-over, wait for a ready pod. One of ours that exists stays when pods fail:
/// taking it away would turn a pause into `NotFound`, and it still carries the CA.
fn too_early(observed: &Observed, object: Owned) -> Option<Problem> {
    let is_registration = Owned::API_SERVICES.contains(&object);
    let exists = observed.object(object).is_some_and(is_ours);
    if !is_registration || exists || observed.ready_endpoints.is_some_and(|ready| ready > 0) {
        return None;
    }
    Some(Problem::new(
        Reason::WaitingForDependency,
        "The APIServices are created once a pod of metrics-core is ready. Without a ready pod they would break API \
         discovery and namespace deletion.",
    ))
}

fn plan_certificates(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
    blocked: &mut BTreeMap<Owned, Problem>,
) -> Option<pki::ServingPlan> {
    let depend = [Owned::CaSecret, Owned::ServingSecret, Owned::ApiServiceV1beta1, Owned::ApiServiceV1];
    // Without knowing what is there, a new certificate could take the place of a good one.
    let cause =
        [Owned::CaSecret, Owned::ServingSecret].into_iter().find_map(|object| blocked.get(&object)).cloned();
    let problem = match cause {
        Some(problem) => problem,
        None => match certificates::plan(context.spec, context.settings, observed, now) {
            Ok(plan) => return Some(plan),
            Err(PlanError::Source(problem)) => problem,
            Err(PlanError::Issue(error)) => Problem::new(
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
    object: Owned,
    plan: &Maintain,
    now: Timestamp,
) -> Result<Built, DecideError> {
    let one = |desired: Desired| Built::Wanted(vec![desired]);
    Ok(match object {
        Owned::ServiceAccount => one(objects::service_account::build(context)?),
        Owned::CollectorRole => one(objects::collector::role(context)?),
        Owned::CollectorBinding => binding(context, observed, objects::collector::binding(context)?),
        Owned::AuthDelegatorBinding => binding(context, observed, objects::auth_delegator::build(context)?),
        Owned::AuthReaderBinding => binding(context, observed, objects::auth_reader::build(context)?),
        Owned::AggregatedReaderRole => one(objects::aggregated_reader::build(context)?),
        Owned::Role => one(objects::serving_secret_access::role(context)?),
        Owned::RoleBinding => binding(context, observed, objects::serving_secret_access::binding(context)?),
        Owned::Certificate => match pki::cert_manager::requested(context.spec) {
            None => Built::Unwanted,
            Some(asked) => match cert_manager::obstacle(context.settings, observed) {
                Some(problem) => Built::Blocked(problem),
                None => one(objects::certificate::build(context, asked)?),
            },
        },
        Owned::Service => one(objects::service::build(context)?),
        Owned::DisruptionBudget => objects::disruption_budget::build(context)?.map_or(Built::Unwanted, one),
        Owned::ConfigMap => config_map(context, observed)?,
        Owned::Deployment => deployment(context, observed, now)?,
        Owned::FrontProxyCaSecret | Owned::FrontProxySecret | Owned::FrontProxyFlags => {
            with_front_proxy(context, observed, object, plan.front_proxy.as_ref())?
        }
        // Blocked, all four, when there are no certificates.
        Owned::CaSecret | Owned::ServingSecret | Owned::ApiServiceV1beta1 | Owned::ApiServiceV1 => {
            match &plan.certificates {
                Some(plan) if object == Owned::CaSecret && plan.ca.is_none() => Built::Unwanted,
                Some(plan) => one(with_certificates(context, observed, object, plan)?),
                None => Built::Wanted(Vec::new()),
            }
        }
    })
}

fn binding(context: Context<'_>, observed: &Observed, desired: Desired) -> Built {
    match role_ref::course(&desired, observed.object(desired.object), &context.settings.namespace) {
        Course::Apply => Built::Wanted(vec![desired]),
        Course::Replace(removal) => Built::Replaced(removal),
        Course::Wait(problem) => Built::Blocked(problem),
    }
}

fn with_certificates(
    context: Context<'_>,
    observed: &Observed,
    object: Owned,
    plan: &pki::ServingPlan,
) -> Result<Desired, DecideError> {
    let found = observed.object(object);
    let version = || found.and_then(|found| found.metadata.resource_version.clone());
    let desired = match object {
        // A key that somebody else stored meanwhile must not be lost.
        Owned::CaSecret => {
            Desired { resource_version: version(), ..objects::ca_secret::build(context, plan)? }
        }
        Owned::ServingSecret => {
            Desired { resource_version: version(), ..objects::serving_secret::build(context, plan)? }
        }
        _ => {
            let insecure = found.and_then(|found| found.data.pointer("/spec/insecureSkipTLSVerify"));
            objects::api_service::build(context, object, &plan.bundle, insecure == Some(&Value::Bool(true)))?
        }
    };
    Ok(desired)
}

fn approval_problem(context: Context<'_>, observed: &Observed) -> Option<Problem> {
    if context.spec.metrics_core.kubelet.tls.csr_approval == CsrApproval::Never {
        return None;
    }
    if !context.settings.powers.has(Power::CsrApproval) {
        let field = "spec.metricsCore.kubelet.tls.csrApproval";
        return Some(Power::CsrApproval.missing(field, &context.settings.namespace));
    }
    let why = observed.signing_requests_refused.as_ref().or(observed.approval_refused.as_ref())?;
    Some(Problem::new(
        Reason::ApplyFailed,
        format!(
            "The kubelets' CertificateSigningRequests cannot be read or approved: kube-apiserver returned \"{why}\". If a \
             permission is missing, run `helm upgrade` with the chart of this version and --set {}=true.",
            Power::CsrApproval.chart_value()
        ),
    ))
}

/// What is not asked for any more goes, but for what a kube-apiserver may depend on.
fn with_front_proxy(
    context: Context<'_>,
    observed: &Observed,
    object: Owned,
    plan: Option<&pki::front_proxy::FrontProxyPlan>,
) -> Result<Built, DecideError> {
    if context.spec.certificates.front_proxy.mode == FrontProxyMode::Off {
        return Ok(if stays(context.pipeline, object) { Built::Wanted(Vec::new()) } else { Built::Unwanted });
    }
    let Some(plan) = plan else { return Ok(Built::Wanted(Vec::new())) };
    let mut desired = match object {
        Owned::FrontProxyCaSecret => objects::front_proxy_ca_secret::build(context, plan)?,
        Owned::FrontProxySecret => objects::front_proxy_secret::build(context, plan)?,
        _ => return Ok(Built::Wanted(vec![objects::front_proxy_flags::build(context)?])),
    };
    // A key that somebody else stored meanwhile must not be lost.
    desired.resource_version =
        observed.object(object).and_then(|found| found.metadata.resource_version.clone());
    Ok(Built::Wanted(vec![desired]))
}

fn plan_front_proxy(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
    blocked: &mut BTreeMap<Owned, Problem>,
) -> Option<pki::front_proxy::FrontProxyPlan> {
    if context.spec.certificates.front_proxy.mode == FrontProxyMode::Off {
        return None;
    }
    let settings = context.settings;
    let secrets = [Owned::FrontProxyCaSecret, Owned::FrontProxySecret];
    let problem = if !settings.powers.has(Power::FrontProxy) {
        Power::FrontProxy.missing("spec.certificates.frontProxy", &settings.namespace)
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
    for object in Owned::FRONT_PROXY {
        blocked.entry(object).or_insert_with(|| problem.clone());
    }
    None
}

fn config_map(context: Context<'_>, observed: &Observed) -> Result<Built, DecideError> {
    let pem = match &observed.kubelet_ca {
        KubeletCa::Unused => return Ok(Built::Unwanted),
        KubeletCa::Found(pem) => pem,
        KubeletCa::Missing { place } => return Ok(Built::Blocked(kubelet_ca_missing(context, place))),
        KubeletCa::Unreadable(why) => {
            let reason = if why.forbidden { Reason::PermissionMissing } else { Reason::ApplyFailed };
            let remedy = if why.forbidden {
                "Restore the operator's permissions: run `helm upgrade` with the chart of this version."
            } else {
                "The operator retries."
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

fn deployment(context: Context<'_>, observed: &Observed, now: Timestamp) -> Result<Built, DecideError> {
    let Some(image) = context.image() else {
        return Ok(Built::Blocked(Problem::new(
            Reason::InvalidSpec,
            "spec.metricsCore.image is not set, and the operator was started without --metrics-core-image. Set one of \
            them.",
        )));
    };
    let found = observed.object(Owned::Deployment);
    let template = template::decide(context, observed, now)?;
    let nanny = objects::resources::build(context, &template.resources, template.again)?;
    // What an admission webhook rewrites never agrees; waiting for that would keep it paused for ever.
    let agrees = found.is_some_and(|found| {
        observed.overruled.contains(&(nanny.object, nanny.manager)) || differences(&nanny, found).is_empty()
    });
    // A pod that waits for its place waits in vain when the template changes: no old pod goes for it.
    let order = if agrees {
        let host_network = context.spec.metrics_core.scheduling.host_network;
        rollout::order(host_network, &observed.pods, &observed.resize_rejections, now)
    } else {
        rollout::Order::NewFirst
    };
    // Two field managers write the template; if both have to, no pod is started in between, so it is one rollout.
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

fn removal(observed: &Observed, object: Owned) -> Option<Removal> {
    let found = observed.object(object).filter(|found| is_ours(found))?;
    if found.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Removal { object, uid: found.metadata.uid.clone()?, replaced: None })
}

#[cfg(test)]
mod tests;
