//! JSON, compact, members in the order of the API server.

use super::{IncludeObject, Shape};
use crate::api::negotiate::{MetaVersion, View};
use crate::api::quantity::{Quantity, push_decimal};
use crate::api::resource::{Resource, Row};
use crate::api::{duration, timestamp};
use crate::model::labels::Labels;
use crate::model::rows::Usage;

/// Appends one object as an answer of its own.
pub(in crate::api) fn object(out: &mut Vec<u8>, shape: &Shape, row: Row<'_>) {
    match shape.view {
        View::Whole => whole(out, shape, row, true),
        View::Metadata(version) | View::MetadataList(version) => partial(out, shape, version, row),
        View::Table(_) => {
            list_head(out, shape, "");
            item(out, shape, row);
            out.extend_from_slice(LIST_TAIL);
        }
    }
}

/// Appends what stands before the items of a list.
pub(in crate::api) fn list_head(out: &mut Vec<u8>, shape: &Shape, continuation: &str) {
    let (kind, api_version) = match shape.view {
        View::Whole => (shape.resource.list_kind(), shape.version.group_version()),
        View::Metadata(version) | View::MetadataList(version) => {
            ("PartialObjectMetadataList", meta_group_version(version))
        }
        View::Table(version) => ("Table", meta_group_version(version)),
    };
    type_meta(out, kind, api_version);
    out.extend_from_slice(b",\"metadata\":{");
    resource_version(out, shape.version_of_list);
    member(out, "continue", continuation);
    out.push(b'}');
    if matches!(shape.view, View::Table(_)) {
        if shape.columns {
            columns(out, shape);
        }
        out.extend_from_slice(b",\"rows\":[");
    } else {
        out.extend_from_slice(b",\"items\":[");
    }
}

/// What stands behind the items of a list.
pub(in crate::api) const LIST_TAIL: &[u8] = b"]}";

/// Appends one item of a list, with the comma where it is not the first.
pub(in crate::api) fn item(out: &mut Vec<u8>, shape: &Shape, row: Row<'_>) {
    separate(out);
    match shape.view {
        View::Whole => whole(out, shape, row, false),
        View::Metadata(version) | View::MetadataList(version) => partial(out, shape, version, row),
        View::Table(version) => table_row(out, shape, version, row),
    }
}

fn meta_group_version(version: MetaVersion) -> &'static str {
    match version {
        MetaVersion::V1 => "meta.k8s.io/v1",
        MetaVersion::V1beta1 => "meta.k8s.io/v1beta1",
    }
}

fn type_meta(out: &mut Vec<u8>, kind: &str, api_version: &str) {
    out.push(b'{');
    member(out, "kind", kind);
    member(out, "apiVersion", api_version);
}

fn whole(out: &mut Vec<u8>, shape: &Shape, row: Row<'_>, with_type: bool) {
    if with_type {
        type_meta(out, shape.resource.kind(), shape.version.group_version());
        out.push(b',');
    } else {
        out.push(b'{');
    }
    metadata(out, shape, row);
    let (timestamp_ns, window_ns) = row.interval();
    out.extend_from_slice(b",\"timestamp\":\"");
    timestamp::push(out, timestamp_ns);
    out.extend_from_slice(b"\",\"window\":\"");
    duration::push(out, window_ns);
    out.push(b'"');
    match row {
        Row::Node(node) => {
            out.push(b',');
            usage(out, shape, node.usage);
        }
        Row::Pod(pod) => {
            out.extend_from_slice(b",\"containers\":[");
            for container in pod.containers {
                separate(out);
                out.extend_from_slice(b"{\"name\":");
                string(out, container.name);
                out.push(b',');
                usage(out, shape, container.usage);
                out.push(b'}');
            }
            out.push(b']');
        }
    }
    out.push(b'}');
}

