//! The figures as a picture: one group of bars for each, as long as its share of the largest.

use std::fmt::Write as _;

use super::conditions::Conditions;
use super::measure::{Figures, Method};
use super::report::number;

const WIDTH: u32 = 960;
const LABELS: u32 = 300;
const LONGEST: f64 = 480.0;
const BAR: u32 = 13;
const COLOURS: [&str; 4] = ["#1b6ca8", "#9aa3ab", "#d98e04", "#4b8f4b"];

/// One figure of all servers.
struct Group {
    title: String,
    figures: Vec<Option<f64>>,
}

/// The chart in SVG 1.1.
#[must_use]
pub fn svg(method: &Method, conditions: &Conditions, all: &[Figures]) -> String {
    let groups = groups(all);
    let servers = u32::try_from(all.len()).unwrap_or(1);
    let step = servers * (BAR + 2) + 12;
    let top = 112;
    let height = top + u32::try_from(groups.len()).unwrap_or_default() * step + 8;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#1c1f22\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let title = format!(
        "{} nodes, {} pods, scraped every {} s (shorter is better)",
        thousands(method.nodes),
        thousands(method.nodes * method.pods_per_node),
        method.resolution_s
    );
    text(&mut out, (16, 28), "font-size=\"18\" font-weight=\"bold\"", &title);
    let small = "font-size=\"11\" fill=\"#5a6068\"";
    text(&mut out, (16, 48), small, &format!("{}; {}", conditions.date, conditions.machine));
    text(&mut out, (16, 64), small, &conditions.versions);
    let mut x = 16;
    for (at, figures) in all.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"78\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        text(&mut out, (x + 18, 88), "", &figures.name);
        x += 40 + 8 * u32::try_from(figures.name.len()).unwrap_or_default();
    }
    for (row, group) in (0..).zip(&groups) {
        let y = top + row * step;
        let middle = y + servers * (BAR + 2) / 2 + 4;
        text(&mut out, (LABELS - 12, middle), "text-anchor=\"end\"", &group.title);
        let largest = group.figures.iter().flatten().copied().fold(0.0, f64::max);
        for ((bar, figure), at) in (0..).zip(&group.figures).zip(0..) {
            let Some(figure) = figure else { continue };
            let length = if largest > 0.0 { (figure / largest * LONGEST).max(1.0) } else { 1.0 };
            let (y, colour) = (y + bar * (BAR + 2), COLOURS[at % COLOURS.len()]);
            let _ = writeln!(
                out,
                "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
            );
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{}\" font-size=\"11\">{}</text>",
                f64::from(LABELS) + length + 6.0,
                y + BAR - 2,
                number(*figure)
            );
        }
        if let [Some(first), .., Some(last)] = group.figures.as_slice()
            && *first > 0.0
        {
            let ratio = format!("{:.1}×", last / first);
            text(&mut out, (WIDTH - 16, middle), "text-anchor=\"end\" font-weight=\"bold\"", &ratio);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn groups(all: &[Figures]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut add = |title: &str, read: &dyn Fn(&Figures) -> Option<f64>| {
        groups.push(Group { title: title.to_owned(), figures: all.iter().map(read).collect() });
    };
    add("CPU while scraping, millicores", &|figures| Some(figures.scraping.first()?.millicores));
    add("memory while scraping, MB", &|figures| Some(figures.scraping.first()?.memory.rss_mb));
    add("most memory ever, MB", &|figures| Some(figures.memory_after_lists.peak_mb));
    add("first pod after a start, s", &|figures| Some(figures.first_pod_s));
    add("all pods after a start, s", &|figures| Some(figures.all_pods_s));
    add("all nodes after a start, s", &|figures| Some(figures.all_nodes_s));
    add("age of a sample, 99 of 100, s", &|figures| Some(figures.scraping.first()?.age_p99_s));
    let asked: Vec<_> =
        all.first().into_iter().flat_map(|figures| figures.listings.iter().enumerate()).collect();
    for (at, listing) in &asked {
        let title = format!("{}, {}: CPU, ms", listing.what, listing.encoding);
        add(&title, &|figures| Some(figures.listings.get(*at)?.server_cpu_ms));
    }
    for (at, listing) in asked.iter().filter(|(_, listing)| listing.what.starts_with("all pods")) {
        let title = format!("{}, {}: wall p50, ms", listing.what, listing.encoding);
        add(&title, &|figures| Some(figures.listings.get(*at)?.p50_ms));
    }
    for (at, failing) in
        all.first().into_iter().flat_map(|figures| figures.scraping.iter().enumerate()).skip(1)
    {
        let title = format!("{} % of nodes failing: CPU, millicores", failing.faults);
        add(&title, &|figures| Some(figures.scraping.get(at)?.millicores));
        let title = format!("{} % failing: age p99 of the others, s", failing.faults);
        add(&title, &|figures| Some(figures.scraping.get(at)?.age_p99_s));
    }
    groups
}

fn text(out: &mut String, (x, y): (u32, u32), style: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" {style}>{content}</text>");
}

fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn numbers_are_grouped() {
        let all: Vec<_> = [0, 999, 1000, 150_000, 1_950_000].into_iter().map(thousands).collect();
        assert_eq!(all, ["0", "999", "1,000", "150,000", "1,950,000"]);
    }
}
