//! The figures as tables in Markdown.

use std::fmt::Write as _;

use super::as_f64;
use super::conditions::Conditions;
use super::measure::{Figures, Listing, Method, Scraping};
use super::soak::Soak;

/// Returns a whole page: conditions, chart and tables.
#[must_use]
pub fn page(method: &Method, conditions: &Conditions, all: &[Figures], chart: &str) -> String {
    format!(
        "# {} nodes, {} pods\n\n{}\nWritten by the command; what the figures mean is in \
         [performance.md](../performance.md).\n\n![the figures as bars]({chart})\n\n{}",
        method.nodes,
        method.nodes * method.pods_per_node,
        conditions.list(),
        tables(all, 1)
    )
}

/// Returns the tables of all servers; the ratio is of the last one to the first, with `digits` decimals.
#[must_use]
pub fn tables(all: &[Figures], digits: usize) -> String {
    let mut text = String::new();
    let names: Vec<&str> = all.iter().map(|figures| figures.name.as_str()).collect();
    head(&mut text, "", &names);
    row(digits, &mut text, "first pod, s after the start", all, |figures| Some(figures.first_pod_s));
    row(digits, &mut text, "all pods, s", all, |figures| Some(figures.all_pods_s));
    row(digits, &mut text, "all nodes, s", all, |figures| Some(figures.all_nodes_s));
    row(digits, &mut text, "CPU until then, s", all, |figures| Some(figures.start_cpu_s));
    let most = all.iter().map(|figures| figures.scraping.len()).max().unwrap_or_default();
    for at in 0..most {
        let faults = all.iter().find_map(|figures| figures.scraping.get(at)).map_or(0, |found| found.faults);
        let with = |what: &str| match faults {
            0 => what.to_owned(),
            percent => format!("{percent} % failing: {what}"),
        };
        let of = |read: fn(&Scraping) -> f64| move |figures: &Figures| figures.scraping.get(at).map(read);
        row(digits, &mut text, &with("CPU, scraping, millicores"), all, of(|scraping| scraping.millicores));
        row(digits, &mut text, &with("RSS, MB"), all, of(|scraping| scraping.memory.rss_mb));
        row(digits, &mut text, &with("peak RSS, MB"), all, of(|scraping| scraping.memory.peak_mb));
        row(digits, &mut text, &with("requests/s"), all, of(|scraping| scraping.requests_per_s));
        row(
            digits,
            &mut text,
            &with("received, kB/s"),
            all,
            of(|scraping| scraping.wire_bytes_per_s / 1000.0),
        );
        row(digits, &mut text, &with("new connections"), all, of(|scraping| as_f64(scraping.connections)));
        row(digits, &mut text, &with("sample age p50, s"), all, of(|scraping| scraping.age_p50_s));
        row(digits, &mut text, &with("sample age p99, s"), all, of(|scraping| scraping.age_p99_s));
        row(
            digits,
            &mut text,
            &with("pods of healthy nodes served"),
            all,
            of(|scraping| as_f64(scraping.pods as u64)),
        );
        row(
            digits,
            &mut text,
            &with("(the fleet's CPU, millicores)"),
            all,
            of(|scraping| scraping.fleet_millicores),
        );
    }
    row(digits, &mut text, "RSS after the lists, MB", all, |figures| Some(figures.memory_after_lists.rss_mb));
    row(digits, &mut text, "peak RSS after the lists, MB", all, |figures| {
        Some(figures.memory_after_lists.peak_mb)
    });
    if all.iter().any(|figures| figures.soak.is_some()) {
        let soak = |read: fn(&Soak) -> f64| move |figures: &Figures| figures.soak.as_ref().map(read);
        row(digits, &mut text, "long run: minutes", all, soak(|soak| as_f64(soak.rss_mb.len() as u64)));
        row(digits, &mut text, "long run: lists of all pods", all, soak(|soak| f64::from(soak.lists)));
        row(digits, &mut text, "long run: RSS in its first tenth, MB", all, soak(|soak| soak.ends().0));
        row(digits, &mut text, "long run: RSS in its last tenth, MB", all, soak(|soak| soak.ends().1));
        row(digits, &mut text, "long run: peak RSS, MB", all, soak(|soak| soak.peak_mb));
    }

    for (title, read) in [
        ("server CPU for one request, ms", (|listing| listing.server_cpu_ms) as fn(&Listing) -> f64),
        ("wall p50, ms", |listing| listing.p50_ms),
        ("wall p99, ms", |listing| listing.p99_ms),
        ("response, kB", |listing| as_f64(listing.bytes as u64) / 1000.0),
    ] {
        text.push('\n');
        head(&mut text, title, &names);
        let listings = all.first().map(|figures| figures.listings.as_slice()).unwrap_or_default();
        for (at, listing) in listings.iter().enumerate() {
            let what = format!("{}, {}", listing.what, listing.encoding);
            row(digits, &mut text, &what, all, |figures| figures.listings.get(at).map(read));
        }
    }
    text
}

fn head(text: &mut String, title: &str, names: &[&str]) {
    let ratio = if names.len() > 1 { " ratio |" } else { "" };
    let _ = writeln!(text, "| {title} | {} |{ratio}", names.join(" | "));
    let _ =
        writeln!(text, "|---|{}{}", "---:|".repeat(names.len()), if ratio.is_empty() { "" } else { "---:|" });
}

fn row(
    digits: usize,
    text: &mut String,
    what: &str,
    all: &[Figures],
    read: impl Fn(&Figures) -> Option<f64>,
) {
    let figures: Vec<Option<f64>> = all.iter().map(read).collect();
    let _ = write!(text, "| {what} |");
    for figure in &figures {
        let _ = match figure {
            Some(figure) => write!(text, " {} |", number(*figure)),
            None => write!(text, " |"),
        };
    }
    if let [Some(first), .., Some(last)] = figures.as_slice() {
        let _ = if *first > 0.0 { write!(text, " {:.digits$} |", last / first) } else { write!(text, " |") };
    }
    text.push('\n');
}

/// Formats a figure with its significant digits.
pub(super) fn number(figure: f64) -> String {
    match figure {
        100.0.. => format!("{figure:.0}"),
        1.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.3}"),
    }
}
