//! Compact JSON, with members in the order of kube-apiserver.

use super::{EncodeContext, IncludeObject};
use crate::api::negotiate::{MetaVersion, View};
use crate::api::quantity::{Quantity, push_decimal};
use crate::api::resource::{Resource, Row};
use crate::api::{duration, timestamp};
use crate::model::labels::Labels;
use crate::model::rows::Usage;

/// Appends one object as a complete document.
pub(in crate::api) fn object(out: &mut Vec<u8>, context: &EncodeContext, row: Row<'_>) {
    match context.view {
        View::Full => full(out, context, row, true),
        View::Metadata(version) | View::MetadataList(version) => partial(out, context, version, row),
        View::Table(_) => {
            list_head(out, context, "");
            item(out, context, row);
            out.extend_from_slice(LIST_TAIL);
        }
    }
}

/// Appends the part of a list before its items.
pub(in crate::api) fn list_head(out: &mut Vec<u8>, context: &EncodeContext, continue_token: &str) {
    let (kind, api_version) = context.list_type();
    type_meta(out, kind, api_version);
    out.extend_from_slice(b",\"metadata\":{");
    resource_version(out, context.list_resource_version);
    member(out, "continue", continue_token);
    out.push(b'}');
    if context.columns && matches!(context.view, View::Table(_)) {
        columns(out, context);
    }
    items_start(out, context);
}

/// Appends the part before the items of a list that has no other members.
pub(in crate::api) fn bare_list_head(out: &mut Vec<u8>, context: &EncodeContext) {
    out.push(b'{');
    items_start(out, context);
}

/// Returns the name of the member that contains the items.
pub(in crate::api) fn items_member(context: &EncodeContext) -> &'static str {
    if matches!(context.view, View::Table(_)) { "rows" } else { "items" }
}

fn items_start(out: &mut Vec<u8>, context: &EncodeContext) {
    separate(out);
    string(out, items_member(context));
    out.extend_from_slice(b":[");
}

/// The part of a list after its items.
pub(in crate::api) const LIST_TAIL: &[u8] = b"]}";

/// Appends one item of a list, after a comma unless it is the first.
pub(in crate::api) fn item(out: &mut Vec<u8>, context: &EncodeContext, row: Row<'_>) {
    separate(out);
    match context.view {
        View::Full => full(out, context, row, false),
        View::Metadata(version) | View::MetadataList(version) => partial(out, context, version, row),
        View::Table(version) => table_row(out, context, version, row),
    }
}

fn type_meta(out: &mut Vec<u8>, kind: &str, api_version: &str) {
    out.push(b'{');
    member(out, "kind", kind);
    member(out, "apiVersion", api_version);
}

fn full(out: &mut Vec<u8>, context: &EncodeContext, row: Row<'_>, with_type: bool) {
    if with_type {
        type_meta(out, context.resource.kind(), context.version.group_version());
        out.push(b',');
    } else {
        out.push(b'{');
    }
    metadata(out, context, row);
    let (timestamp_ns, window_ns) = row.interval();
    out.extend_from_slice(b",\"timestamp\":\"");
    timestamp::push(out, timestamp_ns);
    out.extend_from_slice(b"\",\"window\":\"");
    duration::push(out, window_ns);
    out.push(b'"');
    match row {
        Row::Node(node) => {
            out.push(b',');
            usage(out, context, node.usage);
        }
        Row::Pod(pod) => {
            out.extend_from_slice(b",\"containers\":[");
            for container in pod.containers {
                separate(out);
                out.extend_from_slice(b"{\"name\":");
                string(out, container.name);
                out.push(b',');
                usage(out, context, container.usage);
                out.push(b'}');
            }
            out.push(b']');
        }
    }
    out.push(b'}');
}

fn partial(out: &mut Vec<u8>, context: &EncodeContext, version: MetaVersion, row: Row<'_>) {
    type_meta(out, "PartialObjectMetadata", version.group_version());
    out.push(b',');
    metadata(out, context, row);
    out.push(b'}');
}

fn metadata(out: &mut Vec<u8>, context: &EncodeContext, row: Row<'_>) {
    let (namespace, name) = row.key();
    out.extend_from_slice(b"\"metadata\":{\"name\":");
    string(out, name);
    if !namespace.is_empty() {
        out.extend_from_slice(b",\"namespace\":");
        string(out, namespace);
    }
    resource_version(out, context.object_version(row));
    out.extend_from_slice(b",\"creationTimestamp\":\"");
    out.extend_from_slice(&context.created);
    out.push(b'"');
    labels(out, row.labels());
    out.push(b'}');
}

