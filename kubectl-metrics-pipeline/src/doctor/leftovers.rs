//! The check of what remains of an operator that is no longer installed. docs/install.md has the same commands.

use operator::inspect::{Pipeline, is_ours};
use serde_json::json;

use crate::checks::Checks;
use crate::leftovers::Leftovers;
use crate::status;
use crate::tree::{Severity, TreeNode};

/// Reports what remains; `None` if an operator is installed or nothing remains.
pub(super) fn check(checks: &Checks) -> Option<TreeNode> {
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
    children.extend(held.map(|pipeline| held_pipeline(pipeline, checks, left)));
    // They are needed while metrics-core serves.
    if pipelines.is_empty() && !left.deletions.is_empty() {
        let text = format!(
            "Roles, bindings or admission policies of the chart or of the operator remain. Delete them:\n{}",
            commands(&left.deletions)
        );
        children.push(TreeNode::new(Severity::Warning, "other objects", text));
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

fn held_pipeline(pipeline: &Pipeline, checks: &Checks, left: &Leftovers) -> TreeNode {
    let name = &pipeline.name;
    let ours = checks.api_services.iter().flatten().filter(|object| is_ours(object));
    // The command for those that are dead is printed already, and would fail the second time.
    let is_dead = |name: &str| left.dead_api_services.iter().any(|(dead, _)| dead == name);
    let names = ours.filter_map(|object| object.metadata.name.as_deref());
    let api_services: Vec<_> = names.filter(|name| !is_dead(name)).collect();
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
