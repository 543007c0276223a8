//! The namespace that the managed objects were in before the operator was installed into another one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Found, Observed, Pipeline, Unreadable};
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;

/// What is left in the previous namespace.
#[derive(Clone, Debug)]
pub(crate) struct PreviousNamespace {
    /// Its name.
    pub namespace: String,
    /// What was found under the name of each managed object that moves with the operator.
    pub objects: BTreeMap<ManagedObject, Found>,
}

impl PreviousNamespace {
    /// Records that an object is being deleted, or why it could not be.
    pub(super) fn deleted(&mut self, object: ManagedObject, why: Option<Unreadable>) {
        match (self.objects.get_mut(&object), why) {
            (_, Some(why)) => _ = self.objects.insert(object, Found::Unreadable(why)),
            (Some(Found::Present(found)), None) => {
                found.metadata.deletion_timestamp.get_or_insert(Time(Timestamp::now()));
            }
            (_, None) => {}
        }
    }
}

/// Returns the name of the namespace that the managed objects move from; `None` if they are where the operator is. Versions
/// that did not record it in status are recognized by the Service that their APIServices reference.
#[must_use]
pub(crate) fn moves_from<'a>(
    pipeline: &'a Pipeline,
    observed: &'a Observed,
    operator_namespace: &str,
) -> Option<&'a str> {
    let registered =
        || ManagedObject::API_SERVICES.into_iter().find_map(|object| observed.service_namespace(object));
    let from = pipeline.status.namespace.as_deref().or_else(registered)?;
    (from != operator_namespace).then_some(from)
}

impl Observed {
    /// Returns the namespace of the Service that an APIService of the operator references.
    #[must_use]
    pub(crate) fn service_namespace(&self, api_service: ManagedObject) -> Option<&str> {
        let found = self.object(api_service).filter(|found| is_ours(found))?;
        found.data.pointer("/spec/service/namespace")?.as_str()
    }
}
