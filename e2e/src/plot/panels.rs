//! Panels one below the other, each with lines over the same time.

use std::fmt::Write as _;

use super::Svg;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 96.0;
const GAP: f64 = 22.0;
const TOP: f64 = 40.0;
/// A line of more points is thinned out.
const POINTS: usize = 700;

/// A plot of panels.
pub struct Panels<'a> {
    /// The title.
    pub title: &'a str,
    /// The panels, from the top.
    pub panels: Vec<Panel<'a>>,
    /// What the end of the time axis is labelled with.
    pub end: String,
}

/// One panel.
pub struct Panel<'a> {
    /// Its name.
    pub name: &'a str,
    /// A note below the name.
    pub note: String,
    /// The unit of its values, with the blank before it.
    pub unit: &'a str,
    /// Its lines; the first one sets the length of the time axis.
    pub lines: Vec<Line<'a>>,
    /// The points in time at which something changed.
    pub changes: &'a [usize],
}

/// Values over time, one a second.
pub struct Line<'a> {
    /// Its color.
    pub color: &'a str,
    /// The values.
    pub values: &'a [f64],
    /// Whether the values are steps, whose edges must stay where they are; others may lose points.
    pub has_steps: bool,
}

impl Panels<'_> {
    /// Renders the plot.
    #[must_use]
    pub fn svg(&self) -> String {
        let height = TOP + (PANEL + GAP) * float(self.panels.len()) + 20.0;
        let mut svg = Svg::new(WIDTH, height, "");
        svg.text((12.0, 22.0), "font-size=\"14\" font-weight=\"bold\"", self.title);
        for (at, panel) in self.panels.iter().enumerate() {
            panel.draw(&mut svg, TOP + float(at) * (PANEL + GAP));
        }
        let bottom = height - 8.0;
        svg.text((LEFT, bottom), "fill=\"#555\"", "0");
        svg.text((WIDTH - RIGHT, bottom), "text-anchor=\"end\" fill=\"#555\"", &self.end);
        svg.finish()
    }
}

impl Panel<'_> {
    fn draw(&self, svg: &mut Svg, top: f64) {
        let values = self.lines.iter().flat_map(|line| line.values).copied();
        let most = values.fold(0.0, f64::max) * 1.08;
        let last = float(self.lines.first().map_or(2, |line| line.values.len().max(2)) - 1);
        let x = |second: usize| LEFT + float(second) / last * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| top + PANEL - value / most * PANEL;
        let width = WIDTH - LEFT - RIGHT;
        svg.element(format_args!(
            "rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{PANEL}\" fill=\"#f8f8f8\" stroke=\"#ddd\""
        ));
        svg.text((12.0, top + 40.0), "", self.name);
        svg.text((12.0, top + 58.0), "fill=\"#555\"", &self.note);
        let scale = format!("{most:.0}{}", self.unit);
        svg.text((LEFT - 6.0, top + 12.0), "text-anchor=\"end\" fill=\"#555\"", &scale);
        for change in self.changes {
            let (x, bottom) = (x(*change), top + PANEL);
            svg.element(format_args!(
                "line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#dc2626\" \
                 stroke-opacity=\"0.35\""
            ));
        }
        for line in &self.lines {
            let points = line.points(most, x, y);
            svg.element(format_args!(
                "polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\" points=\"{points}\"",
                line.color
            ));
        }
    }
}

impl Line<'_> {
    /// Returns the points to draw: steps keep their edges, other values are thinned out.
    fn points(&self, most: f64, x: impl Fn(usize) -> f64, y: impl Fn(f64) -> f64) -> String {
        let mut points = String::new();
        let mut add = |second: usize, value: f64| {
            let _ = write!(points, "{:.1},{:.1} ", x(second), y(value));
        };
        let every = (self.values.len() / POINTS).max(1);
        let (mut drawn, mut skipped) = (f64::NAN, false);
        for (second, value) in self.values.iter().copied().enumerate() {
            let before = second.checked_sub(1).map(|before| self.values[before]);
            let edge = before.filter(|before| self.has_steps && (before - value).abs() > most * 0.01);
            let differs = (drawn - value).abs() > f64::EPSILON || drawn.is_nan();
            if second + 1 != self.values.len() && edge.is_none() && (second % every != 0 || !differs) {
                skipped = true;
                continue;
            }
            if let Some(before) = edge {
                add(second, before);
            } else if skipped && differs && self.has_steps {
                add(second - every.min(second), drawn);
            }
            add(second, value);
            (drawn, skipped) = (value, false);
        }
        points.truncate(points.trim_end().len());
        points
    }
}

/// Seconds and numbers of panels are small.
#[allow(clippy::cast_precision_loss, reason = "a plot")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_edges_of_steps_and_thins_out_the_rest() {
        let values: Vec<f64> = (0..7000).map(|second| if second < 3333 { 10.0 } else { 20.0 }).collect();
        let line = |has_steps| Line { color: "", values: &values, has_steps };
        let points = |has_steps| line(has_steps).points(20.0, float, |value| value);
        assert_eq!(points(true), "0.0,10.0 3333.0,10.0 3333.0,20.0 6999.0,20.0");
        assert_eq!(points(false), "0.0,10.0 3340.0,20.0 6999.0,20.0");
    }
}
