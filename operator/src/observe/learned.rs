//! What the apply step learned, for the observer to take over without another request.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;

use super::{ExpectedCertificate, Source, Unreadable};
use crate::common::ManagedObject;
use crate::nanny::resize::ResizeRejections;

/// One thing that the apply step learned.
pub(crate) enum Learned {
    /// An object as kube-apiserver returned it from a write.
    Written(ManagedObject, Box<DynamicObject>),
    /// Whether an admission webhook mutates what a field manager applies to an object.
    MutatedByAdmission(ManagedObject, &'static str, bool),
    /// A pod as kube-apiserver returned it from a resize.
    Resized(Box<Pod>),
    /// Every rejected resize that is not retried yet.
    ResizeRejections(ResizeRejections),
    /// The error of the last approval of kubelets' CSRs, if there was one.
    CsrApprovalError(Option<String>),
    /// An object was deleted from the previous namespace, or why not. It may still terminate.
    DeletedFromPreviousNamespace(ManagedObject, Option<Unreadable>),
    /// Why pending requests of kubelets are not approved, by Node: the name of the request, and the reason.
    CsrsNotApproved(BTreeMap<String, (String, String)>),
    /// The source must be read again before the next plan.
    Outdated(Source),
    /// The certificate that every replica must serve before the old CA is dropped; `None` while no CA is replaced.
    ExpectedCertificate(Option<Box<ExpectedCertificate>>),
}
