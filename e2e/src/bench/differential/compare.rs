//! Finds the differences of two responses to one request.

use std::collections::BTreeMap;

use serde_json::Value;

use super::decode::decode;
use super::openapi;
use crate::testbed::http::Response;

/// The headers that clients use. Only the presence of ETag is compared: each server hashes its own document.
const HEADERS: [&str; 10] = [
    "allow",
    "cache-control",
    "content-type",
    "etag",
    "location",
    "retry-after",
    "vary",
    "warning",
    "www-authenticate",
    "x-content-type-options",
];

/// A difference of two responses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// What differs: `status`, `header NAME`, `layout`, `order PATH` or `body PATH`.
    pub aspect: String,
    /// The value of metrics-core; `-` if there is none.
    pub metrics_core: String,
    /// The value of metrics-server; `-` if there is none.
    pub metrics_server: String,
}

/// Returns all differences. Objects for which `is_moving` returns true (by namespace and name) are from a real
/// kubelet: their numbers and times cannot be equal.
pub(super) fn compare(
    metrics_core: &Response,
    metrics_server: &Response,
    is_moving: &dyn Fn(&str) -> bool,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |aspect: String, metrics_core: String, metrics_server: String| {
        if metrics_core != metrics_server {
            found.push(Difference { aspect, metrics_core, metrics_server });
        }
    };
    if metrics_core.status != metrics_server.status {
        // Everything else follows from the status.
        note("status".into(), outcome(metrics_core), outcome(metrics_server));
        return found;
    }
    for name in HEADERS {
        let show = |response: &Response| match response.header(name) {
            Some(_) if name == "etag" => "one".to_owned(),
            Some(value) => value,
            None => "-".to_owned(),
        };
        note(format!("header {name}"), show(metrics_core), show(metrics_server));
    }
    note("layout".into(), layout(metrics_core), layout(metrics_server));
    let content = |response: &Response| canonical(openapi::essence(decode(response)), is_moving);
    walk("body ", &content(metrics_core), &content(metrics_server), &mut note);
    found
}

/// Returns the status code, and the message of a Status.
fn outcome(response: &Response) -> String {
    let code = response.status;
    match decode(response).get("message").and_then(Value::as_str) {
        Some(message) => format!("{code} {message}"),
        None => code.to_string(),
    }
}

/// Returns whether JSON is indented or on one line.
fn layout(response: &Response) -> String {
    let json = response.header("content-type").is_some_and(|value| value.starts_with("application/json"));
    let indented = response.body.starts_with(b"{\n") || response.body.starts_with(b"[\n");
    if json && indented { "indented" } else { "dense" }.to_owned()
}

/// Normalizes values that differ from request to request: creationTimestamp is the time of the request.
fn canonical(mut value: Value, is_moving: &dyn Fn(&str) -> bool) -> Value {
    match &mut value {
        Value::Object(members) => {
            if members.get("creationTimestamp").is_some_and(Value::is_string) {
                members.insert("creationTimestamp".into(), "(now)".into());
            }
            let key = members
                .get("metadata")
                .and_then(key)
                .or_else(|| members.get("object").and_then(|object| object.get("metadata")).and_then(key));
            if key.is_some_and(|key| is_moving(&key)) {
                for name in ["timestamp", "window", "usage", "cells"] {
                    members.entry(name).and_modify(|value| *value = blur(value));
                }
                if let Some(Value::Array(containers)) = members.get_mut("containers") {
                    for container in containers {
                        if let Some(usage) = container.get_mut("usage") {
                            *usage = blur(usage);
                        }
                    }
                }
            }
            for member in members.values_mut() {
                *member = canonical(member.take(), is_moving);
            }
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                *item = canonical(item.take(), is_moving);
            }
        }
        // Of `/metrics`, only the names of the families are compared.
        Value::String(text) if text.contains("# TYPE ") => {
            let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE metrics_server_"));
            let mut names: Vec<_> = names.map(|line| Value::from(format!("metrics_server_{line}"))).collect();
            names.sort_by_key(ToString::to_string);
            return Value::Array(names);
        }
        _ => {}
    }
    value
}

/// Returns the form of a measured value without the value.
fn blur(value: &Value) -> Value {
    match value {
        Value::String(_) => "(measured)".into(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), blur(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        // The first cell of a row is the name.
        Value::Array(cells) => {
            let blurred = cells.iter().enumerate();
            blurred.map(|(at, cell)| if at == 0 { cell.clone() } else { blur(cell) }).collect()
        }
        other => other.clone(),
    }
}

/// Returns `NAMESPACE/NAME` or `NAME` from an object's metadata.
fn key(metadata: &Value) -> Option<String> {
    let name = metadata.get("name")?.as_str()?;
    match metadata.get("namespace").and_then(Value::as_str) {
        Some(namespace) => Some(format!("{namespace}/{name}")),
        None => Some(name.to_owned()),
    }
}

/// Returns what identifies an item in its list.
fn item_key(item: &Value) -> Option<String> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
    let kept = item.get("metadata").and_then(key);
    kept.or_else(|| item.get("object")?.get("metadata").and_then(key))
        .or_else(|| text("name"))
        .or_else(|| text("resource"))
        .or_else(|| text("groupVersion"))
        .or_else(|| text("version"))
        .or_else(|| item.as_str().map(str::to_owned))
}