fn partial(out: &mut Vec<u8>, shape: &Shape, version: MetaVersion, row: Row<'_>) {
    type_meta(out, "PartialObjectMetadata", meta_group_version(version));
    out.push(b',');
    metadata(out, shape, row);
    out.push(b'}');
}

fn metadata(out: &mut Vec<u8>, shape: &Shape, row: Row<'_>) {
    let (namespace, name) = row.key();
    out.extend_from_slice(b"\"metadata\":{\"name\":");
    string(out, name);
    if !namespace.is_empty() {
        out.extend_from_slice(b",\"namespace\":");
        string(out, namespace);
    }
    resource_version(out, row.version());
    out.extend_from_slice(b",\"creationTimestamp\":\"");
    out.extend_from_slice(&shape.created);
    out.push(b'"');
    labels(out, row.labels());
    out.push(b'}');
}

/// The member `resourceVersion`, unless there is none.
fn resource_version(out: &mut Vec<u8>, version: u64) {
    if version > 0 {
        separate(out);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        push_decimal(out, version);
        out.push(b'"');
    }
}

/// Appends an event of a watch, whose object `object` appends, and the line's end.
pub(in crate::api) fn event(out: &mut Vec<u8>, kind: &str, object: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object(out);
    out.extend_from_slice(b"}\n");
}

/// Appends the object of a bookmark: an empty one but for its version.
pub(in crate::api) fn bookmark(out: &mut Vec<u8>, shape: &Shape, annotation: Option<&str>) {
    let head = |out: &mut Vec<u8>, kind: &str, api_version: &str| {
        type_meta(out, kind, api_version);
        out.extend_from_slice(b",\"metadata\":{");
        resource_version(out, shape.version_of_list);
        if let Some(annotation) = annotation {
            out.extend_from_slice(b",\"annotations\":{");
            string(out, annotation);
            out.extend_from_slice(b":\"true\"}");
        }
        out.push(b'}');
    };
    match shape.view {
        View::Whole => {
            head(out, shape.resource.kind(), shape.version.group_version());
            // Values that every decoder takes.
            out.extend_from_slice(b",\"timestamp\":\"");
            out.extend_from_slice(&shape.created);
            out.extend_from_slice(b"\",\"window\":\"0s\"");
            out.extend_from_slice(match shape.resource {
                Resource::Nodes => b",\"usage\":{}".as_slice(),
                Resource::Pods => b",\"containers\":[]",
            });
        }
        View::Metadata(version) | View::MetadataList(version) => {
            head(out, "PartialObjectMetadata", meta_group_version(version));
        }
        View::Table(version) => {
            head(out, "Table", meta_group_version(version));
            out.extend_from_slice(b",\"rows\":[]");
        }
    }
    out.push(b'}');
}

fn labels(out: &mut Vec<u8>, labels: &Labels) {
    if labels.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"labels\":{");
    match labels.json_members() {
        Some(members) => out.extend_from_slice(members.as_bytes()),
        None => {
            for (key, value) in labels.iter() {
                separate(out);
                string(out, key);
                out.push(b':');
                string(out, value);
            }
        }
    }
    out.push(b'}');
}

fn usage(out: &mut Vec<u8>, shape: &Shape, usage: Usage) {
    out.extend_from_slice(b"\"usage\":{\"cpu\":\"");
    Quantity::cpu(usage.cpu_nanocores).push(out);
    out.extend_from_slice(b"\",\"memory\":\"");
    Quantity::bytes(usage.memory_bytes).push(out);
    if let Some(bytes) = usage.swap_bytes.filter(|_| shape.swap) {
        out.extend_from_slice(b"\",\"swap\":\"");
        Quantity::bytes(bytes).push(out);
    }
    out.extend_from_slice(b"\"}");
}

/// What kubectl's own tables say of what is not known.
const UNKNOWN: &[u8] = b"<unknown>";

