//! Whether the current generation of a MetricsPipeline is rolled out.

use super::{Evidence, api_service, certificates, deployment};
use crate::common::ManagedObject;
use crate::pki::Rollover;

/// Returns whether the current generation was rolled out before. What happens to the pods after that is no rollout of a
/// generation: a resize by the nanny, a renewed certificate, a drained node.
pub(super) fn was_complete(evidence: Evidence<'_>) -> bool {
    evidence.rolled_out_generation == Some(evidence.generation)
}

/// Returns whether all objects are as the current generation requests, and all replicas are updated and available.
pub(super) fn is_complete(evidence: Evidence<'_>) -> bool {
    let mut objects = certificates::objects(evidence.spec);
    objects.extend(ManagedObject::ACCESS);
    objects.extend(deployment::OBJECTS);
    objects.extend(api_service::OBJECTS);
    let plan = evidence.plan;
    let has_certificates = plan
        .certificates
        .as_ref()
        .is_some_and(|certificates| certificates.rollover != Rollover::Trusting && plan.not_issued.is_none());
    evidence.problem(&objects).is_none() && has_certificates && deployment::is_rolled_out(evidence)
}
