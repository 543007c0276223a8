//! What remains of an operator that is no longer installed: after `helm uninstall --no-hooks`, or after its namespace was
//! deleted. docs/install.md has the same commands.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use operator::inspect::{Pipeline, is_ours};
use serde_json::{Value, json};

use crate::checks::Checks;
use crate::snapshot::Fetched;
use crate::status;
use crate::tree::{Severity, TreeNode};

/// The label of the operator's objects and of the chart's objects.
const PART_OF: &str = "app.kubernetes.io/part-of=metrics-pipeline";

/// The namespaces beside the operator's in which the chart and the operator create objects.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// What can remain; read if no operator is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// The operator's APIServices whose Service does not exist, each with the Service.
    pub(crate) dead_api_services: Vec<(String, String)>,
    /// The commands that delete the roles and bindings that remain outside of the operator's namespace.
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

/// Reports what remains; `None` if an operator is installed or nothing remains.
pub(crate) fn check(checks: &Checks) -> Option<TreeNode> {
    // If the Deployments can't be read, an operator may be installed.
    if checks.is_installed() || checks.snapshot.operators.is_err() {
        return None;
    }
    let title = "leftovers";
    let left = match &checks.leftovers {
        Ok(left) => left,
        Err(error) => {
            return Some(TreeNode::new(Severity::Unknown, title, format!("Could not be read: {error}")));
        }
    };
    let mut children = Vec::new();
    if !left.dead_api_services.is_empty() {
        children.push(dead_api_services(left));
    }
    let pipelines = checks.snapshot.pipelines.as_deref().unwrap_or_default();
    let held = pipelines.iter().filter(|pipeline| has_our_finalizer(pipeline));
    children.extend(held.map(|pipeline| held_pipeline(pipeline, checks)));
    // They are needed while metrics-core serves.
    if pipelines.is_empty() && !left.deletions.is_empty() {
        let text = format!(
            "Roles and bindings of the chart or of the operator remain. Delete them:\n{}",
            commands(&left.deletions)
        );
        children.push(TreeNode::new(Severity::Warning, "roles and bindings", text));
    }
    if children.is_empty() {
        return None;
    }
    let text = "No operator is installed, but objects of one remain.";
    Some(TreeNode::new(Severity::Warning, title, text).with_children(children))
}

fn dead_api_services(left: &Leftovers) -> TreeNode {
    let names: Vec<_> = left.dead_api_services.iter().map(|(name, _)| name.as_str()).collect();
    let service = left.dead_api_services.first().map_or("", |(_, service)| service);
    let text = format!(
        "Service {service}, to which they point, does not exist. While they exist, kube-apiserver's discovery is incomplete and no \
         namespace can be deleted. Delete them: `kubectl delete apiservice {}`",
        names.join(" ")
    );
    TreeNode::new(Severity::Error, names.join(", "), text)
}

fn has_our_finalizer(pipeline: &Pipeline) -> bool {
    pipeline.finalizers.iter().any(|finalizer| finalizer == crds::FINALIZER)
}

fn held_pipeline(pipeline: &Pipeline, checks: &Checks) -> TreeNode {
    let name = &pipeline.name;
    let ours = checks.api_services.iter().flatten().filter(|object| is_ours(object));
    let api_services: Vec<_> = ours.filter_map(|object| object.metadata.name.as_deref()).collect();
    let others: Vec<_> =
        pipeline.finalizers.iter().filter(|finalizer| *finalizer != crds::FINALIZER).collect();
    let patch = json!({ "metadata": { "finalizers": others } });
    let mut steps = Vec::new();
    if !api_services.is_empty() {
        steps.push(format!("kubectl delete apiservice {}", api_services.join(" ")));
    }
    if !pipeline.deleting {
        steps.push(format!("kubectl delete metricspipeline {name} --wait=false"));
    }
    steps.push(format!("kubectl patch metricspipeline {name} --type=merge --patch '{patch}'"));
    let (severity, state) = if pipeline.deleting {
        (Severity::Error, "is being deleted, but only the operator removes the finalizer")
    } else {
        (Severity::Warning, "can't be deleted without the operator, which removes the finalizer")
    };
    let text = format!(
        "It {state} {}. Install the operator again, and it continues: `{} --set pipeline.create=false`\nTo remove everything \
         without the operator instead, in this order (the garbage collector then deletes the objects that it owns):\n{}",
        crds::FINALIZER,
        status::INSTALL_COMMAND,
        commands(&steps)
    );
    TreeNode::new(severity, format!("MetricsPipeline {name}"), text)
}

/// Returns the commands, one a line.
fn commands(commands: &[String]) -> String {
    commands.iter().map(|command| format!("`{command}`")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
