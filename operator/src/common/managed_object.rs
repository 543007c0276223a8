//! The objects that the operator manages: one table of kind, name, place, dependencies and optional permission.

use std::fmt;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::core::{ApiResource, GroupVersionKind};

use super::names::{CERT_MANAGER_GROUP, METRICS_CORE};
use super::optional_permission::OptionalPermission;

/// An object that the operator manages. The order is that of applying: RBAC, then certificates and configuration, then
/// the workload, and the APIServices last, as one without a server breaks discovery and the deletion of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ManagedObject {
    /// The identity of metrics-core.
    ServiceAccount,
    /// Lets metrics-core list nodes and pods and scrape kubelets.
    CollectorRole,
    /// Binds the role above to the ServiceAccount.
    CollectorBinding,
    /// Lets metrics-core create TokenReviews and SubjectAccessReviews.
    AuthDelegatorBinding,
    /// Lets metrics-core read kube-system/extension-apiserver-authentication.
    AuthReaderBinding,
    /// Lets users with the role `view` read metrics.
    AggregatedReaderRole,
    /// Lets metrics-core read the serving Secret, and no other Secret.
    Role,
    /// Binds the role above to the ServiceAccount.
    RoleBinding,
    /// The certificate that cert-manager issues, where the spec selects it.
    Certificate,
    /// The CA's certificate and key.
    CaSecret,
    /// The serving certificate and key.
    ServingSecret,
    /// The CA bundle that verifies the kubelets' serving certificates.
    ConfigMap,
    /// The front-proxy CA's certificate and key.
    FrontProxyCaSecret,
    /// The front-proxy client certificate and key.
    FrontProxySecret,
    /// The kube-apiserver flags that use the front-proxy certificates.
    FrontProxyFlags,
    /// The backend of the APIServices.
    Service,
    /// The pods of metrics-core.
    Deployment,
    /// The PodDisruptionBudget that keeps a replica during drains.
    DisruptionBudget,
    /// `metrics.k8s.io/v1beta1`.
    ApiServiceV1beta1,
    /// `metrics.k8s.io/v1`.
    ApiServiceV1,
}

/// The namespace of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// None: the object is cluster-scoped.
    Cluster,
    /// The operator's namespace.
    OperatorNamespace,
    /// `kube-system`.
    KubeSystem,
}

/// The part of the installation that an object belongs to. It decides when the object is deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The identity and permissions of metrics-core.
    Access,
    /// What metrics-core reads at run time: certificates and CA bundles.
    Data,
    /// The front-proxy certificates of kube-apiserver.
    FrontProxy,
    /// The pods and what keeps and selects them.
    Workload,
    /// The registrations with the aggregation layer.
    ApiService,
}

/// One row of [`TABLE`].
struct Row {
    object: ManagedObject,
    /// Group, version, kind and plural.
    resource: fn() -> ApiResource,
    name: &'static str,
    place: Place,
    part: Part,
    /// The objects that must be applied before this one.
    requires: &'static [ManagedObject],
    /// The permission without which the operator can't read the object.
    permission: Option<OptionalPermission>,
}

use ManagedObject as Object;
use Part::{Access, ApiService, Data, FrontProxy, Workload};
use Place::{Cluster, KubeSystem, OperatorNamespace};