fn walk(
    path: &str,
    metrics_core: &Value,
    metrics_server: &Value,
    note: &mut impl FnMut(String, String, String),
) {
    match (metrics_core, metrics_server) {
        (Value::Object(metrics_core), Value::Object(metrics_server)) => {
            for name in metrics_core
                .keys()
                .chain(metrics_server.keys().filter(|name| !metrics_core.contains_key(*name)))
            {
                pair(&format!("{path}/{name}"), metrics_core.get(name), metrics_server.get(name), note);
            }
        }
        (Value::Array(metrics_core), Value::Array(metrics_server)) => {
            let keyed = |items: &[Value]| -> Option<Vec<String>> {
                // The cells of a row are in the order of the columns.
                if path.ends_with("/cells") {
                    return None;
                }
                let keys: Option<Vec<_>> = items.iter().map(item_key).collect();
                keys.filter(|keys| keys.iter().collect::<std::collections::HashSet<_>>().len() == keys.len())
            };
            let (Some(core_keys), Some(server_keys)) = (keyed(metrics_core), keyed(metrics_server)) else {
                for at in 0..metrics_core.len().max(metrics_server.len()) {
                    pair(&format!("{path}[{at}]"), metrics_core.get(at), metrics_server.get(at), note);
                }
                return;
            };
            let common = |keys: &[String], others: &[String]| {
                keys.iter().filter(|key| others.contains(key)).cloned().collect::<Vec<_>>().join(" ")
            };
            note(
                path.replacen("body", "order", 1),
                common(&core_keys, &server_keys),
                common(&server_keys, &core_keys),
            );
            let of = |keys: Vec<String>, items: &'_ [Value]| -> BTreeMap<String, Value> {
                keys.into_iter().zip(items.iter().cloned()).collect()
            };
            let (metrics_core, metrics_server) =
                (of(core_keys, metrics_core), of(server_keys, metrics_server));
            for name in metrics_core
                .keys()
                .chain(metrics_server.keys().filter(|name| !metrics_core.contains_key(*name)))
            {
                pair(&format!("{path}[{name}]"), metrics_core.get(name), metrics_server.get(name), note);
            }
        }
        _ => pair(path, Some(metrics_core), Some(metrics_server), note),
    }
}

fn pair(
    path: &str,
    metrics_core: Option<&Value>,
    metrics_server: Option<&Value>,
    note: &mut impl FnMut(String, String, String),
) {
    match (metrics_core, metrics_server) {
        (Some(metrics_core @ Value::Object(_)), Some(metrics_server @ Value::Object(_)))
        | (Some(metrics_core @ Value::Array(_)), Some(metrics_server @ Value::Array(_))) => {
            walk(path, metrics_core, metrics_server, note);
        }
        _ => {
            let show = |value: Option<&Value>| value.map_or_else(|| "-".to_owned(), shortened);
            if metrics_core != metrics_server {
                note(path.to_owned(), show(metrics_core), show(metrics_server));
            }
        }
    }
}

/// Returns the beginning of a value.
fn shortened(value: &Value) -> String {
    const MOST: usize = 300;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn response(body: &str) -> Response {
        let headers = [("content-type", "application/json")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Response {
            status: 200,
            headers: headers.into_iter().collect(),
            body: body.into(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn identifies_items_by_name_and_compares_their_order() {
        let metrics_core =
            response(r#"{"items":[{"metadata":{"name":"a"},"x":1},{"metadata":{"name":"b"},"x":2}]}"#);
        let metrics_server =
            response(r#"{"items":[{"metadata":{"name":"b"},"x":2},{"metadata":{"name":"a"},"x":3}]}"#);
        let found = compare(&metrics_core, &metrics_server, &|_| false);
        let aspects: Vec<_> = found.iter().map(|difference| difference.aspect.as_str()).collect();
        assert_eq!(aspects, ["order /items", "body /items[a]/x"]);
        assert_eq!(found[1].metrics_core, "1");
    }

    #[test]
    fn compares_the_form_of_moving_values() {
        let body = |cpu: &str| {
            response(&format!(
                r#"{{"metadata":{{"name":"real","creationTimestamp":"{cpu}"}},"usage":{{"cpu":"{cpu}"}}}}"#
            ))
        };
        assert_eq!(compare(&body("1"), &body("2"), &|key| key == "real"), []);
        assert_eq!(compare(&body("1"), &body("2"), &|_| false).len(), 1);
        let missing = response(r#"{"metadata":{"name":"real","creationTimestamp":"1"},"usage":{}}"#);
        assert_eq!(compare(&body("1"), &missing, &|key| key == "real").len(), 1);
    }
}
