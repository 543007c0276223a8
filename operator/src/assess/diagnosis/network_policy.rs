//! Which NetworkPolicies keep kube-apiserver from metrics-core, or metrics-core from the kubelets.
//!
//! kube-apiserver is no pod: a rule that admits only pods and namespaces does not admit it. Whether an address
//! block does depends on the address that it comes from, which only the network knows.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What the policies of a namespace mean for one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyEffect {
    /// None of them selects the pods, or one lets everybody through.
    Open,
    /// Who is no pod is kept out, by these.
    Blocked(Vec<String>),
    /// It depends on addresses, by these.
    Depends(Vec<String>),
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the pods.
    Ingress,
    /// From the pods.
    Egress,
}

/// Judges the policies. `port` is where the packets go, by number and, for ingress, by the container's name.
#[must_use]
pub fn evaluate(
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
    // Policies add up: one rule that admits is enough.
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
    applies && spec.pod_selector.as_ref().is_none_or(|selector| matches(selector, labels))
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|wanted| {
        let value = labels.get(&wanted.key);
        let listed = || value.is_some_and(|value| wanted.values.iter().flatten().any(|one| one == value));
        match wanted.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal && expressions
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
    fn who_is_no_pod_is_admitted_by_open_rules_only() {
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
        assert_eq!(ingress(&[deny, open]), PolicyEffect::Open, "policies add up");
        assert_eq!(ingress(&[block]), PolicyEffect::Depends(vec!["ns/p".to_owned()]));
    }

    #[test]
    fn egress_counts_only_where_it_is_meant() {
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
