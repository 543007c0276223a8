//! Protobuf. The doc comment of each function lists the field numbers. Empty strings and zeros are omitted, which
//! decoders treat as equal.

use super::EncodeContext;
use super::out::{ByteCounter, Output};
use crate::api::negotiate::View;
use crate::api::quantity::Quantity;
use crate::api::resource::Row;
use crate::api::timestamp;
use crate::model::rows::Usage;

/// The prefix of every Kubernetes protobuf document.
const MAGIC: &[u8] = b"k8s\0";

/// Wire types.
const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

/// Returns a document: the envelope `runtime.Unknown` (typeMeta 1, raw 2) with a body.
pub(in crate::api) fn enveloped(api_version: &str, kind: &str, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = envelope_head(api_version, kind);
    message(&mut out, 2, body);
    out
}

/// Returns one object as a complete document.
pub(in crate::api) fn object(context: &EncodeContext, row: Row<'_>) -> Vec<u8> {
    let (kind, api_version) = context.object_type();
    enveloped(api_version, kind, |out| view(out, context, row))
}

/// Appends one item of a list. All kinds of list have metadata 1 and items 2.
pub(in crate::api) fn item(out: &mut impl Output, context: &EncodeContext, row: Row<'_>) {
    long_message(out, 2, |out| view(out, context, row));
}

/// Returns the number of bytes that [`item`] appends.
pub(in crate::api) fn item_length(context: &EncodeContext, row: Row<'_>) -> usize {
    let mut count = ByteCounter::default();
    item(&mut count, context, row);
    count.0
}

/// Returns the part of a list before its items, which take `items` bytes.
pub(in crate::api) fn list_head(context: &EncodeContext, continue_token: &str, items: usize) -> Vec<u8> {
    let (kind, api_version) = context.list_type();
    // `ListMeta`: selfLink 1, resourceVersion 2, continue 3, remainingItemCount 4.
    let mut metadata = Vec::new();
    message(&mut metadata, 1, |out| {
        resource_version(out, 2, context.list_resource_version);
        string(out, 3, continue_token);
    });
    let mut out = envelope_head(api_version, kind);
    tag(&mut out, 2, LENGTH_DELIMITED);
    varint(&mut out, (metadata.len() + items) as u64);
    out.extend_from_slice(&metadata);
    out
}

/// Returns the magic prefix and typeMeta (apiVersion 1, kind 2).
fn envelope_head(api_version: &str, kind: &str) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    message(&mut out, 1, |out| {
        string(out, 1, api_version);
        string(out, 2, kind);
    });
    out
}

/// Appends the body of an object. Tables have no protobuf form.
fn view(out: &mut impl Output, context: &EncodeContext, row: Row<'_>) {
    match context.view {
        View::Full | View::Table(_) => full(out, context, row),
        View::Metadata(_) | View::MetadataList(_) => partial(out, context, row),
    }
}

/// `NodeMetrics`: metadata 1, timestamp 2, window 3, usage 4. `PodMetrics`: the same, but containers 4.
fn full(out: &mut impl Output, context: &EncodeContext, row: Row<'_>) {
    let (timestamp_ns, window_ns) = row.interval();
    metadata(out, context, row);
    message(out, 2, |out| time(out, timestamp_ns));
    // `Duration`: duration 1, in nanoseconds.
    message(out, 3, |out| integer(out, 1, window_ns));
    match row {
        Row::Node(node) => usage(out, 4, context, node.usage),
        Row::Pod(pod) => {
            for container in pod.containers {
                // `ContainerMetrics`: name 1, usage 2.
                message(out, 4, |out| {
                    string(out, 1, container.name);
                    usage(out, 2, context, container.usage);
                });
            }
        }
    }
}

/// `PartialObjectMetadata`: metadata 1.
fn partial(out: &mut impl Output, context: &EncodeContext, row: Row<'_>) {
    metadata(out, context, row);
}

