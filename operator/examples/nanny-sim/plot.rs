//! A plot of a trace as SVG: nodes above, then memory for each policy with its changes marked.

use std::fmt::Write as _;

use crate::Run;
use crate::cluster::Cluster;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 96.0;
const GAP: f64 = 22.0;
const TOP: f64 = 40.0;
/// The colour of what is used.
const USED: &str = "#999";

/// The plot.
#[allow(clippy::cast_precision_loss, reason = "a plot")]
pub fn svg(cluster: &Cluster, runs: &[Run]) -> String {
    let height = TOP + (PANEL + GAP) * (runs.len() + 1) as f64 + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
        cluster.trace.title
    );
    let nodes: Vec<f64> = cluster.nodes.iter().map(|nodes| *nodes as f64).collect();
    panel(&mut svg, 0, "nodes", &[("#555", &nodes)], &[], "");
    for (at, run) in runs.iter().enumerate() {
        let color = if run.name.starts_with("addon") { "#b45309" } else { "#1d4ed8" };
        let note = match run.kills {
            0 => format!("{} changes", run.changes.len()),
            kills => format!("{} changes, {kills} × OOM", run.changes.len()),
        };
        panel(
            &mut svg,
            at + 1,
            run.name,
            &[(USED, &cluster.used), (color, &run.memory)],
            &run.changes,
            &note,
        );
    }
    let hours = cluster.seconds() / 3600;
    let bottom = height - 8.0;
    _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{bottom}\" fill=\"#555\">0</text>");
    _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\" fill=\"#555\">{hours} h; grey: memory in use</text>",
        WIDTH - RIGHT
    );
    svg + "</svg>\n"
}

#[allow(clippy::cast_precision_loss, reason = "a plot")]
fn panel(
    svg: &mut String,
    at: usize,
    name: &str,
    lines: &[(&str, &Vec<f64>)],
    changes: &[usize],
    note: &str,
) {
    let top = TOP + at as f64 * (PANEL + GAP);
    let most = lines.iter().flat_map(|(_, line)| line.iter()).copied().fold(0.0, f64::max) * 1.08;
    let last = (lines[0].1.len().max(2) - 1) as f64;
    let x = |second: usize| LEFT + second as f64 / last * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| top + PANEL - value / most * PANEL;
    let unit = if at == 0 { "" } else { " MiB" };
    _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{}\" height=\"{PANEL}\" fill=\"#f8f8f8\" stroke=\"#ddd\"/>\n\
         <text x=\"12\" y=\"{}\">{name}</text>\n<text x=\"12\" y=\"{}\" fill=\"#555\">{note}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#555\">{:.0}{unit}</text>",
        WIDTH - LEFT - RIGHT,
        top + 40.0,
        top + 58.0,
        LEFT - 6.0,
        top + 12.0,
        most,
    );
    for change in changes {
        let x = x(*change);
        _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{}\" stroke=\"#dc2626\" stroke-opacity=\"0.35\"/>",
            top + PANEL
        );
    }
    for (color, line) in lines {
        let mut points = String::new();
        let every = (line.len() / 700).max(1);
        let (mut drawn, mut skipped) = (f64::NAN, false);
        for (second, value) in line.iter().enumerate() {
            // Steps keep their edges; what wobbles is thinned out.
            let is_edge = *color != USED && second > 0 && (line[second - 1] - value).abs() > most * 0.01;
            let is_news = (drawn - value).abs() > f64::EPSILON || drawn.is_nan();
            if second + 1 != line.len() && !is_edge && (second % every != 0 || !is_news) {
                skipped = true;
                continue;
            }
            if is_edge {
                _ = write!(points, "{:.1},{:.1} ", x(second), y(line[second - 1]));
            } else if skipped && is_news && *color != USED {
                _ = write!(points, "{:.1},{:.1} ", x(second - every.min(second)), y(drawn));
            }
            _ = write!(points, "{:.1},{:.1} ", x(second), y(*value));
            (drawn, skipped) = (*value, false);
        }
        _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.4\" points=\"{}\"/>",
            points.trim_end()
        );
    }
}
