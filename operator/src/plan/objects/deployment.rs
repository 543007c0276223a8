//! The Deployment of metrics-core, without its resources.

use crds::{KubeletTlsMode, PullPolicy, StrategySpec, StrategyType};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, PodAffinityTerm,
    PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecurityContext,
    Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::flags::{CONFIG_DIRECTORY, arguments};
use super::{Context, Desired, selector};
use crate::common::names::PORT_NAME;
use crate::common::{METRICS_CORE, ManagedObject};
use crate::plan::rollout::{Order, surge_and_unavailable};

/// The node label of the operating system that the image runs on.
const OPERATING_SYSTEM: (&str, &str) = ("kubernetes.io/os", "linux");

/// Builds the Deployment. `paused` keeps it from creating pods until the nanny's fields are applied, too: a template that
/// two field managers write would be rolled out twice.
///
/// Nothing in the template depends on the contents of Secret or ConfigMap: metrics-core reloads both, so a new certificate
/// causes no rollout.
pub(crate) fn build(
    context: Context<'_>,
    image: &str,
    order: Order,
    paused: bool,
) -> Result<Desired, serde_json::Error> {
    let core = &context.spec.metrics_core;
    let deployment = Deployment {
        metadata: context.metadata(ManagedObject::Deployment),
        spec: Some(DeploymentSpec {
            replicas: Some(core.replicas),
            revision_history_limit: Some(3),
            paused: paused.then_some(true),
            selector: LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() },
            strategy: Some(core.strategy.as_ref().map_or_else(|| automatic_strategy(order), strategy)),
            template: PodTemplateSpec {
                metadata: Some(context.pod_metadata()),
                spec: Some(pod(context, image)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    Desired::new(ManagedObject::Deployment, &deployment)
}

/// Returns the strategy that the spec sets.
fn strategy(spec: &StrategySpec) -> DeploymentStrategy {
    match spec.type_ {
        StrategyType::RollingUpdate => {
            // The operator always owns both bounds. No field manager owns a bound that kube-apiserver defaults, so it would
            // stay when the type becomes Recreate, and kube-apiserver rejects Recreate with bounds.
            let (surge, unavailable) = surge_and_unavailable(spec.rolling_update.as_ref());
            rolling_update(surge, unavailable)
        }
        StrategyType::Recreate => {
            DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }
        }
    }
}

fn rolling_update(surge: IntOrString, unavailable: IntOrString) -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(surge),
            max_unavailable: Some(unavailable),
        }),
    }
}

/// Returns the strategy if the spec sets none.
fn automatic_strategy(order: Order) -> DeploymentStrategy {
    let (surge, unavailable) = order.surge_and_unavailable();
    rolling_update(IntOrString::Int(surge), IntOrString::Int(unavailable))
}

fn pod(context: Context<'_>, image: &str) -> PodSpec {
    let core = &context.spec.metrics_core;
    let scheduling = &core.scheduling;
    let verifies = core.kubelet.tls.mode != KubeletTlsMode::Insecure;
    let (label, linux) = OPERATING_SYSTEM;
    let mut node_selector = scheduling.node_selector.clone();
    node_selector.entry(label.to_owned()).or_insert_with(|| linux.to_owned());
    PodSpec {
        service_account_name: Some(ManagedObject::ServiceAccount.name().to_owned()),
        automount_service_account_token: Some(true),
        priority_class_name: Some(scheduling.priority_class_name.clone()).filter(|name| !name.is_empty()),
        node_selector: Some(node_selector),
        tolerations: some(scheduling.tolerations.clone(), Vec::is_empty),
        affinity: Some(scheduling.affinity.clone().unwrap_or_else(spread)),
        topology_spread_constraints: some(scheduling.topology_spread_constraints.clone(), Vec::is_empty),
        host_network: scheduling.host_network.then_some(true),
        dns_policy: scheduling.host_network.then(|| "ClusterFirstWithHostNet".to_owned()),
        image_pull_secrets: some(core.image_pull_secrets.clone(), Vec::is_empty),
        // In a large namespace, the environment variables of all Services can keep a container from starting.
        enable_service_links: Some(false),
        // The image or the cluster selects the user: OpenShift assigns each namespace a range of UIDs and rejects others.
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(30),
        containers: vec![container(context, image, verifies)],
        volumes: verifies.then(|| {
            vec![Volume {
                name: "config".to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: ManagedObject::ConfigMap.name().to_owned(),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            }]
        }),
        ..PodSpec::default()
    }
}

