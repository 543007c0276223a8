//! What the operator owns: every object's kind, name and place, in the order in which they are applied.

use std::fmt;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::core::ApiResource;

use super::Power;
use crate::pki::cert_manager;

/// The name of everything that belongs to metrics-core and is not cluster-scoped.
pub const METRICS_CORE: &str = "metrics-core";

/// The field manager of all fields but the container's resources.
pub const FIELD_MANAGER: &str = "metrics-pipeline-operator";

/// The field manager of the container's resources.
pub const NANNY_FIELD_MANAGER: &str = "metrics-pipeline-nanny";

/// The value of the label `app.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "metrics-pipeline-operator";

/// The label that says who manages an object (Kubernetes, "Recommended Labels").
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// An object that the operator owns. The order is that of applying: rights, then data, then the Service and
/// who stands behind it, and the APIServices last, as a dead one breaks discovery and the deletion of
/// namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owned {
    /// The identity of metrics-core.
    ServiceAccount,
    /// Nodes, pods and the kubelets' metrics.
    CollectorRole,
    /// Grants the above.
    CollectorBinding,
    /// TokenReviews and SubjectAccessReviews.
    AuthDelegatorBinding,
    /// The ConfigMap with the front proxy's CA.
    AuthReaderBinding,
    /// Lets viewers read metrics.
    AggregatedReaderRole,
    /// The serving Secret, and no other.
    Role,
    /// Grants the above.
    RoleBinding,
    /// What cert-manager is asked for.
    Certificate,
    /// The CA's certificate and key.
    CaSecret,
    /// The serving certificate and key.
    ServingSecret,
    /// The kubelets' CA.
    ConfigMap,
    /// The front-proxy CA's certificate and key.
    FrontProxyCaSecret,
    /// The front-proxy client certificate and key.
    FrontProxySecret,
    /// kube-apiserver's flags for them.
    FrontProxyFlags,
    /// What the APIServices point to.
    Service,
    /// metrics-core.
    Deployment,
    /// Keeps a replica during drains.
    DisruptionBudget,
    /// `metrics.k8s.io/v1beta1`.
    ApiServiceV1beta1,
    /// `metrics.k8s.io/v1`.
    ApiServiceV1,
}

/// Where an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In no namespace.
    Cluster,
    /// In the operator's namespace.
    OperatorNamespace,
    /// In `kube-system`.
    KubeSystem,
}

impl Owned {
    /// All, in the order of applying.
    pub const ALL: [Self; 20] = [
        Self::ServiceAccount,
        Self::CollectorRole,
        Self::CollectorBinding,
        Self::AuthDelegatorBinding,
        Self::AuthReaderBinding,
        Self::AggregatedReaderRole,
        Self::Role,
        Self::RoleBinding,
        Self::Certificate,
        Self::CaSecret,
        Self::ServingSecret,
        Self::ConfigMap,
        Self::FrontProxyCaSecret,
        Self::FrontProxySecret,
        Self::FrontProxyFlags,
        Self::Service,
        Self::Deployment,
        Self::DisruptionBudget,
        Self::ApiServiceV1beta1,
        Self::ApiServiceV1,
    ];

    /// The registrations with the aggregation layer.
    pub const API_SERVICES: [Self; 2] = [Self::ApiServiceV1beta1, Self::ApiServiceV1];

    /// What stands behind kube-apiserver's flags for the front proxy.
    pub const FRONT_PROXY: [Self; 3] =
        [Self::FrontProxyCaSecret, Self::FrontProxySecret, Self::FrontProxyFlags];

    /// What gives metrics-core its rights.
    pub const ACCESS: [Self; 8] = [
        Self::ServiceAccount,
        Self::CollectorRole,
        Self::CollectorBinding,
        Self::AuthDelegatorBinding,
        Self::AuthReaderBinding,
        Self::AggregatedReaderRole,
        Self::Role,
        Self::RoleBinding,
    ];

    /// The order of deletion: each step waits until the one before is gone, so that no APIService ever points
    /// to nothing and no pod loses its rights while it serves.
    pub const DISMANTLING: [&[Self]; 3] = [
        &Self::API_SERVICES,
        &[Self::DisruptionBudget, Self::Deployment, Self::Service],
        &[
            Self::FrontProxyFlags,
            Self::FrontProxySecret,
            Self::FrontProxyCaSecret,
            Self::ConfigMap,
            Self::ServingSecret,
            Self::CaSecret,
            Self::Certificate,
            Self::RoleBinding,
            Self::Role,
            Self::AggregatedReaderRole,
            Self::AuthReaderBinding,
            Self::AuthDelegatorBinding,
            Self::CollectorBinding,
            Self::CollectorRole,
            Self::ServiceAccount,
        ],
    ];