/// All managed objects, in the order of [`ManagedObject`].
const TABLE: [Row; 20] = [
    row(Object::ServiceAccount, erase::<ServiceAccount>, METRICS_CORE, OperatorNamespace, Access),
    row(Object::CollectorRole, erase::<ClusterRole>, "metrics-core:collector", Cluster, Access),
    row(Object::CollectorBinding, erase::<ClusterRoleBinding>, "metrics-core:collector", Cluster, Access),
    row(
        Object::AuthDelegatorBinding,
        erase::<ClusterRoleBinding>,
        "metrics-core:auth-delegator",
        Cluster,
        Access,
    ),
    row(Object::AuthReaderBinding, erase::<RoleBinding>, "metrics-core:auth-reader", KubeSystem, Access),
    row(
        Object::AggregatedReaderRole,
        erase::<ClusterRole>,
        "metrics-core:aggregated-reader",
        Cluster,
        Access,
    ),
    row(Object::Role, erase::<Role>, METRICS_CORE, OperatorNamespace, Access),
    row(Object::RoleBinding, erase::<RoleBinding>, METRICS_CORE, OperatorNamespace, Access),
    row(Object::Certificate, certificate, METRICS_CORE, OperatorNamespace, Data)
        .needs(OptionalPermission::CertManager),
    row(Object::CaSecret, erase::<Secret>, "metrics-core-ca", OperatorNamespace, Data),
    // A certificate of a CA whose key was not stored could not be renewed with an overlap.
    row(Object::ServingSecret, erase::<Secret>, "metrics-core-serving", OperatorNamespace, Data)
        .requires(&[Object::CaSecret]),
    row(Object::ConfigMap, erase::<ConfigMap>, METRICS_CORE, OperatorNamespace, Data),
    row(
        Object::FrontProxyCaSecret,
        erase::<Secret>,
        "metrics-core-front-proxy-ca",
        OperatorNamespace,
        FrontProxy,
    )
    .needs(OptionalPermission::FrontProxy),
    row(Object::FrontProxySecret, erase::<Secret>, "metrics-core-front-proxy", OperatorNamespace, FrontProxy)
        .requires(&[Object::FrontProxyCaSecret])
        .needs(OptionalPermission::FrontProxy),
    row(
        Object::FrontProxyFlags,
        erase::<ConfigMap>,
        "metrics-core-front-proxy-flags",
        OperatorNamespace,
        FrontProxy,
    )
    .needs(OptionalPermission::FrontProxy),
    row(Object::Service, erase::<Service>, METRICS_CORE, OperatorNamespace, Workload),
    row(Object::Deployment, erase::<Deployment>, METRICS_CORE, OperatorNamespace, Workload).requires(&[
        Object::ServiceAccount,
        Object::ServingSecret,
        Object::ConfigMap,
    ]),
    row(Object::DisruptionBudget, erase::<PodDisruptionBudget>, METRICS_CORE, OperatorNamespace, Workload),
    row(Object::ApiServiceV1beta1, erase::<APIService>, "v1beta1.metrics.k8s.io", Cluster, ApiService)
        .requires(API_SERVICE_REQUIRES),
    row(Object::ApiServiceV1, erase::<APIService>, "v1.metrics.k8s.io", Cluster, ApiService)
        .requires(API_SERVICE_REQUIRES),
];

/// What both APIServices need: the CA that they announce, and a server.
const API_SERVICE_REQUIRES: &[Object] =
    &[Object::CaSecret, Object::ServingSecret, Object::Service, Object::Deployment];

fn erase<K: kube::Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

fn certificate() -> ApiResource {
    let kind = GroupVersionKind::gvk(CERT_MANAGER_GROUP, "v1", "Certificate");
    ApiResource::from_gvk_with_plural(&kind, "certificates")
}

const fn row(
    object: Object,
    resource: fn() -> ApiResource,
    name: &'static str,
    place: Place,
    part: Part,
) -> Row {
    Row { object, resource, name, place, part, requires: &[], permission: None }
}

impl Row {
    const fn requires(self, requires: &'static [Object]) -> Self {
        Self { requires, ..self }
    }

    const fn needs(self, permission: OptionalPermission) -> Self {
        Self { permission: Some(permission), ..self }
    }
}

/// Returns the `N` objects of a part, in the order of applying.
const fn of_part<const N: usize>(part: Part) -> [Object; N] {
    let mut found = [Object::ServiceAccount; N];
    let (mut row, mut count) = (0, 0);
    while row < TABLE.len() {
        if TABLE[row].part as u8 == part as u8 {
            found[count] = TABLE[row].object;
            count += 1;
        }
        row += 1;
    }
    assert!(count == N);
    found
}

