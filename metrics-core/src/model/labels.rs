//! The labels of an object, compact and sorted by key.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Labels sorted by key, each key once. Pods of one template can share one value behind an `Arc`.
///
/// Uses three allocations, whatever the number of labels: every node and every pod template has a value of this type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Keys and values as the members of a JSON object, without escapes: `"a":"1","b":"2"`. Labels are a large part
    /// of a list, so the encoders copy them instead of encoding them each time.
    text: Box<str>,
    /// The same labels as protobuf map entries.
    entries: Box<[u8]>,
    /// Where each key and its value end in `text`.
    ends: Box<[(u32, u32)]>,
    /// Whether a key or value contains a character that Kubernetes does not allow in labels, and that may need an
    /// escape.
    irregular: bool,
}

/// Separates a key from its value.
const COLON: &str = "\":\"";
/// Separates a value from the next key.
const COMMA: &str = "\",\"";

impl Labels {
    /// Returns the value of `key`.
    #[must_use]
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            let (found, value) = self.at(middle);
            match found.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(value),
            }
        }
        None
    }

    /// Returns keys and values, sorted by key.
    #[must_use]
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        (0..self.ends.len()).map(|at| self.at(at))
    }

    /// Returns whether there are no labels.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the labels as members of a JSON object, or `None` if a character may need an escape: the caller must
    /// then encode the labels one by one.
    #[must_use]
    pub(crate) fn json_members(&self) -> Option<&str> {
        (!self.irregular).then_some(&self.text)
    }

    /// Returns the field `labels` (11) of `ObjectMeta`, encoded as protobuf.
    #[must_use]
    pub(crate) fn protobuf_field(&self) -> &[u8] {
        &self.entries
    }

    fn at(&self, at: usize) -> (&str, &str) {
        let start = at.checked_sub(1).map_or(1, |before| self.ends[before].1 as usize + COMMA.len());
        let (key, value) = (self.ends[at].0 as usize, self.ends[at].1 as usize);
        (&self.text[start..key], &self.text[key + COLON.len()..value])
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    /// Collects labels in any order. The last value of a repeated key wins. Labels beyond 4 GiB are dropped.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let ordered: BTreeMap<Box<str>, Box<str>> =
            labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let mut text = String::new();
        let mut ends = Vec::with_capacity(ordered.len());
        let mut entries = Vec::new();
        let mut irregular = false;
        for (key, value) in ordered {
            let key_start = text.len() + if ends.is_empty() { 1 } else { COMMA.len() };
            let key_end = key_start + key.len();
            let value_end = key_end + COLON.len() + value.len();
            let (Ok(key_end), Ok(value_end)) = (u32::try_from(key_end), u32::try_from(value_end)) else {
                break;
            };
            text.push_str(if ends.is_empty() { "\"" } else { COMMA });
            text.push_str(&key);
            text.push_str(COLON);
            text.push_str(&value);
            ends.push((key_end, value_end));
            push_entry(&mut entries, &key, &value);
            irregular |= !(is_regular(&key) && is_regular(&value));
        }
        if !ends.is_empty() {
            text.push('"');
        }
        let entries = entries.into_boxed_slice();
        Self { text: text.into_boxed_str(), entries, ends: ends.into_boxed_slice(), irregular }
    }
}

/// Appends a map entry: key 1 and value 2; empty ones are omitted.
fn push_entry(out: &mut Vec<u8>, key: &str, value: &str) {
    const FIELD: u8 = 11 << 3 | 2;
    let mut entry = Vec::with_capacity(key.len() + value.len() + 8);
    for (tag, text) in [(1 << 3 | 2, key), (2 << 3 | 2, value)] {
        if !text.is_empty() {
            entry.push(tag);
            push_varint(&mut entry, text.len());
            entry.extend_from_slice(text.as_bytes());
        }
    }
    out.push(FIELD);
    push_varint(out, entry.len());
    out.extend(entry);
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Returns whether all characters are allowed in labels (Kubernetes, "Labels and Selectors").
fn is_regular(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::Labels;

    #[test]
    fn get_finds_labels_inserted_in_any_order() {
        let labels: Labels = [("b", "2"), ("a", "1"), ("c", ""), ("a", "0")].into_iter().collect();
        assert_eq!(labels.get("a"), Some("0"));
        assert_eq!(labels.get("c"), Some(""));
        assert_eq!(labels.get("d"), None);
        assert_eq!(labels.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn labels_are_equal_only_if_keys_and_values_are() {
        let of = |labels: &[(&str, &str)]| labels.iter().copied().collect::<Labels>();
        assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("a", "1")]));
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]), "the boundary between key and value matters");
        assert_eq!(of(&[("", "x")]).get(""), Some("x"));
        assert!(of(&[]).is_empty() && of(&[]) == Labels::default());
    }

    #[test]
    fn protobuf_field_has_one_entry_per_label() {
        let of = |labels: &[(&str, &str)]| labels.iter().copied().collect::<Labels>();
        let short = of(&[("tier", ""), ("a", "bc"), ("", "x")]);
        assert_eq!(
            short.protobuf_field(),
            b"\x5a\x03\x12\x01x\x5a\x07\x0a\x01a\x12\x02bc\x5a\x06\x0a\x04tier"
        );
        let long = of(&[("a", &"v".repeat(300))]);
        assert_eq!(long.protobuf_field()[..9], *b"\x5a\xb2\x02\x0a\x01a\x12\xac\x02");
        assert_eq!(long.protobuf_field().len(), 9 + 300);
    }

    #[test]
    fn json_members_is_none_if_a_character_needs_an_escape() {
        let of = |labels: &[(&str, &str)]| labels.iter().copied().collect::<Labels>();
        assert_eq!(of(&[]).json_members(), Some(""));
        let usual = of(&[("tier", "a_b.c-1"), ("example.com/app", "")]);
        assert_eq!(usual.json_members(), Some(r#""example.com/app":"","tier":"a_b.c-1""#));
        for odd in ["\"", "\\", "<", "\u{e9}", "\n", " "] {
            let labels = of(&[("a", odd), ("b", "2")]);
            assert_eq!(labels.json_members(), None, "{odd:?}");
            assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", odd), ("b", "2")]);
            assert_eq!(of(&[(odd, "1")]).json_members(), None, "{odd:?}");
        }
    }
}
