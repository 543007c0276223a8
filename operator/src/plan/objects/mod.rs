//! The owned objects as they shall be, one file each.
//!
//! Each is an apply configuration: it holds exactly the fields that the operator wants to own. What it leaves
//! out stays as kube-apiserver or somebody else sets it.

pub mod aggregated_reader;
pub mod api_service;
pub mod auth_delegator;
pub mod auth_reader;
pub mod ca_secret;
pub mod certificate;
pub mod collector;
pub mod config_map;
pub mod deployment;
pub mod disruption_budget;
pub mod flags;
pub mod front_proxy_ca_secret;
pub mod front_proxy_flags;
pub mod front_proxy_secret;
pub mod resources;
pub mod service;
pub mod service_account;
pub mod serving_secret;
pub mod serving_secret_access;

use std::collections::BTreeMap;
use std::fmt;

use crds::{ExtraMetadata, GROUP, MetricsPipeline, MetricsPipelineSpec};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

use crate::common::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, METRICS_CORE, ManagedObject};
use crate::nanny::Size;
use crate::observe::Pipeline;
use crate::settings::Settings;

/// What every object is built from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whose it is.
    pub pipeline: &'a Pipeline,
    /// What that asks for.
    pub spec: &'a MetricsPipelineSpec,
    /// What the operator was started with.
    pub settings: &'a Settings,
    /// What the nanny sets the resources to; `None` when they are what the spec says.
    pub size: Option<Size>,
}

/// An object as it shall be.
#[derive(Clone, PartialEq)]
pub struct Desired {
    /// Which.
    pub object: ManagedObject,
    /// Who owns the fields.
    pub manager: &'static str,
    /// The fields.
    pub body: Value,
    /// The version that the decision was made on, where acting on an older one would destroy something.
    pub resource_version: Option<String>,
}

// By hand, as the body may be a Secret's.
impl fmt::Debug for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desired({} by {})", self.object, self.manager)
    }
}

impl Desired {
    /// An object of the operator's main field manager.
    pub fn new<K: Serialize>(object: ManagedObject, fields: &K) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_value(fields)?;
        Ok(Self { object, manager: FIELD_MANAGER, body, resource_version: None })
    }
}

impl Context<'_> {
    /// Returns the image reference of metrics-core, if an image is set in the spec or in the settings.
    #[must_use]
    pub fn image(&self) -> Option<String> {
        let core = &self.spec.metrics_core;
        let image = core.image.as_ref().or(self.settings.image.as_ref())?;
        Some(match &core.image_digest {
            // CRI-O rejects a reference with both tag and digest.
            Some(digest) => format!("{}@{digest}", repository(image)),
            None => image.clone(),
        })
    }

    /// Returns name, namespace, labels, annotations and owner of an object.
    #[must_use]
    pub fn metadata(&self, object: ManagedObject) -> ObjectMeta {
        ObjectMeta {
            name: Some(object.name().to_owned()),
            namespace: object.namespace(&self.settings.namespace).map(str::to_owned),
            labels: Some(self.labels(&[&self.spec.common_metadata])),
            annotations: annotations(&[&self.spec.common_metadata]),
            // A cluster-scoped owner may own objects in every namespace. It is the safety net for a
            // MetricsPipeline whose finalizer somebody removed by hand.
            owner_references: Some(vec![OwnerReference {
                api_version: MetricsPipeline::api_version(&()).into_owned(),
                kind: MetricsPipeline::kind(&()).into_owned(),
                name: self.pipeline.name.clone(),
                uid: self.pipeline.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        }
    }

    /// Returns labels and annotations of the pods.
    #[must_use]
    pub fn pod_metadata(&self) -> ObjectMeta {
        let extra = [&self.spec.common_metadata, &self.spec.metrics_core.pod_metadata];
        ObjectMeta {
            labels: Some(self.labels(&extra)),
            annotations: annotations(&extra),
            ..ObjectMeta::default()
        }
    }

    /// Returns the labels of `extra`, later ones overriding earlier ones, and those of the operator, which nothing
    /// overrides: the selector and the ownership of objects depend on them.
    fn labels(&self, extra: &[&ExtraMetadata]) -> BTreeMap<String, String> {
        let own = [
            ("app.kubernetes.io/name", METRICS_CORE),
            ("app.kubernetes.io/instance", self.pipeline.name.as_str()),
            ("app.kubernetes.io/component", "metrics-server"),
            ("app.kubernetes.io/part-of", "metrics-pipeline"),
            (MANAGED_BY_LABEL, MANAGED_BY),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        extra.iter().flat_map(|extra| extra.labels.clone()).chain(own).collect()
    }

    /// The ServiceAccount of metrics-core as the subject of a binding.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: ManagedObject::ServiceAccount.name().to_owned(),
            namespace: Some(self.settings.namespace.clone()),
        }
    }
}

fn annotations(extra: &[&ExtraMetadata]) -> Option<BTreeMap<String, String>> {
    let annotations: BTreeMap<_, _> = extra.iter().flat_map(|extra| extra.annotations.clone()).collect();
    Some(annotations).filter(|annotations| !annotations.is_empty())
}

/// Returns an image reference without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        // The colon separates host and port of the registry.
        _ => name,
    }
}

