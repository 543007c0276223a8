//! A protobuf decoder that is independent of the encoder. It returns the equivalent JSON.

use serde_json::{Map, Value, json};

/// A field number and its content.
enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a complete varint");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint of more than 64 bits");
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => fields.push(Field::Number(tag >> 3, varint(&mut bytes))),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                fields.push(Field::Bytes(tag >> 3, content));
            }
            other => panic!("wire type {other}"),
        }
    }
    fields
}

/// The type of a message field.
enum FieldType {
    Text,
    Integer,
    /// Members by field number, name and type. The name of a repeated member is in brackets.
    Message(&'static [(u64, &'static str, FieldType)]),
    Map(&'static FieldType),
    Quantity,
    Time,
    Duration,
}

use FieldType::{Duration, Integer, Map as MapOf, Message, Quantity, Text, Time};

const OBJECT_META: FieldType = Message(&[
    (1, "name", Text),
    (3, "namespace", Text),
    (6, "resourceVersion", Text),
    (8, "creationTimestamp", Time),
    (11, "labels", MapOf(&Text)),
    (12, "annotations", MapOf(&Text)),
]);
const LIST_META: FieldType = Message(&[(2, "resourceVersion", Text), (3, "continue", Text)]);
const USAGE: FieldType = MapOf(&Quantity);
const NODE: &[(u64, &str, FieldType)] =
    &[(1, "metadata", OBJECT_META), (2, "timestamp", Time), (3, "window", Duration), (4, "usage", USAGE)];
const POD: &[(u64, &str, FieldType)] = &[
    (1, "metadata", OBJECT_META),
    (2, "timestamp", Time),
    (3, "window", Duration),
    (4, "[containers]", Message(&[(1, "name", Text), (2, "usage", USAGE)])),
];
const PARTIAL: &[(u64, &str, FieldType)] = &[(1, "metadata", OBJECT_META)];
const STATUS: &[(u64, &str, FieldType)] = &[
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
            (4, "[causes]", Message(&[(1, "reason", Text), (2, "message", Text), (3, "field", Text)])),
            (5, "retryAfterSeconds", Integer),
        ]),
    ),
    (6, "code", Integer),
];
const GROUP_VERSION: FieldType = Message(&[(1, "groupVersion", Text), (2, "version", Text)]);
const GROUP: &[(u64, &str, FieldType)] =
    &[(1, "name", Text), (2, "[versions]", GROUP_VERSION), (3, "preferredVersion", GROUP_VERSION)];
const RESOURCES: &[(u64, &str, FieldType)] = &[
    (1, "groupVersion", Text),
    (
        2,
        "[resources]",
        Message(&[
            (1, "name", Text),
            (2, "namespaced", Integer),
            (3, "kind", Text),
            (4, "verbs", Message(&[(1, "[items]", Text)])),
        ]),
    ),
];
const AGGREGATED: &[(u64, &str, FieldType)] = &[
    (1, "metadata", LIST_META),
    (
        2,
        "[items]",
        Message(&[
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
                            (
                                2,
                                "responseKind",
                                Message(&[(1, "group", Text), (2, "version", Text), (3, "kind", Text)]),
                            ),
                            (3, "scope", Text),
                            (5, "[verbs]", Text),
                        ]),
                    ),
                    (3, "freshness", Text),
                ]),
            ),
        ]),
    ),
];

