//! Builds the managed objects, one file each.
//!
//! Each is an apply configuration: it has exactly the fields that the operator manages. Other fields stay as
//! kube-apiserver or another writer sets them.

pub(crate) mod aggregated_reader;
pub(crate) mod api_service;
pub(crate) mod auth_delegator;
pub(crate) mod auth_reader;
pub(crate) mod ca_secret;
pub(crate) mod certificate;
pub(crate) mod collector;
pub(crate) mod config_map;
pub(crate) mod deployment;
pub(crate) mod disruption_budget;
pub(crate) mod flags;
pub(crate) mod front_proxy_ca_secret;
pub(crate) mod front_proxy_flags;
pub(crate) mod front_proxy_secret;
pub(crate) mod resources;
pub(crate) mod service;
pub(crate) mod service_account;
pub(crate) mod serving_secret;
pub(crate) mod serving_secret_access;
mod tls_secret;

use std::collections::BTreeMap;
use std::fmt;

use crds::{ExtraMetadata, MetricsPipeline, MetricsPipelineSpec};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

use crate::common::names::NAME_LABEL;
use crate::common::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, METRICS_CORE, ManagedObject};
use crate::nanny::Size;
use crate::observe::Pipeline;
use crate::settings::Settings;

/// The input of every object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The owner.
    pub pipeline: &'a Pipeline,
    /// Its spec.
    pub spec: &'a MetricsPipelineSpec,
    /// The operator's settings.
    pub settings: &'a Settings,
    /// The nanny's size; `None` when the resources are those of the spec.
    pub size: Option<Size>,
    /// The namespace whose replicas still serve while the objects move from there.
    pub serves_from: Option<&'a str>,
}

/// A desired object.
#[derive(Clone, PartialEq)]
pub(crate) struct Desired {
    /// The object.
    pub object: ManagedObject,
    /// The field manager.
    pub manager: &'static str,
    /// The fields.
    pub body: Value,
    /// The version that the plan is based on, where a write to another version could destroy data.
    pub resource_version: Option<String>,
}

// By hand, as the body may be that of a Secret.
impl fmt::Debug for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desired({} by {})", self.object, self.manager)
    }
}

impl Desired {
    /// Creates an object of the operator's main field manager.
    pub(crate) fn new<K: Serialize>(object: ManagedObject, fields: &K) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_value(fields)?;
        Ok(Self { object, manager: FIELD_MANAGER, body, resource_version: None })
    }
}

impl Context<'_> {
    /// Returns the image reference of metrics-core, if an image is set in the spec or in the settings.
    #[must_use]
    pub(crate) fn image(&self) -> Option<String> {
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
    pub(crate) fn metadata(&self, object: ManagedObject) -> ObjectMeta {
        ObjectMeta {
            name: Some(object.name().to_owned()),
            namespace: object.namespace(&self.settings.namespace).map(str::to_owned),
            labels: Some(self.labels(&[&self.spec.common_metadata])),
            annotations: annotations(&[&self.spec.common_metadata]),
            // A cluster-scoped owner may own objects in every namespace. Owner references clean up after a
            // MetricsPipeline whose finalizer was removed by hand.
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
    pub(crate) fn pod_metadata(&self) -> ObjectMeta {
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
            (NAME_LABEL, METRICS_CORE),
            ("app.kubernetes.io/instance", self.pipeline.name.as_str()),
            ("app.kubernetes.io/component", "metrics-server"),
            ("app.kubernetes.io/part-of", "metrics-pipeline"),
            (MANAGED_BY_LABEL, MANAGED_BY),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        extra.iter().flat_map(|extra| extra.labels.clone()).chain(own).collect()
    }

    /// Returns the ServiceAccount of metrics-core as the subject of a binding in its own namespace.
    #[must_use]
    pub(crate) fn subject(&self) -> Subject {
        subject(&self.settings.namespace)
    }

    /// Returns the subjects of a binding outside of that namespace: during a move, the ServiceAccount in the previous
    /// namespace, too.
    #[must_use]
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        std::iter::once(self.settings.namespace.as_str()).chain(self.serves_from).map(subject).collect()
    }
}

fn subject(namespace: &str) -> Subject {
    Subject {
        api_group: None,
        kind: "ServiceAccount".to_owned(),
        name: ManagedObject::ServiceAccount.name().to_owned(),
        namespace: Some(namespace.to_owned()),
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

/// Returns the labels that select the pods. Selectors are immutable, so they do not name the MetricsPipeline.
#[must_use]
pub(crate) fn selector() -> BTreeMap<String, String> {
    [(NAME_LABEL, METRICS_CORE), ("app.kubernetes.io/component", "metrics-server")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
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

    /// Calls a test with a context of default values, after `change`.
    pub(crate) fn with_context<T>(
        change: impl FnOnce(&mut MetricsPipelineSpec),
        test: impl FnOnce(Context<'_>) -> T,
    ) -> T {
        let mut spec = MetricsPipelineSpec::default();
        change(&mut spec);
        let pipeline = Pipeline { uid: "0000-1111".to_owned(), ..Pipeline::for_test("main", spec.clone()) };
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
            ..Settings::default()
        };
        test(Context { pipeline: &pipeline, spec: &spec, settings: &settings, size: None, serves_from: None })
    }

    #[test]
    fn every_object_has_an_owner_reference() {
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
    fn selector_is_part_of_the_labels() {
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
