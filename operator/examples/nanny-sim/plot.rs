//! The plot of a trace: nodes at the top, then the memory of each policy with its changes marked.

use e2e::plot::panels::{Line, Panel, Panels};

use crate::Run;
use crate::cluster::Cluster;

/// Renders the plot as SVG.
pub(crate) fn svg(cluster: &Cluster, runs: &[Run]) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a plot")]
    let nodes: Vec<f64> = cluster.nodes.iter().map(|nodes| *nodes as f64).collect();
    let line = |color, values| Line { color, values, has_steps: true };
    let mut panels = vec![Panel {
        name: "nodes",
        note: String::new(),
        unit: "",
        lines: vec![line("#555", &nodes)],
        changes: &[],
    }];
    panels.extend(runs.iter().map(|run| {
        let color = if run.name.starts_with("addon") { "#b45309" } else { "#1d4ed8" };
        let note = match run.kills {
            0 => format!("{} changes", run.changes.len()),
            kills => format!("{} changes, {kills} × OOM", run.changes.len()),
        };
        let used = Line { color: "#999", values: &cluster.used, has_steps: false };
        let lines = vec![used, line(color, &run.memory)];
        Panel { name: run.name, note, unit: " MiB", lines, changes: &run.changes }
    }));
    let end = format!("{} h; grey: memory in use", cluster.seconds() / 3600);
    Panels { title: cluster.trace.title, panels, end }.svg()
}