/// Appends a watch event: its length as four bytes, big-endian, then `WatchEvent` (type 1, object 2 (raw 1)) without an
/// envelope. The object is a document with its envelope.
pub(in crate::api) fn event(out: &mut Vec<u8>, kind: &str, document: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    string(out, 1, kind);
    message(out, 2, |out| message(out, 1, |out| out.extend_from_slice(document)));
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Returns the object of a bookmark: it has only a resource version and perhaps an annotation (`ObjectMeta`:
/// resourceVersion 6, annotations 12).
pub(in crate::api) fn bookmark(context: &EncodeContext, annotation: Option<&str>) -> Vec<u8> {
    let (kind, api_version) = context.object_type();
    enveloped(api_version, kind, |out| {
        message(out, 1, |out| {
            resource_version(out, 6, context.list_resource_version);
            if let Some(annotation) = annotation {
                message(out, 12, |out| {
                    string(out, 1, annotation);
                    string(out, 2, "true");
                });
            }
        });
    })
}

fn resource_version(out: &mut impl Output, field: u64, version: u64) {
    if version > 0 {
        message(out, field, |out| out.put_decimal(version));
    }
}

/// `ObjectMeta`: name 1, namespace 3, resourceVersion 6, creationTimestamp 8, labels 11.
fn metadata(out: &mut impl Output, context: &EncodeContext, row: Row<'_>) {
    let (namespace, name) = row.key();
    long_message(out, 1, |out| {
        string(out, 1, name);
        string(out, 3, namespace);
        resource_version(out, 6, context.object_version(row));
        message(out, 8, |out| time(out, context.created_ns));
        out.put(row.labels().protobuf_field());
    });
}

/// `Time`: seconds 1. nanos 2 is always zero, as JSON has whole seconds.
fn time(out: &mut impl Output, nanoseconds: i64) {
    integer(out, 1, timestamp::seconds(nanoseconds));
}

/// A map from resource name to `Quantity` (string 1).
fn usage(out: &mut impl Output, field: u8, context: &EncodeContext, usage: Usage) {
    quantity(out, field, *b"\x0a\x03cpu\x12", Quantity::cpu(usage.cpu_nanocores));
    quantity(out, field, *b"\x0a\x06memory\x12", Quantity::bytes(usage.memory_bytes));
    if let Some(bytes) = usage.swap_bytes.filter(|_| context.swap) {
        quantity(out, field, *b"\x0a\x04swap\x12", Quantity::bytes(bytes));
    }
}

/// An entry of that map. `head` is the part before the quantity's length: the resource name (key 1) and the tag of
/// the value 2. These entries are a large part of a list, so their lengths, all of one byte, are computed in advance
/// instead of measured.
fn quantity<const N: usize>(out: &mut impl Output, field: u8, head: [u8; N], quantity: Quantity) {
    let length = quantity.length();
    out.put(&[field << 3 | LENGTH_DELIMITED, N.to_le_bytes()[0] + 3 + length]);
    out.put(&head);
    out.put(&[length + 2, 1 << 3 | LENGTH_DELIMITED, length]);
    quantity.push(out);
}

/// Appends a field that contains a message or bytes.
pub(in crate::api) fn message<O: Output>(out: &mut O, field: u64, body: impl FnOnce(&mut O)) {
    tag(out, field, LENGTH_DELIMITED);
    out.put_counted(1, body);
}

/// The same for a body that usually has 128 bytes or more.
fn long_message<O: Output>(out: &mut O, field: u64, body: impl FnOnce(&mut O)) {
    tag(out, field, LENGTH_DELIMITED);
    out.put_counted(2, body);
}

/// Appends a string, unless it is empty.
pub(in crate::api) fn string(out: &mut impl Output, field: u64, text: &str) {
    if !text.is_empty() {
        tag(out, field, LENGTH_DELIMITED);
        varint(out, text.len() as u64);
        out.put(text.as_bytes());
    }
}

/// Appends an integer (`int32`, `int64`, `bool`), unless it is zero.
pub(in crate::api) fn integer(out: &mut impl Output, field: u64, value: i64) {
    if value != 0 {
        tag(out, field, VARINT);
        varint(out, value.cast_unsigned());
    }
}

fn tag(out: &mut impl Output, field: u64, wire_type: u8) {
    varint(out, field << 3 | u64::from(wire_type));
}

fn varint(out: &mut impl Output, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            return out.put_byte(low & 0x7f);
        }
        out.put_byte(low | 0x80);
    }
}