/// Appends the member `resourceVersion`, unless it is unset.
fn resource_version(out: &mut Vec<u8>, version: u64) {
    if version > 0 {
        separate(out);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        push_decimal(out, version);
        out.push(b'"');
    }
}

/// Appends a watch event with the object that `object` appends, and a newline.
pub(in crate::api) fn event(out: &mut Vec<u8>, kind: &str, object: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object(out);
    out.extend_from_slice(b"}\n");
}

/// Appends the object of a bookmark: it has only a resource version.
pub(in crate::api) fn bookmark(out: &mut Vec<u8>, context: &EncodeContext, annotation: Option<&str>) {
    let (kind, api_version) = context.object_type();
    type_meta(out, kind, api_version);
    out.extend_from_slice(b",\"metadata\":{");
    resource_version(out, context.list_resource_version);
    if let Some(annotation) = annotation {
        out.extend_from_slice(b",\"annotations\":{");
        string(out, annotation);
        out.extend_from_slice(b":\"true\"}");
    }
    out.push(b'}');
    match context.view {
        View::Full => {
            // Required members, with values that every decoder accepts.
            out.extend_from_slice(b",\"timestamp\":\"");
            out.extend_from_slice(&context.created);
            out.extend_from_slice(b"\",\"window\":\"0s\"");
            out.extend_from_slice(match context.resource {
                Resource::Nodes => b",\"usage\":{}".as_slice(),
                Resource::Pods => b",\"containers\":[]",
            });
        }
        View::Metadata(_) | View::MetadataList(_) => {}
        View::Table(_) => out.extend_from_slice(b",\"rows\":[]"),
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

fn usage(out: &mut Vec<u8>, context: &EncodeContext, usage: Usage) {
    out.extend_from_slice(b"\"usage\":{\"cpu\":\"");
    Quantity::cpu(usage.cpu_nanocores).push(out);
    out.extend_from_slice(b"\",\"memory\":\"");
    Quantity::bytes(usage.memory_bytes).push(out);
    if let Some(bytes) = usage.swap_bytes.filter(|_| context.swap) {
        out.extend_from_slice(b"\",\"swap\":\"");
        Quantity::bytes(bytes).push(out);
    }
    out.extend_from_slice(b"\"}");
}

/// kubectl's text for unknown values in tables.
const UNKNOWN: &[u8] = b"<unknown>";

/// Appends the column definitions of a table: name, CPU, memory and window as in metrics-server. Swap is last, and
/// shown only in wide output, so that scripts which read columns by position still work.
fn columns(out: &mut Vec<u8>, context: &EncodeContext) {
    out.extend_from_slice(b",\"columnDefinitions\":[");
    let usual = [
        ("Name", "name", "Name of the resource", b'0'),
        ("cpu", "quantity", "", b'0'),
        ("memory", "quantity", "", b'0'),
        ("Window", "duration", "", b'0'),
    ];
    let swap = context.swap.then_some(("swap", "quantity", "", b'1'));
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

fn table_row(out: &mut Vec<u8>, context: &EncodeContext, version: MetaVersion, row: Row<'_>) {
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
    if context.swap {
        out.extend_from_slice(b"\",\"");
        match usage.swap_bytes {
            Some(bytes) => Quantity::bytes(bytes).push(out),
            None => out.extend_from_slice(UNKNOWN),
        }
    }
    out.extend_from_slice(b"\"],\"object\":");
    match context.include {
        IncludeObject::None => out.extend_from_slice(b"null"),
        IncludeObject::Metadata => partial(out, context, version, row),
        IncludeObject::Object => full(out, context, row, true),
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

/// Appends a comma, unless nothing precedes within the object or array.
pub(in crate::api) fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{' | b'[')) {
        out.push(b',');
    }
}

/// Appends a string member, unless its value is empty.
pub(in crate::api) fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        separate(out);
        string(out, name);
        out.push(b':');
        string(out, value);
    }
}

/// Appends a string, escaped as Go does it: also safe within HTML.
pub(in crate::api) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Without an early exit, so that the compiler vectorizes the check.
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
        fn strings_parse_back(text in any::<String>()) {
            let mut out = Vec::new();
            super::string(&mut out, &text);
            prop_assert!(!out.iter().any(|byte| b"<>&\n".contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