impl ManagedObject {
    /// All objects, in the order of applying.
    pub(crate) const ALL: [Self; TABLE.len()] = {
        let mut all = [Self::ServiceAccount; TABLE.len()];
        let mut row = 0;
        while row < TABLE.len() {
            all[row] = TABLE[row].object;
            row += 1;
        }
        all
    };

    /// The registrations with the aggregation layer.
    pub(crate) const API_SERVICES: [Self; 2] = of_part(ApiService);

    /// The front-proxy certificates and the flags that use them.
    pub(crate) const FRONT_PROXY: [Self; 3] = of_part(FrontProxy);

    /// The identity and permissions of metrics-core.
    pub(crate) const ACCESS: [Self; 8] = of_part(Access);

    /// Returns the steps of the teardown. Each step waits until the one before is gone, so that no APIService ever
    /// lacks its server and no pod loses its permissions while it serves.
    #[must_use]
    pub(crate) fn teardown() -> [Vec<Self>; 3] {
        let reversed = |parts: &[Part]| {
            let rows = TABLE.iter().rev().filter(|row| parts.contains(&row.part));
            rows.map(|row| row.object).collect::<Vec<_>>()
        };
        [Self::API_SERVICES.to_vec(), reversed(&[Workload]), reversed(&[FrontProxy, Data, Access])]
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Returns group, version, kind and plural.
    #[must_use]
    pub(crate) fn resource(self) -> ApiResource {
        (self.row().resource)()
    }

    /// Returns `metadata.name`.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns `metadata.namespace`; `None` for a cluster-scoped object.
    #[must_use]
    pub(crate) const fn namespace(self, operator_namespace: &str) -> Option<&str> {
        match self.row().place {
            Cluster => None,
            OperatorNamespace => Some(operator_namespace),
            KubeSystem => Some("kube-system"),
        }
    }

    /// Whether the object is in the operator's namespace, and moves with it.
    #[must_use]
    pub(crate) const fn is_in_operator_namespace(self) -> bool {
        matches!(self.row().place, OperatorNamespace)
    }

    /// Returns the objects that must be applied before this one.
    #[must_use]
    pub(crate) const fn requires(self) -> &'static [Self] {
        self.row().requires
    }

    /// Returns the optional permission without which the operator can't read the object.
    #[must_use]
    pub(crate) const fn permission(self) -> Option<OptionalPermission> {
        self.row().permission
    }

    /// Returns kind, namespace and name for messages: `Deployment metrics-system/metrics-core`.
    #[must_use]
    pub(crate) fn describe(self, operator_namespace: &str) -> String {
        let kind = self.resource().kind;
        match self.namespace(operator_namespace) {
            Some(namespace) => format!("{kind} {namespace}/{}", self.name()),
            None => format!("{kind} {}", self.name()),
        }
    }

    /// Returns the arguments that select the object with kubectl:
    /// `deployments.apps metrics-core --namespace metrics-system`.
    #[must_use]
    pub(crate) fn kubectl(self, operator_namespace: &str) -> String {
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

impl fmt::Display for ManagedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource().kind, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_has_the_order_of_the_type_and_dependencies_come_first() {
        let mut sorted = Object::ALL;
        sorted.sort_unstable();
        assert_eq!(sorted, Object::ALL);
        for (index, object) in Object::ALL.into_iter().enumerate() {
            assert_eq!(object as usize, index);
            for required in object.requires() {
                assert!(*required < object, "{object:?} is applied before {required:?}");
            }
        }
    }

    #[test]
    fn teardown_deletes_every_object_once() {
        let all: Vec<_> = Object::teardown().concat();
        assert_eq!(all.len(), Object::ALL.len());
        assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(Object::ALL));
    }

    #[test]
    fn describes_objects_for_messages_and_for_kubectl() {
        assert_eq!(Object::Deployment.describe("ns"), "Deployment ns/metrics-core");
        assert_eq!(Object::Deployment.kubectl("ns"), "deployments.apps metrics-core --namespace ns");
        assert_eq!(
            Object::ApiServiceV1.kubectl("ns"),
            "apiservices.apiregistration.k8s.io v1.metrics.k8s.io"
        );
    }
}
