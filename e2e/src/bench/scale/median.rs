//! The median of the figures of several runs of one server.

use serde_json::Value;

use super::measure::Figures;
use crate::error::{Doing as _, Result};

/// Returns the figures of each of the `count` servers that took turns in `runs`: the median of each number.
pub fn medians(runs: &[Figures], count: usize) -> Result<Vec<Figures>> {
    let values = runs.iter().map(serde_json::to_value).collect::<serde_json::Result<Vec<_>>>();
    let values = values.doing(|| "encode the figures".into())?;
    let of_server = |server| values.iter().skip(server).step_by(count).collect::<Vec<_>>();
    let medians = (0..count).map(|server| serde_json::from_value(median(&of_server(server))));
    medians.collect::<serde_json::Result<_>>().doing(|| "decode the medians".into())
}

/// Returns the median of values of one shape, member by member; texts are those of the first value.
fn median(values: &[&Value]) -> Value {
    let members = |part: &dyn Fn(&Value) -> Value| -> Value {
        let parts: Vec<_> = values.iter().map(|value| part(value)).collect();
        median(&parts.iter().collect::<Vec<_>>())
    };
    match values.first() {
        Some(Value::Object(first)) => {
            first.keys().map(|name| (name.clone(), members(&|value| value[name].clone()))).collect()
        }
        Some(Value::Array(first)) => (0..first.len()).map(|at| members(&|value| value[at].clone())).collect(),
        Some(Value::Number(_)) => {
            let mut numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
            numbers.sort_by(f64::total_cmp);
            let middle = numbers.len() / 2;
            let even = numbers.len().is_multiple_of(2).then(|| numbers[middle - 1]);
            let middle = even.map_or(numbers[middle], |lower| f64::midpoint(lower, numbers[middle]));
            if values.iter().all(|value| value.is_u64()) { rounded(middle) } else { middle.into() }
        }
        Some(other) => (*other).clone(),
        None => Value::Null,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count between counts")]
fn rounded(count: f64) -> Value {
    (count.round() as u64).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_the_median_of_each_number() {
        let runs = [
            json!({"name": "a", "list": [{"n": 1, "f": 1.5}], "none": null}),
            json!({"name": "a", "list": [{"n": 9, "f": 9.5}], "none": null}),
            json!({"name": "a", "list": [{"n": 4, "f": 2.5}], "none": null}),
        ];
        let all: Vec<_> = runs.iter().collect();
        assert_eq!(median(&all), json!({"name": "a", "list": [{"n": 4, "f": 2.5}], "none": null}));
        assert_eq!(median(&all[..2]), json!({"name": "a", "list": [{"n": 5, "f": 5.5}], "none": null}));
    }

    #[test]
    fn separates_the_servers_that_took_turns() {
        let figures = |name: &str, first_pod_s: f64| -> Figures {
            let memory = json!({"rss_mb": 1.0, "peak_mb": 1.0});
            serde_json::from_value(json!({
                "name": name, "first_pod_s": first_pod_s, "all_pods_s": 1.0, "all_nodes_s": 1.0, "start_cpu_s": 1.0,
                "scraping": [], "listings": [], "memory_after_lists": memory,
            }))
            .unwrap()
        };
        let runs = [("a", 1.0), ("b", 10.0), ("a", 3.0), ("b", 30.0), ("a", 2.0), ("b", 20.0)];
        let runs = runs.map(|(name, seconds)| figures(name, seconds));
        let medians = medians(&runs, 2).unwrap();
        let of = medians.iter().map(|figures| (figures.name.as_str(), figures.first_pod_s.round()));
        assert_eq!(of.collect::<Vec<_>>(), [("a", 2.0), ("b", 20.0)]);
    }
}
