//! The ConfigMap with kube-apiserver's flags for the front proxy, for administrators.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Context, Desired};
use crate::common::ManagedObject;
use crate::plan::front_proxy;

/// Builds the ConfigMap: the flags in several formats, and the steps to use them.
pub(crate) fn build(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let flags = front_proxy::flags(&context.spec.certificates.front_proxy, &context.settings.namespace);
    let config_map = ConfigMap {
        metadata: context.metadata(ManagedObject::FrontProxyFlags),
        data: Some(BTreeMap::from([
            ("flags.json".to_owned(), flags.json()),
            ("flags.txt".to_owned(), flags.lines()),
            ("kubeadm.yaml".to_owned(), flags.kubeadm()),
            ("steps.txt".to_owned(), flags.steps()),
            ("systemd.conf".to_owned(), flags.systemd()),
        ])),
        ..ConfigMap::default()
    };
    Desired::new(ManagedObject::FrontProxyFlags, &config_map)
}
