//! Builds the status of a MetricsPipeline from conditions and details; a time changes only with what it dates.

use std::collections::BTreeMap;

use crds::{
    CertificateStatus, CertificatesStatus, ConditionType, MetricsPipelineStatus, NannyStatus, NodesStatus,
    NodesWithCause,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as StoredCondition, Time};

use crate::assess::conditions::Condition;
use crate::common::{ManagedObject, Problem};
use crate::observe::Pipeline;
use crate::pki::{self, Certificate};

/// The parts of the status beside the conditions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Details<'a> {
    /// The namespace of the managed objects.
    pub namespace: Option<&'a str>,
    /// The certificates.
    pub certificates: Option<&'a pki::ServingPlan>,
    /// The front proxy's certificates.
    pub front_proxy: Option<&'a pki::front_proxy::FrontProxyPlan>,
    /// The counts of nodes with metrics and of all nodes.
    pub nodes: Option<(usize, usize)>,
    /// The nanny's recommendation and last change.
    pub nanny: Option<&'a NannyStatus>,
    /// Nodes that can't be scraped, by cause.
    pub causes: &'a [NodesWithCause],
    /// Objects that could not be written. A certificate that was not stored is not in the status.
    pub failed: Option<&'a BTreeMap<ManagedObject, Problem>>,
}

/// Returns the new status. A condition type that was not evaluated keeps its stored condition. So does a type that this
/// version does not know: another controller or version may own it.
#[must_use]
pub(super) fn status(
    pipeline: &Pipeline,
    evaluated: &[Condition],
    details: Option<Details<'_>>,
    now: Timestamp,
) -> MetricsPipelineStatus {
    let old = &pipeline.status;
    let mut conditions: Vec<StoredCondition> = ConditionType::ALL
        .iter()
        .filter_map(|type_| {
            let before = old.conditions.iter().find(|condition| condition.type_ == type_.as_str());
            match evaluated.iter().find(|condition| condition.kind == *type_) {
                Some(new) => Some(condition(new, before, pipeline.generation, now)),
                None => before.cloned(),
            }
        })
        .collect();
    let unknown = old
        .conditions
        .iter()
        .filter(|condition| !ConditionType::ALL.iter().any(|type_| type_.as_str() == condition.type_));
    conditions.extend(unknown.cloned());
    MetricsPipelineStatus {
        observed_generation: Some(pipeline.generation),
        namespace: details
            .map_or_else(|| old.namespace.clone(), |details| details.namespace.map(str::to_owned)),
        conditions,
        nodes: details.map_or_else(
            || old.nodes.clone(),
            |details| details.nodes.map(|counts| nodes(counts, details.causes)),
        ),
        certificates: match details {
            Some(details) => certificates(details, &old.certificates.clone().unwrap_or_default()),
            None => old.certificates.clone(),
        },
        nanny: details.map_or_else(|| old.nanny.clone(), |details| details.nanny.cloned()),
    }
}

fn condition(
    new: &Condition,
    before: Option<&StoredCondition>,
    generation: i64,
    now: Timestamp,
) -> StoredCondition {
    let status = new.status.as_str();
    // lastTransitionTime changes with the status only, not with the message (API conventions).
    let since =
        before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    StoredCondition {
        type_: new.kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: new.reason.as_str().to_owned(),
        message: bounded(&new.message),
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or(Time(seconds(now))),
    }
}

/// Truncates a message. `metav1.Condition` admits 32,768 bytes, more than anyone reads.
fn bounded(message: &str) -> String {
    message.chars().take(2048).collect()
}

/// Truncates to whole seconds, as Kubernetes stores times.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn nodes((covered, total): (usize, usize), causes: &[NodesWithCause]) -> NodesStatus {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    NodesStatus {
        total: number(total),
        covered: number(covered),
        summary: format!("{covered}/{total}"),
        causes: causes.to_vec(),
    }
}

fn certificates(details: Details<'_>, old: &CertificatesStatus) -> Option<CertificatesStatus> {
    let of = |certificate: &Certificate, renewed: bool| CertificateStatus {
        not_after: Time(seconds(certificate.not_after)),
        renewal_time: renewed.then(|| Time(seconds(certificate.renewal_time()))),
    };
    let one = |certificate: &Certificate| of(certificate, true);
    let stored = |secret: ManagedObject,
                  planned: Option<CertificateStatus>,
                  old: &Option<CertificateStatus>| {
        if details.failed.is_some_and(|failed| failed.contains_key(&secret)) { old.clone() } else { planned }
    };
    let (serving, front_proxy) = (details.certificates, details.front_proxy);
    let ca = serving.map(|plan| of(&plan.ca_certificate, plan.ca.is_some()));
    let leaf = serving.map(|plan| of(&plan.serving_certificate, plan.ca.is_some()));
    let client = front_proxy.map(|plan| one(&plan.client_certificate));
    let front_proxy_ca = front_proxy.map(|plan| one(&plan.ca_certificate));
    let status = CertificatesStatus {
        ca: stored(ManagedObject::CaSecret, ca, &old.ca),
        serving: stored(ManagedObject::ServingSecret, leaf, &old.serving),
        front_proxy_ca: stored(ManagedObject::FrontProxyCaSecret, front_proxy_ca, &old.front_proxy_ca),
        front_proxy: stored(ManagedObject::FrontProxySecret, client, &old.front_proxy),
    };
    (status != CertificatesStatus::default()).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::conditions::{ConditionStatus, malformed};
    use crds::Reason;

    fn pipeline() -> Pipeline {
        Pipeline { generation: 4, ..Pipeline::for_test("a", crds::MetricsPipelineSpec::default()) }
    }

    #[test]
    fn has_all_conditions_from_the_first_round() {
        let status = status(&pipeline(), &malformed("x"), None, Timestamp::UNIX_EPOCH);
        let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ConditionType::ALL.map(ConditionType::as_str));
        assert!(
            status
                .conditions
                .iter()
                .all(|condition| condition.observed_generation == Some(4) && !condition.reason.is_empty())
        );
    }

    #[test]
    fn transition_time_changes_with_the_status_only() {
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        let ready = |status: ConditionStatus, message: &str| {
            [Condition::new(ConditionType::Ready, status, Reason::AsExpected, message)]
        };
        let mut pipeline = pipeline();
        pipeline.status = status(&pipeline, &ready(ConditionStatus::True, "1 of 1"), None, at(1));
        // As kube-apiserver returns it.
        let stored = serde_json::to_value(&pipeline.status).expect("JSON");
        pipeline.status = serde_json::from_value(stored).expect("a status");
        assert_eq!(status(&pipeline, &ready(ConditionStatus::True, "1 of 1"), None, at(2)), pipeline.status);
        let message = status(&pipeline, &ready(ConditionStatus::True, "1 of 2"), None, at(2));
        assert_eq!(message.conditions[0].last_transition_time, Time(at(1)));
        let lost = status(&pipeline, &ready(ConditionStatus::False, "0 of 2"), None, at(3));
        assert_eq!(lost.conditions[0].last_transition_time, Time(at(3)));
    }

    #[test]
    fn keeps_conditions_of_other_writers() {
        let mut pipeline = pipeline();
        let foreign: StoredCondition = serde_json::from_value(serde_json::json!({
            "type": "Other", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }))
        .expect("a condition");
        pipeline.status.conditions = vec![foreign.clone()];
        let status = status(&pipeline, &malformed("x"), None, Timestamp::UNIX_EPOCH);
        assert_eq!(status.conditions.last(), Some(&foreign));
    }
}