    /// Group, version, kind and plural.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::CollectorRole | Self::AggregatedReaderRole => ApiResource::erase::<ClusterRole>(&()),
            Self::CollectorBinding | Self::AuthDelegatorBinding => {
                ApiResource::erase::<ClusterRoleBinding>(&())
            }
            Self::Role => ApiResource::erase::<Role>(&()),
            Self::RoleBinding | Self::AuthReaderBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::Certificate => cert_manager::certificates(),
            Self::CaSecret | Self::ServingSecret | Self::FrontProxyCaSecret | Self::FrontProxySecret => {
                ApiResource::erase::<Secret>(&())
            }
            Self::ConfigMap | Self::FrontProxyFlags => ApiResource::erase::<ConfigMap>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::DisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::ApiServiceV1beta1 | Self::ApiServiceV1 => ApiResource::erase::<APIService>(&()),
        }
    }

    /// `metadata.name`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount
            | Self::Role
            | Self::RoleBinding
            | Self::Certificate
            | Self::ConfigMap
            | Self::Service
            | Self::Deployment
            | Self::DisruptionBudget => METRICS_CORE,
            Self::CaSecret => "metrics-core-ca",
            Self::ServingSecret => "metrics-core-serving",
            Self::FrontProxyCaSecret => "metrics-core-front-proxy-ca",
            Self::FrontProxySecret => "metrics-core-front-proxy",
            Self::FrontProxyFlags => "metrics-core-front-proxy-flags",
            Self::CollectorRole | Self::CollectorBinding => "metrics-core:collector",
            Self::AuthDelegatorBinding => "metrics-core:auth-delegator",
            Self::AuthReaderBinding => "metrics-core:auth-reader",
            Self::AggregatedReaderRole => "metrics-core:aggregated-reader",
            Self::ApiServiceV1beta1 => "v1beta1.metrics.k8s.io",
            Self::ApiServiceV1 => "v1.metrics.k8s.io",
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn place(self) -> Place {
        match self {
            Self::CollectorRole
            | Self::CollectorBinding
            | Self::AuthDelegatorBinding
            | Self::AggregatedReaderRole
            | Self::ApiServiceV1beta1
            | Self::ApiServiceV1 => Place::Cluster,
            Self::AuthReaderBinding => Place::KubeSystem,
            Self::ServiceAccount
            | Self::Role
            | Self::RoleBinding
            | Self::Certificate
            | Self::CaSecret
            | Self::ServingSecret
            | Self::ConfigMap
            | Self::FrontProxyCaSecret
            | Self::FrontProxySecret
            | Self::FrontProxyFlags
            | Self::Service
            | Self::Deployment
            | Self::DisruptionBudget => Place::OperatorNamespace,
        }
    }

    /// `metadata.namespace`.
    #[must_use]
    pub const fn namespace(self, operator_namespace: &str) -> Option<&str> {
        match self.place() {
            Place::Cluster => None,
            Place::OperatorNamespace => Some(operator_namespace),
            Place::KubeSystem => Some("kube-system"),
        }
    }

    /// What must have been applied before this one makes sense.
    #[must_use]
    pub const fn requires(self) -> &'static [Self] {
        match self {
            // A certificate of a CA whose key was not stored could never be renewed with an overlap.
            Self::ServingSecret => &[Self::CaSecret],
            Self::FrontProxySecret => &[Self::FrontProxyCaSecret],
            Self::Deployment => &[Self::ServiceAccount, Self::ServingSecret, Self::ConfigMap],
            Self::ApiServiceV1beta1 | Self::ApiServiceV1 => {
                &[Self::CaSecret, Self::ServingSecret, Self::Service, Self::Deployment]
            }
            _ => &[],
        }
    }

    /// The power that is needed to look at it, if that is an optional one.
    #[must_use]
    pub const fn power(self) -> Option<Power> {
        match self {
            Self::FrontProxyCaSecret | Self::FrontProxySecret | Self::FrontProxyFlags => {
                Some(Power::FrontProxy)
            }
            Self::Certificate => Some(Power::CertManager),
            _ => None,
        }
    }

    /// For people: `Deployment metrics-system/metrics-core`.
    #[must_use]
    pub fn describe(self, operator_namespace: &str) -> String {
        let kind = self.resource().kind;
        match self.namespace(operator_namespace) {
            Some(namespace) => format!("{kind} {namespace}/{}", self.name()),
            None => format!("{kind} {}", self.name()),
        }
    }

    /// The arguments that name it to kubectl: `deployments.apps metrics-core --namespace metrics-system`.
    #[must_use]
    pub fn kubectl(self, operator_namespace: &str) -> String {
        let resource = self.resource();
        let kind = if resource.group.is_empty() {
            resource.plural
        } else {
            format!("{}.{}", resource.plural, resource.group)
        };
        match self.namespace(operator_namespace) {
            Some(namespace) => format!("{kind} {} --namespace {namespace}", self.name()),
            None => format!("{kind} {}", self.name()),
        }
    }
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource().kind, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_order_of_applying_is_the_order_of_the_type() {
        let mut sorted = Owned::ALL;
        sorted.sort_unstable();
        assert_eq!(sorted, Owned::ALL);
        for object in Owned::ALL {
            for required in object.requires() {
                assert!(*required < object, "{object:?} is applied before {required:?}");
            }
        }
    }

    #[test]
    fn every_object_is_dismantled_once() {
        let all: Vec<_> = Owned::DISMANTLING.concat();
        assert_eq!(all.len(), Owned::ALL.len());
        assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(Owned::ALL));
    }

    #[test]
    fn objects_are_described_for_people_and_for_kubectl() {
        assert_eq!(Owned::Deployment.describe("ns"), "Deployment ns/metrics-core");
        assert_eq!(Owned::Deployment.kubectl("ns"), "deployments.apps metrics-core --namespace ns");
        assert_eq!(Owned::ApiServiceV1.kubectl("ns"), "apiservices.apiregistration.k8s.io v1.metrics.k8s.io");
    }
}
