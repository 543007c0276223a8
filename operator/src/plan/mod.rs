//! Decides what should change: which objects, certificates, sizes and finalizers.
//!
//! This is the second step of a round. [`Planner::plan`] turns what was observed into a [`Plan`]. It has no client and no
//! clock: the same input gives the same plan, but for new private keys. [`objects`] has one file for each managed object;
//! [`differences`] compares an object with what is desired.

mod blocked;
pub(crate) mod cert_manager;
pub(crate) mod certificates;
mod diff;
pub(crate) mod front_proxy;
mod maintain;
mod migration;
mod nanny;
pub(crate) mod objects;
mod planner;
mod role_ref;
pub(crate) mod rollout;
mod stored_secret;
mod teardown;
mod template;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::common::{ManagedObject, Problem};
use crate::csr::AllowList;
use crate::nanny::RecommendedSize;
use crate::nanny::resize::ResizeBlocker;
use crate::observe::{ActivePipeline, ExpectedCertificate, Pipeline, select_active};
use crate::pki;

pub(crate) use diff::differences;
pub(crate) use objects::Desired;
pub(crate) use planner::{PlanError, Planner};

/// What should be done in one round.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The MetricsPipelines that the plan was made for.
    pub pipelines: Vec<Pipeline>,
    /// What should be done for the active one.
    pub action: Action,
    /// When the nanny needs the next round at the latest.
    pub nanny_due: Option<Timestamp>,
}

impl Plan {
    /// Returns the MetricsPipelines, sorted by what happens to them.
    #[must_use]
    pub(crate) fn roles(&self) -> ActivePipeline<'_> {
        select_active(&self.pipelines)
    }
}

/// What should be done for the active MetricsPipeline.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Nothing: there is no active MetricsPipeline.
    Idle,
    /// Add the finalizer. Nothing is created before it is there.
    AddFinalizer,
    /// Apply and delete objects until they are as desired.
    Maintain(Box<MaintainPlan>),
    /// Delete objects in order, as the MetricsPipeline is being deleted.
    TearDown(TeardownPlan),
    /// Remove the finalizer: everything is deleted.
    RemoveFinalizer,
    /// Leave everything as it is: take the owner reference from each object, then remove the finalizer.
    Orphan(Vec<Release>),
}

/// The plan for a MetricsPipeline that is not being deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct MaintainPlan {
    /// Objects as they should be, in the order of applying.
    pub desired: Vec<Desired>,
    /// Objects to delete.
    pub removals: Vec<Removal>,
    /// Objects that are left alone in this round, with the reason.
    pub blocked: BTreeMap<ManagedObject, Problem>,
    /// The certificates, unless they could not be planned.
    pub certificates: Option<pki::ServingPlan>,
    /// Why cert-manager's certificate is not what the spec requests.
    pub not_issued: Option<Problem>,
    /// The front-proxy certificates, if the spec requests them and they could be planned.
    pub front_proxy: Option<pki::front_proxy::FrontProxyPlan>,
    /// The names and addresses in kubelets' CertificateSigningRequests that are approved; `None` if none is.
    pub approve_csrs: Option<AllowList>,
    /// Why they can't be approved although the spec requests it.
    pub csr_approval: Option<Problem>,
    /// The certificate that the replicas must serve before the old CA is dropped; `None` while no CA is replaced.
    pub expected_certificate: Option<ExpectedCertificate>,
    /// The resources of metrics-core.
    pub sizing: Sizing,
    /// The namespace of the managed objects, as status records it.
    pub namespace: String,
    /// The rest of a move from another namespace.
    pub migration: Option<MigrationPlan>,
}

/// What must be done in the namespace that the managed objects move from.
#[derive(Clone, Debug)]
pub(crate) struct MigrationPlan {
    /// The namespace.
    pub from: String,
    /// Objects to delete there now.
    pub removals: Vec<Removal>,
    /// Why objects there can't be deleted.
    pub problem: Option<Problem>,
}

/// The resources of metrics-core.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sizing {
    /// The nanny's recommendation; `None` when it is off or has no data yet.
    pub recommended: Option<RecommendedSize>,
    /// The resources that pods should have, when the recommendation is applied.
    pub wanted: Option<ResourceRequirements>,
    /// The resources that the Deployment's template should have.
    pub template: Option<ResourceRequirements>,
    /// The resources before a rollout for the size: those of the template when it changes, else those of the pods that
    /// are recreated.
    pub template_from: Option<ResourceRequirements>,
    /// Why pods can't be resized in place and are recreated for their size.
    pub rollout_blocker: Option<ResizeBlocker>,
    /// Whether the rollout for the size is reverted, as its new pods can't be scheduled.
    pub reverts_rollout: bool,
}

/// A managed object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    /// The object.
    pub object: ManagedObject,
    /// Its `metadata.uid`: another object of the same name is not deleted.
    pub uid: String,
    /// For an object that is recreated: a sentence that says why.
    pub replaced: Option<String>,
}

/// An object that outlives its owner.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Release {
    /// The object.
    pub object: ManagedObject,
    /// Its `metadata.uid`.
    pub uid: String,
    /// The version that was observed.
    pub resource_version: Option<String>,
    /// The owner references of others.
    pub owner_references: Vec<OwnerReference>,
}

/// The plan for a MetricsPipeline that is being deleted: the first step of the teardown that is not done.
#[derive(Clone, Debug)]
pub(crate) struct TeardownPlan {
    /// Objects to delete now.
    pub removals: Vec<Removal>,
    /// Objects that must be gone before the next step.
    pub waiting: Vec<ManagedObject>,
    /// Objects that can't be read, with the reason.
    pub blocked: BTreeMap<ManagedObject, Problem>,
}