/// The labels that select the pods. They can't be changed later, so they name no MetricsPipeline.
#[must_use]
pub fn selector() -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", METRICS_CORE), ("app.kubernetes.io/component", "metrics-server")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The annotation prefix of the API group.
#[must_use]
pub fn annotation(name: &str) -> String {
    format!("{GROUP}/{name}")
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(strings(&[group])),
        resources: Some(strings(resources)),
        verbs: strings(verbs),
        ..PolicyRule::default()
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Calls a test with a context of all defaults, changed as the test likes.
    pub fn with_context<T>(
        change: impl FnOnce(&mut MetricsPipelineSpec),
        test: impl FnOnce(Context<'_>) -> T,
    ) -> T {
        let mut spec = MetricsPipelineSpec::default();
        change(&mut spec);
        let pipeline = Pipeline {
            name: "main".to_owned(),
            uid: "0000-1111".to_owned(),
            resource_version: "1".to_owned(),
            generation: 1,
            created: None,
            deleting: false,
            finalizers: Vec::new(),
            spec: Ok(spec.clone()),
            status: crds::MetricsPipelineStatus::default(),
        };
        let settings = Settings {
            namespace: "metrics-system".to_owned(),
            image: Some("registry.example/metrics-core:1".to_owned()),
            identity: "test".to_owned(),
            certificates: crate::pki::Timing::default(),
            permissions: crate::common::OptionalPermissions {
                front_proxy: true,
                csr_approval: true,
                cert_manager: true,
            },
        };
        test(Context { pipeline: &pipeline, spec: &spec, settings: &settings, size: None })
    }

    #[test]
    fn every_object_names_its_owner() {
        with_context(
            |_| {},
            |context| {
                let metadata = context.metadata(ManagedObject::AuthReaderBinding);
                assert_eq!(metadata.namespace.as_deref(), Some("kube-system"));
                let owners = metadata.owner_references.expect("an owner");
                assert_eq!(
                    (owners[0].kind.as_str(), owners[0].uid.as_str()),
                    ("MetricsPipeline", "0000-1111")
                );
                assert_eq!(metadata.labels.expect("labels")["app.kubernetes.io/instance"], "main");
                assert_eq!(context.metadata(ManagedObject::CollectorRole).namespace, None);
            },
        );
    }

    #[test]
    fn the_selector_is_part_of_the_labels() {
        with_context(
            |_| {},
            |context| {
                let labels = context.labels(&[]);
                assert!(selector().iter().all(|(key, value)| labels.get(key) == Some(value)));
                assert!(labels.keys().all(|key| crds::RESERVED_LABELS.contains(&key.as_str())));
            },
        );
    }

    #[test]
    fn common_metadata_is_added_but_does_not_override_labels_of_the_operator() {
        let common = |spec: &mut MetricsPipelineSpec| {
            spec.common_metadata.labels = strings([("team", "a"), (MANAGED_BY_LABEL, "somebody")]);
            spec.common_metadata.annotations = strings([("note", "b")]);
        };
        let metadata = with_context(common, |context| context.metadata(ManagedObject::Service));
        let labels = metadata.labels.expect("labels");
        assert_eq!((labels["team"].as_str(), labels[MANAGED_BY_LABEL].as_str()), ("a", MANAGED_BY));
        assert_eq!(metadata.annotations, Some(strings([("note", "b")])));
        assert_eq!(
            with_context(|_| {}, |context| context.metadata(ManagedObject::Service)).annotations,
            None
        );
    }

    #[test]
    fn pod_metadata_overrides_common_metadata_on_pods_only() {
        let extra = |spec: &mut MetricsPipelineSpec| {
            spec.common_metadata.labels = strings([("team", "a"), ("tier", "1")]);
            spec.metrics_core.pod_metadata.labels =
                strings([("tier", "2"), ("app.kubernetes.io/name", "other")]);
            spec.metrics_core.pod_metadata.annotations = strings([("mesh/inject", "false")]);
        };
        let (pod, object) = with_context(extra, |context| {
            (context.pod_metadata(), context.metadata(ManagedObject::Deployment))
        });
        let labels = pod.labels.expect("labels");
        assert_eq!((labels["team"].as_str(), labels["tier"].as_str()), ("a", "2"));
        assert!(selector().iter().all(|(key, value)| labels.get(key) == Some(value)));
        assert_eq!(pod.annotations, Some(strings([("mesh/inject", "false")])));
        assert_eq!(object.labels.expect("labels")["tier"], "1");
        assert_eq!(object.annotations, None);
    }

    #[test]
    fn digest_replaces_tag_and_digest_of_the_image() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, expected) in [
            (None, "registry.example/metrics-core"),
            (Some("metrics-core"), "metrics-core"),
            (Some("localhost:5000/metrics-core"), "localhost:5000/metrics-core"),
            (Some("localhost:5000/metrics-core:1@sha256:a"), "localhost:5000/metrics-core"),
        ] {
            let set = |spec: &mut MetricsPipelineSpec| {
                spec.metrics_core.image = image.map(str::to_owned);
                spec.metrics_core.image_digest = Some(digest.clone());
            };
            let image = with_context(set, |context| context.image());
            assert_eq!(image, Some(format!("{expected}@{digest}")));
        }
        let image = with_context(|_| {}, |context| context.image());
        assert_eq!(image.as_deref(), Some("registry.example/metrics-core:1"));
    }

    fn strings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }
}