fn body(kind: &str) -> FieldType {
    match kind {
        "NodeMetrics" => Message(NODE),
        "PodMetrics" => Message(POD),
        "PartialObjectMetadata" => Message(PARTIAL),
        "NodeMetricsList" => Message(&[(1, "metadata", LIST_META), (2, "[items]", Message(NODE))]),
        "PodMetricsList" => Message(&[(1, "metadata", LIST_META), (2, "[items]", Message(POD))]),
        "PartialObjectMetadataList" => {
            Message(&[(1, "metadata", LIST_META), (2, "[items]", Message(PARTIAL))])
        }
        "Status" => Message(STATUS),
        "APIGroup" => Message(GROUP),
        "APIGroupList" => Message(&[(1, "[groups]", Message(GROUP))]),
        "APIResourceList" => Message(RESOURCES),
        "APIGroupDiscoveryList" => Message(AGGREGATED),
        other => panic!("kind {other}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn number(bytes: &[u8]) -> i64 {
    fields(bytes)
        .iter()
        .find_map(|field| match field {
            Field::Number(1, value) => Some(value.cast_signed()),
            _ => None,
        })
        .unwrap_or_default()
}

fn content(bytes: &[u8], wanted: u64) -> &[u8] {
    fields(bytes)
        .into_iter()
        .find_map(|field| match field {
            Field::Bytes(number, content) if number == wanted => Some(content),
            _ => None,
        })
        .unwrap_or_default()
}

fn value(field_type: &FieldType, bytes: &[u8]) -> Value {
    match field_type {
        Text => text(bytes).into(),
        Integer => panic!("an integer encoded as bytes"),
        Quantity => text(content(bytes, 1)).into(),
        Time => jiff::Timestamp::from_second(number(bytes)).unwrap().to_string().into(),
        // As a number: the text form has its own tests.
        Duration => number(bytes).into(),
        MapOf(_) => panic!("maps are decoded entry by entry"),
        Message(members) => message(members, bytes).into(),
    }
}

fn message(members: &[(u64, &str, FieldType)], bytes: &[u8]) -> Map<String, Value> {
    let mut found = Map::new();
    for field in fields(bytes) {
        let (Field::Number(number, _) | Field::Bytes(number, _)) = field;
        let Some((_, name, field_type)) = members.iter().find(|(member, ..)| *member == number) else {
            // metrics-server writes empty fields; no other field may be unknown.
            assert!(matches!(field, Field::Number(_, 0) | Field::Bytes(_, [])), "field {number}");
            continue;
        };
        let bare = name.trim_matches(['[', ']']);
        match (field, field_type) {
            (Field::Number(_, 0), _) | (Field::Bytes(_, []), Text) => {}
            (Field::Number(_, number), Integer) => {
                found.insert(bare.into(), number.into());
            }
            (Field::Bytes(_, content_bytes), MapOf(of)) => {
                let entry = found.entry(bare).or_insert_with(|| json!({}));
                entry[text(content(content_bytes, 1))] = value(of, content(content_bytes, 2));
            }
            (Field::Bytes(_, content), field_type) if bare != *name => {
                let items = found.entry(bare).or_insert_with(|| json!([]));
                items.as_array_mut().unwrap().push(value(field_type, content));
            }
            (Field::Bytes(_, content), field_type) => {
                assert!(found.insert(bare.into(), value(field_type, content)).is_none(), "{name} twice");
            }
            (Field::Number(..), _) => panic!("{name} is a number"),
        }
    }
    found
}

/// Decodes a document.
pub(super) fn read(document: &[u8]) -> Value {
    let document = document.strip_prefix(b"k8s\0").expect("the magic prefix");
    let type_meta = content(document, 1);
    let kind = text(content(type_meta, 2));
    let mut document_value = value(&body(&kind), content(document, 2));
    if let Some(items) =
        document_value.as_object_mut().filter(|_| kind.ends_with("List") && kind.contains("Met"))
    {
        items.entry("items").or_insert_with(|| json!([]));
    }
    let members = document_value.as_object_mut().unwrap();
    // One encoder omits empty metadata, the other writes it.
    if matches!(members.get("metadata"), None | Some(Value::Null)) && !kind.starts_with("API") {
        members.insert("metadata".into(), json!({}));
    }
    members.insert("kind".into(), kind.into());
    members.insert("apiVersion".into(), text(content(type_meta, 1)).into());
    document_value
}

/// Converts JSON to the form of decoded protobuf: windows as nanoseconds, items without type.
pub(super) fn comparable(mut json: Value) -> Value {
    fn walk(value: &mut Value, top: bool) {
        match value {
            Value::Object(members) => {
                if !top {
                    let partial = members.get("kind") == Some(&json!("PartialObjectMetadata"));
                    if partial {
                        members.remove("kind");
                        members.remove("apiVersion");
                    }
                }
                if let Some(window) = members.get_mut("window") {
                    *window = seconds(window.as_str().unwrap()).into();
                }
                members.values_mut().for_each(|value| walk(value, false));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, false)),
            _ => {}
        }
    }
    fn seconds(window: &str) -> i64 {
        let window = window.strip_suffix('s').unwrap();
        let (minutes, seconds) = window.split_once('m').unwrap_or(("0", window));
        let (whole, decimals) = seconds.split_once('.').unwrap_or((seconds, ""));
        let nanoseconds: i64 = format!("{decimals:0<9}").parse().unwrap();
        (minutes.parse::<i64>().unwrap() * 60 + whole.parse::<i64>().unwrap()) * 1_000_000_000 + nanoseconds
    }
    walk(&mut json, true);
    json
}

/// Decodes the events of a watch: each is a length and a message.
pub(super) fn read_events(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (event, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        events.push((text(content(event, 1)), read(content(content(event, 2), 1))));
        bytes = rest;
    }
    events
}
