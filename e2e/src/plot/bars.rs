//! Groups of horizontal bars: one group for each figure, one bar for each subject, as long as its share of the
//! group's largest figure.

use super::Svg;

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 16.0;
/// The width of the groups' titles.
const TITLES: f64 = 300.0;
const LONGEST: f64 = 480.0;
const THICKNESS: f64 = 13.0;
/// The distance between the tops of two bars of one group.
const BAR: f64 = THICKNESS + 2.0;
const TOP: f64 = 112.0;
const COLORS: [&str; 4] = ["#1b6ca8", "#9aa3ab", "#d98e04", "#4b8f4b"];

/// A chart of bars.
pub struct Bars<'a> {
    /// The title.
    pub title: String,
    /// Lines below the title, in small type; there is room for two.
    pub notes: Vec<&'a str>,
    /// The names of the subjects, in the order of the bars.
    pub subjects: Vec<&'a str>,
    /// The groups, from the top.
    pub groups: Vec<BarGroup>,
    /// Formats a figure.
    pub format: fn(f64) -> String,
}

/// One figure of all subjects.
pub struct BarGroup {
    /// What was measured, and its unit.
    pub title: String,
    /// The figure of each subject; `None` leaves its bar out.
    pub figures: Vec<Option<f64>>,
}

impl Bars<'_> {
    /// Renders the chart.
    #[must_use]
    pub fn svg(&self) -> String {
        let bars = count(self.subjects.len());
        let step = bars * BAR + 12.0;
        let height = TOP + count(self.groups.len()) * step + 8.0;
        let mut svg =
            Svg::new(WIDTH, height, &format!(" width=\"{WIDTH}\" height=\"{height}\" fill=\"#1c1f22\""));
        svg.text((MARGIN, 28.0), "font-size=\"18\" font-weight=\"bold\"", &self.title);
        for (at, note) in self.notes.iter().enumerate() {
            svg.text((MARGIN, 48.0 + 16.0 * count(at)), "font-size=\"11\" fill=\"#5a6068\"", note);
        }
        let mut x = MARGIN;
        for (at, subject) in self.subjects.iter().enumerate() {
            let color = COLORS[at % COLORS.len()];
            svg.element(format_args!("rect x=\"{x}\" y=\"78\" width=\"12\" height=\"12\" fill=\"{color}\""));
            svg.text((x + 18.0, 88.0), "", subject);
            x += 40.0 + 8.0 * count(subject.len());
        }
        for (row, group) in self.groups.iter().enumerate() {
            let top = TOP + count(row) * step;
            let middle = top + bars * BAR / 2.0 + 4.0;
            svg.text((TITLES - 12.0, middle), "text-anchor=\"end\"", &group.title);
            self.bars(&mut svg, group, top);
            if let [Some(first), .., Some(last)] = group.figures.as_slice()
                && *first > 0.0
            {
                let ratio = format!("{:.1}×", last / first);
                svg.text((WIDTH - MARGIN, middle), "text-anchor=\"end\" font-weight=\"bold\"", &ratio);
            }
        }
        svg.finish()
    }

    fn bars(&self, svg: &mut Svg, group: &BarGroup, top: f64) {
        let largest = group.figures.iter().flatten().copied().fold(0.0, f64::max);
        for (at, figure) in group.figures.iter().enumerate() {
            let Some(figure) = *figure else { continue };
            let length = if largest > 0.0 { (figure / largest * LONGEST).max(1.0) } else { 1.0 };
            let (y, color) = (top + count(at) * BAR, COLORS[at % COLORS.len()]);
            svg.element(format_args!(
                "rect x=\"{TITLES}\" y=\"{y}\" width=\"{length:.1}\" height=\"{THICKNESS}\" fill=\"{color}\""
            ));
            let at = (TITLES + length + 6.0, y + THICKNESS - 2.0);
            svg.text(at, "font-size=\"11\"", &(self.format)(figure));
        }
    }
}

/// Counts of rows and letters are small.
#[allow(clippy::cast_precision_loss, reason = "a plot")]
fn count(count: usize) -> f64 {
    count as f64
}
