//! Parses the label block of a series in place.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::ContainerKey;

/// The labels that identify a container, where present.
#[derive(Default)]
pub(super) struct ContainerLabels<'a> {
    namespace: Option<Cow<'a, [u8]>>,
    pod: Option<Cow<'a, [u8]>>,
    container: Option<Cow<'a, [u8]>>,
}

impl<'a> ContainerLabels<'a> {
    /// Returns the key if all three labels are present and not empty.
    pub(super) fn into_key(self) -> Option<ContainerKey<'a>> {
        let key = ContainerKey { namespace: self.namespace?, pod: self.pod?, container: self.container? };
        (!key.namespace.is_empty() && !key.pod.is_empty() && !key.container.is_empty()).then_some(key)
    }
}

/// Parses labels up to and including the closing brace; `rest` starts after the opening one. Returns `None` if they
/// are malformed or one of the three labels occurs twice.
pub(super) fn parse(mut rest: &[u8]) -> Option<(ContainerLabels<'_>, &[u8])> {
    let mut found = ContainerLabels::default();
    loop {
        rest = skip_blanks(rest);
        if let Some(behind) = rest.strip_prefix(b"}") {
            return Some((found, behind));
        }
        let equals = memchr(b'=', rest)?;
        let name = trim_end(&rest[..equals]);
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return None;
        }
        rest = skip_blanks(&rest[equals + 1..]).strip_prefix(b"\"")?;
        let (value, escaped, behind) = quoted(rest)?;
        let slot = match name {
            b"container" => Some(&mut found.container),
            b"namespace" => Some(&mut found.namespace),
            b"pod" => Some(&mut found.pod),
            _ => None,
        };
        if let Some(slot) = slot {
            let value = if escaped { Cow::Owned(unescape(value)?) } else { Cow::Borrowed(value) };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        rest = skip_blanks(behind);
        match rest.first()? {
            b',' => rest = &rest[1..],
            b'}' => {}
            _ => return None,
        }
    }
}

/// Returns the rest after a label block that consists of exactly these labels, in the order and form that kubelets
/// write.
pub(super) fn strip_expected<'a>(
    block: &'a [u8],
    [namespace, pod, container]: [&[u8]; 3],
) -> Option<&'a [u8]> {
    let rest = block.strip_prefix(b"{container=\"")?.strip_prefix(container)?;
    let rest = rest.strip_prefix(b"\",namespace=\"")?.strip_prefix(namespace)?;
    rest.strip_prefix(b"\",pod=\"")?.strip_prefix(pod)?.strip_prefix(b"\"}")
}

/// Returns the raw value up to the closing quote, whether it contains an escape, and the rest after the quote.
fn quoted(rest: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let mut at = memchr2(b'"', b'\\', rest)?;
    let escaped = rest[at] == b'\\';
    while rest[at] == b'\\' {
        let next = at + 2;
        at = next + memchr2(b'"', b'\\', rest.get(next..)?)?;
    }
    Some((&rest[..at], escaped, &rest[at + 1..]))
}

/// Replaces `\\`, `\"` and `\n`, the only escapes in the format.
fn unescape(value: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'"' => b'"',
                b'\\' => b'\\',
                _ => return None,
            },
            other => *other,
        });
    }
    Some(plain)
}

pub(super) fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    &bytes[blanks..]
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().rev().take_while(|byte| is_blank(**byte)).count();
    &bytes[..bytes.len() - blanks]
}

/// Splits off the next token.
pub(super) fn next_token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let bytes = skip_blanks(bytes);
    bytes.split_at(bytes.iter().position(|byte| is_blank(*byte)).unwrap_or(bytes.len()))
}

/// Carriage returns count as blanks: a proxy may have changed the line endings.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}