/// A table's columns: the name, CPU, memory and the window as metrics-server has them. Swap comes last, and is shown
/// to who asks for the wide form, so that what reads columns by their place goes on to.
fn columns(out: &mut Vec<u8>, shape: &Shape) {
    out.extend_from_slice(b",\"columnDefinitions\":[");
    let usual = [
        ("Name", "name", "Name of the resource", b'0'),
        ("cpu", "quantity", "", b'0'),
        ("memory", "quantity", "", b'0'),
        ("Window", "duration", "", b'0'),
    ];
    let swap = shape.swap.then_some(("swap", "quantity", "", b'1'));
    for (name, format, description, priority) in usual.into_iter().chain(swap) {
        separate(out);
        out.extend_from_slice(b"{\"name\":");
        string(out, name);
        out.extend_from_slice(b",\"type\":\"string\",\"format\":");
        string(out, format);
        out.extend_from_slice(b",\"description\":");
        string(out, description);
        out.extend_from_slice(b",\"priority\":");
        out.extend_from_slice(&[priority, b'}']);
    }
    out.push(b']');
}

fn table_row(out: &mut Vec<u8>, shape: &Shape, version: MetaVersion, row: Row<'_>) {
    let usage = match row {
        Row::Node(node) => node.usage,
        Row::Pod(pod) => sum(pod.containers.iter().map(|container| container.usage)),
    };
    out.extend_from_slice(b"{\"cells\":[");
    string(out, row.key().1);
    out.extend_from_slice(b",\"");
    Quantity::cpu(usage.cpu_nanocores).push(out);
    out.extend_from_slice(b"\",\"");
    Quantity::bytes(usage.memory_bytes).push(out);
    out.extend_from_slice(b"\",\"");
    duration::push(out, row.interval().1);
    if shape.swap {
        out.extend_from_slice(b"\",\"");
        match usage.swap_bytes {
            Some(bytes) => Quantity::bytes(bytes).push(out),
            None => out.extend_from_slice(UNKNOWN),
        }
    }
    out.extend_from_slice(b"\"],\"object\":");
    match shape.include {
        IncludeObject::None => out.extend_from_slice(b"null"),
        IncludeObject::Metadata => partial(out, shape, version, row),
        IncludeObject::Object => whole(out, shape, row, true),
    }
    out.push(b'}');
}

fn sum(usages: impl Iterator<Item = Usage>) -> Usage {
    usages.fold(Usage::default(), |total, usage| Usage {
        cpu_nanocores: total.cpu_nanocores.saturating_add(usage.cpu_nanocores),
        memory_bytes: total.memory_bytes.saturating_add(usage.memory_bytes),
        swap_bytes: match (total.swap_bytes, usage.swap_bytes) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        },
    })
}

/// Appends a comma, unless an object or array has just been opened.
pub(in crate::api) fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{' | b'[')) {
        out.push(b',');
    }
}

/// Appends a member whose value is a string, unless that is empty.
pub(in crate::api) fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        separate(out);
        string(out, name);
        out.push(b':');
        string(out, value);
    }
}

/// Appends a string, escaped as Go escapes it, so that the bytes are also safe within HTML.
pub(in crate::api) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Without an early end, so that many bytes are looked at in one step.
    if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.extend_from_slice(text.as_bytes());
    } else {
        for c in text.chars() {
            escaped(out, c);
        }
    }
    out.push(b'"');
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

fn escaped(out: &mut Vec<u8>, c: char) {
    let short: &[u8] = match c {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        '\u{8}' => b"\\b",
        '\u{c}' => b"\\f",
        '<' => b"\\u003c",
        '>' => b"\\u003e",
        '&' => b"\\u0026",
        '\u{2028}' => b"\\u2028",
        '\u{2029}' => b"\\u2029",
        '\0'..='\u{1f}' => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let code = u32::from(c) as usize;
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[DIGITS[code / 16], DIGITS[code % 16]]);
            return;
        }
        c => {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
    };
    out.extend_from_slice(short);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            super::string(&mut out, &text);
            prop_assert!(!out.iter().any(|byte| b"<>&\n".contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
