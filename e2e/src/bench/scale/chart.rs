//! The figures as a chart of bars.

use super::conditions::Conditions;
use super::measure::{Figures, Method};
use super::report::number;
use crate::plot::bars::{BarGroup, Bars};

/// Renders the chart as SVG.
#[must_use]
pub fn svg(method: &Method, conditions: &Conditions, all: &[Figures]) -> String {
    let title = format!(
        "{} nodes, {} pods, scraped every {} s (shorter is better)",
        thousands(method.nodes),
        thousands(method.nodes * method.pods_per_node),
        method.scrape_interval_s
    );
    let run = format!("{}; {}", conditions.date, conditions.machine);
    let chart = Bars {
        title,
        notes: vec![&run, &conditions.versions],
        subjects: all.iter().map(|figures| figures.name.as_str()).collect(),
        groups: groups(all),
        format: number,
    };
    chart.svg()
}

fn groups(all: &[Figures]) -> Vec<BarGroup> {
    let mut groups = Vec::new();
    let mut add = |title: &str, read: &dyn Fn(&Figures) -> Option<f64>| {
        groups.push(BarGroup { title: title.to_owned(), figures: all.iter().map(read).collect() });
    };
    add("CPU while scraping, millicores", &|figures| Some(figures.scraping.first()?.millicores));
    add("memory while scraping, MB", &|figures| Some(figures.scraping.first()?.memory.rss_mb));
    add("peak memory, MB", &|figures| Some(figures.memory_after_lists.peak_mb));
    add("first pod after a start, s", &|figures| Some(figures.first_pod_s));
    add("all pods after a start, s", &|figures| Some(figures.all_pods_s));
    add("all nodes after a start, s", &|figures| Some(figures.all_nodes_s));
    add("sample age p99, s", &|figures| Some(figures.scraping.first()?.age_p99_s));
    let listings: Vec<_> =
        all.first().into_iter().flat_map(|figures| figures.listings.iter().enumerate()).collect();
    for (at, listing) in &listings {
        let title = format!("{}, {}: CPU, ms", listing.what, listing.encoding);
        add(&title, &|figures| Some(figures.listings.get(*at)?.server_cpu_ms));
    }
    for (at, listing) in listings.iter().filter(|(_, listing)| listing.what.starts_with("all pods")) {
        let title = format!("{}, {}: wall p50, ms", listing.what, listing.encoding);
        add(&title, &|figures| Some(figures.listings.get(*at)?.p50_ms));
    }
    for (at, failing) in
        all.first().into_iter().flat_map(|figures| figures.scraping.iter().enumerate()).skip(1)
    {
        let title = format!("{} % of nodes failing: CPU, millicores", failing.faults);
        add(&title, &|figures| Some(figures.scraping.get(at)?.millicores));
        let title = format!("{} % failing: sample age p99, healthy, s", failing.faults);
        add(&title, &|figures| Some(figures.scraping.get(at)?.age_p99_s));
    }
    groups
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
    fn groups_digits_by_thousands() {
        let all: Vec<_> = [0, 999, 1000, 150_000, 1_950_000].into_iter().map(thousands).collect();
        assert_eq!(all, ["0", "999", "1,000", "150,000", "1,950,000"]);
    }
}