fn container(context: Context<'_>, image: &str, verifies: bool) -> Container {
    let core = &context.spec.metrics_core;
    Container {
        name: METRICS_CORE.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(
            match core.image_pull_policy {
                PullPolicy::Always => "Always",
                PullPolicy::IfNotPresent => "IfNotPresent",
                PullPolicy::Never => "Never",
            }
            .to_owned(),
        ),
        args: Some(arguments(context)),
        ports: Some(vec![ContainerPort {
            name: Some(PORT_NAME.to_owned()),
            container_port: core.secure_port_or_default(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        // Every second probe is a TLS handshake; two seconds keep rollouts quick and the cost small.
        readiness_probe: Some(probe("/readyz", 2, 3)),
        // Slow to fail: a restart loses the samples, and readiness already removes the pod from the Service.
        liveness_probe: Some(Probe { initial_delay_seconds: Some(10), ..probe("/livez", 10, 3) }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        // The conditions quote the last log lines of a crash.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: verifies.then(|| {
            vec![VolumeMount {
                name: "config".to_owned(),
                mount_path: CONFIG_DIRECTORY.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            }]
        }),
        ..Container::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(PORT_NAME.to_owned()),
            scheme: Some("HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Returns the default affinity: replicas prefer different nodes.
fn spread() -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(LabelSelector {
                        match_labels: Some(selector()),
                        ..LabelSelector::default()
                    }),
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn some<T>(value: T, is_empty: impl FnOnce(&T) -> bool) -> Option<T> {
    if is_empty(&value) { None } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use crds::{KubeletTlsMode, MetricsPipelineSpec, RollingUpdateSpec, StrategySpec, StrategyType};
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use serde_json::{Value, json};

    fn built(change: impl FnOnce(&mut MetricsPipelineSpec)) -> Value {
        with_context(change, |context| {
            super::build(context, "image:1", super::Order::NewFirst, false).expect("built").body
        })
    }

    #[test]
    fn meets_the_restricted_pod_security_standard() {
        let body = built(|_| {});
        let pod = &body["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(container["readOnlyRootFilesystem"], true);
    }

    /// Without the first, a pod receives requests before it has metrics; without the second, a stuck one is never restarted.
    #[test]
    fn probes_readiness_and_liveness_over_tls() {
        let body = built(|_| {});
        let container = &body["spec"]["template"]["spec"]["containers"][0];
        for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
            assert_eq!(
                container[probe]["httpGet"],
                json!({ "path": path, "port": "https", "scheme": "HTTPS" }),
                "{probe}"
            );
        }
        assert_eq!(container["ports"][0]["name"], "https");
    }

    #[test]
    fn leaves_the_user_to_the_cluster() {
        let body = built(|_| {});
        let context = &body["spec"]["template"]["spec"]["securityContext"];
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(context.get(field), None, "{field}");
        }
    }

    #[test]
    fn selects_linux_nodes_unless_the_spec_sets_a_selector() {
        let selector = |value: Option<&str>| {
            let body = built(|spec| {
                let labels = &mut spec.metrics_core.scheduling.node_selector;
                labels.insert("pool".to_owned(), "a".to_owned());
                labels.extend(value.map(|value| ("kubernetes.io/os".to_owned(), value.to_owned())));
            });
            body["spec"]["template"]["spec"]["nodeSelector"].clone()
        };
        assert_eq!(selector(None), json!({ "kubernetes.io/os": "linux", "pool": "a" }));
        assert_eq!(selector(Some("other")), json!({ "kubernetes.io/os": "other", "pool": "a" }));
    }

    #[test]
    fn leaves_resources_to_the_nanny() {
        assert_eq!(built(|_| {})["spec"]["template"]["spec"]["containers"][0].get("resources"), None);
    }

    #[test]
    fn surges_unless_an_old_pod_must_be_deleted_first() {
        let strategy = |order| {
            with_context(
                |_| {},
                |context| {
                    let body = super::build(context, "image:1", order, false).expect("built").body;
                    body["spec"]["strategy"]["rollingUpdate"].clone()
                },
            )
        };
        assert_eq!(strategy(super::Order::NewFirst), json!({ "maxSurge": 1, "maxUnavailable": 0 }));
        assert_eq!(strategy(super::Order::OldFirst), json!({ "maxSurge": 0, "maxUnavailable": 1 }));
    }

    #[test]
    fn strategy_of_the_spec_replaces_the_automatic_one() {
        let strategy = |type_, rolling_update: Option<RollingUpdateSpec>| {
            let body =
                built(|spec| spec.metrics_core.strategy = Some(StrategySpec { type_, rolling_update }));
            body["spec"]["strategy"].clone()
        };
        let bounds = RollingUpdateSpec {
            max_surge: Some(IntOrString::Int(0)),
            max_unavailable: Some(IntOrString::String("50%".to_owned())),
        };
        assert_eq!(
            strategy(StrategyType::RollingUpdate, Some(bounds)),
            json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "50%" } })
        );
        assert_eq!(strategy(StrategyType::Recreate, None), json!({ "type": "Recreate" }));
    }

    #[test]
    fn sets_the_bounds_that_the_spec_omits() {
        let bounds = |rolling_update: Option<RollingUpdateSpec>| {
            let type_ = StrategyType::RollingUpdate;
            let body =
                built(|spec| spec.metrics_core.strategy = Some(StrategySpec { type_, rolling_update }));
            body["spec"]["strategy"]["rollingUpdate"].clone()
        };
        let defaults = json!({ "maxSurge": "25%", "maxUnavailable": "25%" });
        assert_eq!(bounds(None), defaults);
        assert_eq!(bounds(Some(RollingUpdateSpec::default())), defaults);
        let surge =
            RollingUpdateSpec { max_surge: Some(IntOrString::Int(2)), ..RollingUpdateSpec::default() };
        assert_eq!(bounds(Some(surge)), json!({ "maxSurge": 2, "maxUnavailable": "25%" }));
    }

    #[test]
    fn port_is_4443_unless_the_spec_sets_one() {
        let port = |value| {
            let body = built(|spec| spec.metrics_core.secure_port = value);
            body["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"].clone()
        };
        assert_eq!((port(None), port(Some(10250))), (json!(4443), json!(10250)));
    }

    #[test]
    fn uses_cluster_dns_on_the_host_network() {
        assert_eq!(built(|_| {})["spec"]["template"]["spec"].get("hostNetwork"), None);
        let body = built(|spec| spec.metrics_core.scheduling.host_network = true);
        assert_eq!(body["spec"]["template"]["spec"]["hostNetwork"], true);
        assert_eq!(body["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirstWithHostNet");
    }

    #[test]
    fn mounts_the_kubelet_ca_only_when_it_is_used() {
        let verify = built(|_| {});
        assert_eq!(verify["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"], "metrics-core");
        let insecure = built(|spec| spec.metrics_core.kubelet.tls.mode = KubeletTlsMode::Insecure);
        assert_eq!(insecure["spec"]["template"]["spec"].get("volumes"), None);
    }

    #[test]
    fn affinity_of_the_spec_replaces_the_default() {
        let body = built(|spec| {
            spec.metrics_core.scheduling.affinity = Some(k8s_openapi::api::core::v1::Affinity::default());
        });
        assert_eq!(body["spec"]["template"]["spec"]["affinity"], json!({}));
    }
}
