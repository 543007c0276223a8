//! Reads what remains of an operator that is no longer installed: after `helm uninstall --no-hooks`, or after its namespace
//! was deleted.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use operator::inspect::is_ours;
use serde_json::Value;

use crate::snapshot::Fetched;

/// The label of the operator's objects and of the chart's objects.
const PART_OF: &str = "app.kubernetes.io/part-of=metrics-pipeline";

/// The namespaces beside the operator's in which the chart and the operator create objects.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// What can remain; read if no operator is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// The operator's APIServices whose Service does not exist, each with the Service.
    pub(crate) dead_api_services: Vec<(String, String)>,
    /// The commands that delete the roles, bindings and admission policies that remain outside of the operator's namespace.
    pub(crate) deletions: Vec<String>,
}

impl Leftovers {
    /// Reads what remains.
    pub(crate) async fn read(client: &Client, api_services: &Fetched<Vec<DynamicObject>>) -> Fetched<Self> {
        let mut found = Self::default();
        for api_service in api_services.iter().flatten().filter(|object| is_ours(object)) {
            let field = |name: &str| api_service.data.pointer(name).and_then(Value::as_str);
            let (Some(namespace), Some(service)) =
                (field("/spec/service/namespace"), field("/spec/service/name"))
            else {
                continue;
            };
            let services: Api<Service> = Api::namespaced(client.clone(), namespace);
            if services.get_metadata_opt(service).await?.is_none() {
                let name = api_service.metadata.name.clone().unwrap_or_default();
                found.dead_api_services.push((name, format!("{namespace}/{service}")));
            }
        }
        let cluster = [
            (
                "validatingadmissionpolicybindings",
                ApiResource::erase::<ValidatingAdmissionPolicyBinding>(&()),
            ),
            ("validatingadmissionpolicies", ApiResource::erase::<ValidatingAdmissionPolicy>(&())),
            ("clusterrolebindings", ApiResource::erase::<ClusterRoleBinding>(&())),
            ("clusterroles", ApiResource::erase::<ClusterRole>(&())),
        ];
        for (plural, resource) in &cluster {
            let api = Api::all_with(client.clone(), resource);
            found.add(plural, None, &api).await?;
        }
        let namespaced = [
            ("rolebindings", ApiResource::erase::<RoleBinding>(&())),
            ("roles", ApiResource::erase::<Role>(&())),
        ];
        for namespace in NAMESPACES {
            for (plural, resource) in &namespaced {
                let api = Api::namespaced_with(client.clone(), namespace, resource);
                found.add(plural, Some(namespace), &api).await?;
            }
        }
        Ok(found)
    }

    /// Adds the command that deletes the objects of a kind, if there are any.
    async fn add(
        &mut self,
        plural: &str,
        namespace: Option<&str>,
        api: &Api<DynamicObject>,
    ) -> Result<(), kube::Error> {
        let list = api.list_metadata(&ListParams::default().labels(PART_OF).limit(1)).await?;
        if !list.items.is_empty() {
            let place = namespace.map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default();
            self.deletions.push(format!("kubectl delete {plural} --selector {PART_OF}{place}"));
        }
        Ok(())
    }
}
