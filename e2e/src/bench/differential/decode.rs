//! Decodes bodies of all encodings to JSON values. The decoder of protobuf shares no code with the encoder under
//! test.

use serde_json::{Map, Value, json};

use crate::testbed::http::Response;

/// Decodes a body by its content type; an unknown type is returned as text.
#[must_use]
pub(super) fn decode(response: &Response) -> Value {
    let content_type = response.header("content-type").unwrap_or_default();
    let text = || String::from_utf8_lossy(&response.body).into_owned();
    let media = content_type.split(';').next().unwrap_or_default();
    let read = match media {
        "application/json" => serde_json::from_slice(&response.body).ok(),
        "application/yaml" => serde_saphyr::from_str(&text()).ok(),
        "application/vnd.kubernetes.protobuf" => document(&response.body),
        _ => None,
    };
    read.unwrap_or_else(|| Value::String(text()))
}

/// The shape of a message's field.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Integer,
    /// Fields by number, name and shape; a repeated field has its name in brackets.
    Message(&'static [(u64, &'static str, Shape)]),
    TextMap,
    QuantityMap,
    Time,
    Duration,
}

use Shape::{Duration, Integer, Message, QuantityMap, Text, TextMap, Time};

// Field numbers of k8s.io/apimachinery's meta/v1, k8s.io/api's apidiscovery and k8s.io/metrics.
const OBJECT_META: Shape = Message(&[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (8, "creationTimestamp", Time),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
]);
const LIST_META: Shape =
    Message(&[(2, "resourceVersion", Text), (3, "continue", Text), (4, "remainingItemCount", Integer)]);
const NODE: Shape = Message(&[
    (1, "metadata", OBJECT_META),
    (2, "timestamp", Time),
    (3, "window", Duration),
    (4, "usage", QuantityMap),
]);
const POD: Shape = Message(&[
    (1, "metadata", OBJECT_META),
    (2, "timestamp", Time),
    (3, "window", Duration),
    (4, "[containers]", Message(&[(1, "name", Text), (2, "usage", QuantityMap)])),
]);
const PARTIAL: Shape = Message(&[(1, "metadata", OBJECT_META)]);
const CAUSE: Shape = Message(&[(1, "reason", Text), (2, "message", Text), (3, "field", Text)]);
const STATUS: Shape = Message(&[
    (1, "metadata", LIST_META),
    (2, "status", Text),
    (3, "message", Text),
    (4, "reason", Text),
    (
        5,
        "details",
        Message(&[
            (1, "name", Text),
            (2, "group", Text),
            (3, "kind", Text),
            (4, "[causes]", CAUSE),
            (5, "retryAfterSeconds", Integer),
            (6, "uid", Text),
        ]),
    ),
    (6, "code", Integer),
]);
const GROUP_VERSION: Shape = Message(&[(1, "groupVersion", Text), (2, "version", Text)]);
const GROUP: Shape = Message(&[
    (1, "name", Text),
    (2, "[versions]", GROUP_VERSION),
    (3, "preferredVersion", GROUP_VERSION),
    (4, "[serverAddressByClientCIDRs]", Message(&[(1, "clientCIDR", Text), (2, "serverAddress", Text)])),
]);
const RESOURCE: Shape = Message(&[
    (1, "name", Text),
    (2, "namespaced", Integer),
    (3, "kind", Text),
    (4, "verbs", Message(&[(1, "[items]", Text)])),
    (5, "[shortNames]", Text),
    (6, "singularName", Text),
    (7, "[categories]", Text),
]);
const GROUP_VERSION_KIND: Shape = Message(&[(1, "group", Text), (2, "version", Text), (3, "kind", Text)]);
const DISCOVERED: Shape = Message(&[
    (1, "metadata", OBJECT_META),
    (
        2,
        "[versions]",
        Message(&[
            (1, "version", Text),
            (
                2,
                "[resources]",
                Message(&[
                    (1, "resource", Text),
                    (2, "responseKind", GROUP_VERSION_KIND),
                    (3, "scope", Text),
                    (4, "singularResource", Text),
                    (5, "[verbs]", Text),
                    (6, "[shortNames]", Text),
                    (7, "[categories]", Text),
                ]),
            ),
            (3, "freshness", Text),
        ]),
    ),
]);

fn shape_of(kind: &str) -> Option<Shape> {
    const fn list(items: &'static [(u64, &'static str, Shape)]) -> Shape {
        Message(items)
    }
    Some(match kind {
        "NodeMetrics" => NODE,
        "PodMetrics" => POD,
        "PartialObjectMetadata" => PARTIAL,
        "NodeMetricsList" => list(&[(1, "metadata", LIST_META), (2, "[items]", NODE)]),
        "PodMetricsList" => list(&[(1, "metadata", LIST_META), (2, "[items]", POD)]),
        "PartialObjectMetadataList" => list(&[(1, "metadata", LIST_META), (2, "[items]", PARTIAL)]),
        "Status" => STATUS,
        "APIGroup" => GROUP,
        "APIGroupList" => list(&[(1, "[groups]", GROUP)]),
        "APIResourceList" => list(&[(1, "groupVersion", Text), (2, "[resources]", RESOURCE)]),
        "APIGroupDiscoveryList" => list(&[(1, "metadata", LIST_META), (2, "[items]", DISCOVERED)]),
        _ => return None,
    })
}

enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn fields(mut bytes: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        fields.push(match tag & 7 {
            0 => Field::Number(tag >> 3, varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(tag >> 3, content)
            }
            _ => return None,
        });
    }
    Some(fields)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the content of the first field of that number; empty if there is none.
fn content(bytes: &[u8], wanted: u64) -> Option<&[u8]> {
    let found = fields(bytes)?.into_iter().find_map(|field| match field {
        Field::Bytes(number, content) if number == wanted => Some(content),
        _ => None,
    });
    Some(found.unwrap_or_default())
}

fn number(bytes: &[u8]) -> Option<i64> {
    let found = fields(bytes)?.into_iter().find_map(|field| match field {
        Field::Number(1, value) => Some(value.cast_signed()),
        _ => None,
    });
    Some(found.unwrap_or_default())
}

fn value(shape: Shape, bytes: &[u8]) -> Option<Value> {
    Some(match shape {
        Text => text(bytes).into(),
        Time if bytes.is_empty() => Value::Null,
        Time => jiff::Timestamp::from_second(number(bytes)?).ok()?.to_string().into(),
        Duration => format!("{}ns", number(bytes)?).into(),
        Message(members) => message(members, bytes)?.into(),
        Integer | TextMap | QuantityMap => return None,
    })
}

fn message(members: &[(u64, &str, Shape)], bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut found = Map::new();
    for field in fields(bytes)? {
        let (Field::Number(number, _) | Field::Bytes(number, _)) = field;
        let Some((_, name, shape)) = members.iter().find(|(member, ..)| *member == number) else {
            // Go also writes empty fields; any other unknown field is a difference to report.
            if !matches!(field, Field::Number(_, 0) | Field::Bytes(_, [])) {
                found.insert(format!("field {number}"), "unknown".into());
            }
            continue;
        };
        let bare = name.trim_matches(['[', ']']);
        match (field, *shape) {
            (Field::Number(_, 0), _) | (Field::Bytes(_, []), Text) if bare == *name => {}
            (Field::Number(_, number), Integer) => {
                found.insert(bare.into(), number.into());
            }
            (Field::Bytes(_, entry), shape @ (TextMap | QuantityMap)) => {
                let mut content_of = content(entry, 2)?;
                if matches!(shape, QuantityMap) {
                    content_of = content(content_of, 1)?;
                }
                let map = found.entry(bare).or_insert_with(|| json!({}));
                map[text(content(entry, 1)?)] = text(content_of).into();
            }
            (Field::Bytes(_, content), shape) if bare != *name => {
                let items = found.entry(bare).or_insert_with(|| json!([]));
                items.as_array_mut()?.push(value(shape, content)?);
            }
            (Field::Bytes(_, content), shape) => {
                let read = value(shape, content)?;
                // An empty message means the same as a missing one.
                if read != json!({}) && !read.is_null() {
                    found.insert(bare.into(), read);
                }
            }
            (Field::Number(..), _) => return None,
        }
    }
    Some(found)
}

/// Decodes a document with the magic of Kubernetes and its type (`runtime.Unknown`).
fn document(bytes: &[u8]) -> Option<Value> {
    let bytes = bytes.strip_prefix(b"k8s\0")?;
    let type_meta = content(bytes, 1)?;
    let kind = text(content(type_meta, 2)?);
    let mut read = message_of(&kind, content(bytes, 2)?)?;
    read.insert("kind".into(), kind.into());
    read.insert("apiVersion".into(), text(content(type_meta, 1)?).into());
    Some(read.into())
}

fn message_of(kind: &str, bytes: &[u8]) -> Option<Map<String, Value>> {
    match shape_of(kind)? {
        Message(members) => message(members, bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_a_node_from_protobuf() {
        // TypeMeta v1/NodeMetrics; name n, timestamp 1 s, window 2 ns, usage cpu=1.
        let raw = b"\x0a\x03\x0a\x01n\x12\x02\x08\x01\x1a\x02\x08\x02\x22\x0a\x0a\x03cpu\x12\x03\x0a\x011";
        let mut body = b"k8s\0\x0a\x11\x0a\x02v1\x12\x0bNodeMetrics\x12".to_vec();
        body.push(u8::try_from(raw.len()).unwrap());
        body.extend_from_slice(raw);
        let expected = json!({
            "kind": "NodeMetrics", "apiVersion": "v1", "metadata": {"name": "n"},
            "timestamp": "1970-01-01T00:00:01Z", "window": "2ns", "usage": {"cpu": "1"},
        });
        assert_eq!(document(&body).unwrap(), expected);
        assert!(document(&body[..body.len() - 1]).is_none());
    }
}
