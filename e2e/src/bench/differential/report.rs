//! The result of a comparison: the number of equal responses, the intended differences and the others.

use std::collections::BTreeMap;
use std::fmt;

use super::compare::Difference;
use super::intended::{Intended, Place};
use super::matrix::MatrixRequest;

/// The result of a comparison.
#[derive(Debug)]
pub struct Report {
    compared: Vec<(MatrixRequest, Vec<Difference>)>,
    intended: &'static [Intended],
}

impl Report {
    pub(super) fn new(
        compared: Vec<(MatrixRequest, Vec<Difference>)>,
        intended: &'static [Intended],
    ) -> Self {
        Self { compared, intended }
    }

    fn places(&self) -> impl Iterator<Item = &'static Place> {
        self.intended.iter().flat_map(|intended| intended.places)
    }

    /// Returns how often each intended difference occurred, in their order.
    fn occurrences(&self) -> Vec<usize> {
        let mut counts = vec![0; self.places().count()];
        for (request, difference) in self.differences() {
            let request = request.to_string();
            for (count, place) in counts.iter_mut().zip(self.places()) {
                *count += usize::from(covers(place, &request, difference));
            }
        }
        counts
    }

    fn differences(&self) -> impl Iterator<Item = (&MatrixRequest, &Difference)> {
        self.compared.iter().flat_map(|(request, found)| found.iter().map(move |each| (request, each)))
    }

    fn unlisted(&self) -> impl Iterator<Item = (&MatrixRequest, &Difference)> {
        self.differences().filter(|(request, difference)| {
            let request = request.to_string();
            !self.places().any(|place| covers(place, &request, difference))
        })
    }

    /// Returns whether all differences are intended and all intended ones occurred.
    #[must_use]
    pub fn is_as_intended(&self) -> bool {
        self.unlisted().next().is_none() && self.occurrences().iter().all(|count| *count > 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occurrences = self.occurrences();
        writeln!(
            formatter,
            "Intended differences (count, requests | aspect: metrics-core | metrics-server):"
        )?;
        let mut counts = occurrences.iter();
        for Intended { reason, places } in self.intended {
            writeln!(formatter, "\n  {reason}")?;
            for (Place { request, aspect, metrics_core, metrics_server }, count) in
                places.iter().zip(&mut counts)
            {
                let mark = if *count == 0 { "DOES NOT OCCUR" } else { "" };
                writeln!(
                    formatter,
                    "    {count:>4}  {request} | {aspect}: {metrics_core} | {metrics_server} {mark}"
                )?;
            }
        }
        let mut unlisted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (request, Difference { aspect, metrics_core, metrics_server }) in self.unlisted() {
            let what = format!(
                "{aspect}\n      metrics-core:   {metrics_core}\n      metrics-server: {metrics_server}"
            );
            unlisted.entry(what).or_default().push(request.to_string());
        }
        for (what, requests) in &unlisted {
            writeln!(formatter, "\n  UNLISTED: {what}")?;
            for request in requests.iter().take(8) {
                writeln!(formatter, "      {request}")?;
            }
            if requests.len() > 8 {
                writeln!(formatter, "      … and {} more", requests.len() - 8)?;
            }
        }
        let equal = self.compared.iter().filter(|(_, found)| found.is_empty()).count();
        let not_there = occurrences.iter().filter(|count| **count == 0).count();
        let failing: usize = unlisted.values().map(Vec::len).sum();
        writeln!(
            formatter,
            "\n{} requests: {equal} with equal responses, {} with {} differences; {failing} of these are not \
             intended, and {not_there} of {} intended ones did not occur.",
            self.compared.len(),
            self.compared.len() - equal,
            self.differences().count(),
            occurrences.len(),
        )
    }
}

fn covers(place: &Place, request: &str, difference: &Difference) -> bool {
    matches(place.request, request)
        && matches(place.aspect, &difference.aspect)
        && matches(place.metrics_core, &difference.metrics_core)
        && matches(place.metrics_server, &difference.metrics_server)
}

/// Returns whether a text matches a pattern, in which `*` matches any text and `\*` matches a `*`.
fn matches(pattern: &str, text: &str) -> bool {
    const STAR: &str = "\u{1}";
    let pattern = pattern.replace("\\*", STAR);
    let mut parts = pattern.split('*').map(|part| part.replace(STAR, "*"));
    let first = parts.next().unwrap_or_default();
    let mut parts: Vec<String> = parts.collect();
    let Some(last) = parts.pop() else { return first == text };
    let Some(mut text) = text.strip_prefix(first.as_str()) else { return false };
    for part in parts {
        let Some(at) = text.find(part.as_str()) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::differential::matrix::requests;

    #[test]
    fn matches_patterns_with_wildcards() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn fails_on_unlisted_and_on_missing_differences() {
        const LISTED: &[Intended] = &[Intended {
            reason: "r",
            places: &[Place {
                request: "Admin GET *",
                aspect: "status",
                metrics_core: "200",
                metrics_server: "404",
            }],
        }];
        let status = |metrics_core: &str| {
            vec![Difference {
                aspect: "status".into(),
                metrics_core: metrics_core.into(),
                metrics_server: "404".into(),
            }]
        };
        let request = requests("n", "p").remove(0);
        assert!(Report::new(vec![(request.clone(), status("200"))], LISTED).is_as_intended());
        assert!(!Report::new(vec![(request.clone(), status("201"))], LISTED).is_as_intended());
        assert!(!Report::new(vec![(request, Vec::new())], LISTED).is_as_intended());
        assert!(Report::new(Vec::new(), &[]).is_as_intended());
    }
}
