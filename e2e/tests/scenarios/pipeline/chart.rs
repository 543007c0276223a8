//! The chart, checked by Helm and by the API server.

use std::collections::BTreeSet;
use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv};
use e2e::testbed::{binaries, pipeline};
use e2e::{Result, check, command};

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "chart_passes_lint_and_server_side_dry_run",
        Needs::Cluster,
        chart_passes_lint_and_server_side_dry_run,
    );
}

fn chart_passes_lint_and_server_side_dry_run(env: &TestEnv) -> Result<()> {
    let helm = binaries::helm(&env.progress)?;
    let lint = command::output(env.client.command(&helm).args(["lint", "--strict"]).arg(pipeline::chart()))?;
    check!(lint.contains("0 chart(s) failed"), "helm lint: {lint}");
    let everything = [
        "--set",
        "serviceMonitor.enabled=false,networkPolicy.enabled=true,replicas=2,frontProxy.enabled=true,csrApproval.enabled=true,certManager.enabled=true,\
         kubeletCA.namespace=kube-public,kubeletCA.name=ca,previousNamespace=kube-public",
    ];
    for (namespace, values) in
        [("default", &[] as &[&str]), ("default", &everything), ("kube-system", &everything)]
    {
        let mut template = env.client.command(&helm);
        template.args(["template", "metrics-pipeline"]).arg(pipeline::chart());
        let rendered = command::output(template.args(["--namespace", namespace]).args(values))?;
        let mut named: Vec<_> = rendered.split("\n---").filter_map(identity).collect();
        let count = named.len();
        named.sort();
        named.dedup();
        check!(count > 8 && named.len() == count, "in {namespace} two objects have one name: {named:?}");
        env.client.with_manifest(&["apply", "--dry-run=server"], &rendered)?;
        check!(
            !rendered.contains("cluster-admin") && !rendered.contains("escalate"),
            "the chart requests too many permissions"
        );
    }
    for (value, hooks) in [
        ("pipeline.create=true", &["post-install,post-upgrade,post-rollback", "pre-delete"] as &[&str]),
        ("pipeline.keepOnUninstall=true", &["post-install,post-upgrade,post-rollback"]),
        ("pipeline.create=false", &[]),
    ] {
        let mut template = env.client.command(&helm);
        template.args(["template", "metrics-pipeline"]).arg(pipeline::chart()).args(["--set", value]);
        let rendered = command::output(&mut template)?;
        let found: BTreeSet<_> =
            rendered.lines().filter_map(|line| line.trim().strip_prefix("helm.sh/hook: ")).collect();
        check!(found.iter().eq(hooks), "{value}: {found:?}");
        // A hook object is not one of the release: Helm would delete and create it.
        check!(
            !rendered.contains("\nkind: MetricsPipeline\n"),
            "{value}: the MetricsPipeline is an object of the chart"
        );
    }
    let mut wrong = env.client.command(&helm);
    wrong.args(["template", "metrics-pipeline"]).arg(pipeline::chart()).args(["--set", "replicas=many"]);
    let refused = command::output(&mut wrong).map_or_else(|error| error.to_string(), |_| "accepted".into());
    check!(refused.contains("replicas"), "the error does not name the invalid value: {refused}");
    Ok(())
}

/// Returns kind, namespace and name of a rendered object.
fn identity(document: &str) -> Option<[String; 3]> {
    let of = |field: &str| {
        let line = document.lines().find_map(|line| line.strip_prefix(field));
        line.map(|value| value.trim().to_owned())
    };
    Some([of("kind:")?, of("  namespace:").unwrap_or_default(), of("  name:")?])
}
