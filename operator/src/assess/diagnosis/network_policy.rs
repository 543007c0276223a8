//! Evaluates which NetworkPolicies block kube-apiserver from metrics-core, or metrics-core from the kubelets.
//!
//! kube-apiserver is not a pod: a rule that allows only pods and namespaces does not allow it. Whether an ipBlock allows it
//! depends on its source address, which the operator cannot know.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::common::label_selector;

/// The effect of all policies of a namespace on traffic with a host that is not a pod, in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PolicyEffect {
    /// No policy selects the pods, or a rule allows every address.
    Open,
    /// These policies allow pods only.
    Blocked(Vec<String>),
    /// These policies allow some addresses only.
    Depends(Vec<String>),
}

/// The direction of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Traffic to the pods.
    Ingress,
    /// Traffic from the pods.
    Egress,
}

/// Returns the effect of the policies. `port` is the destination port: its number and, for ingress, its name in the
/// container.
#[must_use]
pub(super) fn evaluate(
    policies: &[NetworkPolicy],
    labels: &BTreeMap<String, String>,
    direction: Direction,
    port: (i32, Option<&str>),
) -> PolicyEffect {
    let selecting: Vec<_> = policies.iter().filter(|policy| selects(policy, labels, direction)).collect();
    let names = || -> Vec<String> {
        selecting
            .iter()
            .map(|policy| {
                let metadata = &policy.metadata;
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                format!("{}/{}", text(&metadata.namespace), text(&metadata.name))
            })
            .collect()
    };
    if selecting.is_empty() {
        return PolicyEffect::Open;
    }
    let mut depends = false;
    // Policies are additive: one rule that allows the traffic is enough.
    for policy in &selecting {
        for (peers, ports) in rules(policy, direction) {
            if !ports.is_none_or(|ports| ports.is_empty() || ports.iter().any(|one| covers(one, port))) {
                continue;
            }
            match peers {
                None => return PolicyEffect::Open,
                Some(peers) if peers.is_empty() => return PolicyEffect::Open,
                Some(peers) => {
                    for block in peers.iter().filter_map(|peer| peer.ip_block.as_ref()) {
                        let everyone = matches!(block.cidr.as_str(), "0.0.0.0/0" | "::/0");
                        if everyone && block.except.as_ref().is_none_or(Vec::is_empty) {
                            return PolicyEffect::Open;
                        }
                        depends = true;
                    }
                }
            }
        }
    }
    if depends { PolicyEffect::Depends(names()) } else { PolicyEffect::Blocked(names()) }
}

type Rule<'a> = (Option<&'a Vec<NetworkPolicyPeer>>, Option<&'a Vec<NetworkPolicyPort>>);

fn rules(policy: &NetworkPolicy, direction: Direction) -> Vec<Rule<'_>> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    match direction {
        Direction::Ingress => {
            spec.ingress.iter().flatten().map(|rule| (rule.from.as_ref(), rule.ports.as_ref())).collect()
        }
        Direction::Egress => {
            spec.egress.iter().flatten().map(|rule| (rule.to.as_ref(), rule.ports.as_ref())).collect()
        }
    }
}

fn selects(policy: &NetworkPolicy, labels: &BTreeMap<String, String>, direction: Direction) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let applies = match (&spec.policy_types, direction) {
        (Some(types), Direction::Ingress) => types.iter().any(|kind| kind == "Ingress"),
        (Some(types), Direction::Egress) => types.iter().any(|kind| kind == "Egress"),
        // The API's default.
        (None, Direction::Ingress) => true,
        (None, Direction::Egress) => spec.egress.is_some(),
    };
    applies && spec.pod_selector.as_ref().is_none_or(|selector| label_selector::selects(selector, labels))
}

fn covers(rule: &NetworkPolicyPort, (port, name): (i32, Option<&str>)) -> bool {
    if rule.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return false;
    }
    match (&rule.port, rule.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&port),
        (Some(IntOrString::Int(only)), None) => *only == port,
        (Some(IntOrString::String(named)), _) => Some(named.as_str()) == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn policy(spec: Value) -> NetworkPolicy {
        serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "ns" }, "spec": spec }))
            .expect("a policy")
    }

    fn ingress(policies: &[NetworkPolicy]) -> PolicyEffect {
        let labels = BTreeMap::from([("app".to_owned(), "metrics-core".to_owned())]);
        evaluate(policies, &labels, Direction::Ingress, (4443, Some("https")))
    }

    #[test]
    fn only_unrestricted_rules_allow_hosts_that_are_not_pods() {
        let deny = policy(json!({ "podSelector": {}, "policyTypes": ["Ingress"] }));
        let pods = policy(json!({ "podSelector": { "matchLabels": { "app": "metrics-core" } },
            "ingress": [{ "from": [{ "podSelector": {} }], "ports": [{ "port": 4443 }] }] }));
        let open = policy(json!({ "podSelector": {}, "ingress": [{ "ports": [{ "port": "https" }] }] }));
        let other_port = policy(json!({ "podSelector": {}, "ingress": [{ "ports": [{ "port": 80 }] }] }));
        let others = policy(json!({ "podSelector": { "matchExpressions": [
            { "key": "app", "operator": "NotIn", "values": ["metrics-core"] }] }, "policyTypes": ["Ingress"] }));
        let block = policy(
            json!({ "podSelector": {}, "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }] }] }),
        );
        let blocked = PolicyEffect::Blocked(vec!["ns/p".to_owned()]);
        assert_eq!(ingress(&[]), PolicyEffect::Open);
        assert_eq!(ingress(std::slice::from_ref(&others)), PolicyEffect::Open);
        assert_eq!(ingress(std::slice::from_ref(&deny)), blocked);
        assert_eq!(ingress(std::slice::from_ref(&pods)), blocked);
        assert_eq!(ingress(std::slice::from_ref(&other_port)), blocked);
        assert_eq!(ingress(&[deny, open]), PolicyEffect::Open, "policies are additive");
        assert_eq!(ingress(&[block]), PolicyEffect::Depends(vec!["ns/p".to_owned()]));
    }

    #[test]
    fn egress_is_evaluated_only_for_egress_policies() {
        let labels = BTreeMap::new();
        let kubelet = |policy: NetworkPolicy| evaluate(&[policy], &labels, Direction::Egress, (10250, None));
        assert_eq!(kubelet(policy(json!({ "podSelector": {}, "ingress": [] }))), PolicyEffect::Open);
        assert!(matches!(
            kubelet(policy(json!({ "podSelector": {}, "policyTypes": ["Egress"] }))),
            PolicyEffect::Blocked(_)
        ));
        let ranged = json!({ "podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{ "ports": [{ "port": 10000, "endPort": 11000 }] }] });
        assert_eq!(kubelet(policy(ranged)), PolicyEffect::Open);
    }
}
