//! Compact JSON to YAML in block style, piece by piece.
//!
//! Members keep their order. A string is quoted unless it can be nothing but a string; quoted, it keeps its
//! JSON form, which YAML 1.2 reads alike.

/// The state between two pieces; a piece ends between two tokens.
#[derive(Debug, Default)]
pub(in crate::api) struct Yaml {
    open: Vec<Container>,
    place: Place,
    /// Opened, and nothing in it yet: an empty one is written in flow style.
    pending: Option<(Kind, Place)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mapping,
    Sequence,
}

#[derive(Debug)]
struct Container {
    kind: Kind,
    indent: usize,
    /// The first entry stands on a line already begun: `- name: x`.
    inline: bool,
}

/// Where the next value stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// It is the document.
    #[default]
    Document,
    /// A mapping's key is due instead.
    Key,
    /// Behind `key:`.
    Value,
    /// In a sequence.
    Item,
}

impl Yaml {
    /// Appends `compact` as YAML.
    pub(in crate::api) fn push(&mut self, out: &mut Vec<u8>, compact: &[u8]) {
        let mut rest = compact;
        while let Some(&byte) = rest.first() {
            let length = match byte {
                b'"' => string_length(rest),
                b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
                _ => rest.iter().position(|byte| b"{}[],:\"".contains(byte)).unwrap_or(rest.len()),
            };
            let (token, behind) = rest.split_at(length);
            rest = behind;
            match byte {
                b'{' => self.begin(out, Kind::Mapping),
                b'[' => self.begin(out, Kind::Sequence),
                b'}' | b']' => self.end(out),
                b',' => self.place = self.place_within(),
                b':' => {}
                _ => self.scalar(out, token),
            }
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>, kind: Kind) {
        self.settle(out);
        self.pending = Some((kind, self.place));
        self.place = if kind == Kind::Mapping { Place::Key } else { Place::Item };
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if let Some((kind, place)) = self.pending.take() {
            self.lead(out, place);
            out.extend_from_slice(if kind == Kind::Mapping { b"{}\n" } else { b"[]\n" });
        } else {
            self.open.pop();
        }
        self.place = self.place_within();
    }

    fn place_within(&self) -> Place {
        match self.open.last().map(|container| container.kind) {
            None => Place::Document,
            Some(Kind::Mapping) => Place::Key,
            Some(Kind::Sequence) => Place::Item,
        }
    }

    /// Writes the beginning of a container that turned out not to be empty.
    fn settle(&mut self, out: &mut Vec<u8>) {
        let Some((kind, place)) = self.pending.take() else {
            return;
        };
        let outer = self.open.last().map_or(0, |container| container.indent);
        let (indent, inline) = match place {
            Place::Document | Place::Key => (0, false),
            Place::Value => {
                out.push(b'\n');
                (if kind == Kind::Mapping { outer + 2 } else { outer }, false)
            }
            Place::Item => {
                self.lead(out, place);
                (outer + 2, true)
            }
        };
        self.open.push(Container { kind, indent, inline });
    }

    /// Writes what comes before a value at this place.
    fn lead(&mut self, out: &mut Vec<u8>, place: Place) {
        match place {
            Place::Document => {}
            Place::Value => out.push(b' '),
            Place::Key => self.line_start(out),
            Place::Item => {
                self.line_start(out);
                out.extend_from_slice(b"- ");
            }
        }
    }

    fn line_start(&mut self, out: &mut Vec<u8>) {
        if let Some(container) = self.open.last_mut()
            && !std::mem::take(&mut container.inline)
        {
            out.resize(out.len() + container.indent, b' ');
        }
    }

    fn scalar(&mut self, out: &mut Vec<u8>, token: &[u8]) {
        self.settle(out);
        self.lead(out, self.place);
        match token {
            [b'"', text @ .., b'"'] if is_plain(text) => out.extend_from_slice(text),
            token => out.extend_from_slice(token),
        }
        if self.place == Place::Key {
            out.push(b':');
            self.place = Place::Value;
        } else {
            out.push(b'\n');
            self.place = self.place_within();
        }
    }
}

fn string_length(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// Whether a string without quotes is read as that string by YAML 1.1 and 1.2 alike. Said of less than all
/// such strings: of words, paths and domain names, and of what quantities and durations look like.
fn is_plain(text: &[u8]) -> bool {
    match text {
        [b'a'..=b'z' | b'A'..=b'Z', ..] => {
            text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(byte))
                && !is_reserved(text)
        }
        [b'0'..=b'9', .., last] => {
            last.is_ascii_alphabetic()
                && text.iter().all(|byte| byte.is_ascii_digit() || b".numkMGKish".contains(byte))
        }
        _ => false,
    }
}

/// Words that YAML 1.1 or 1.2 reads as something else than a string.
fn is_reserved(word: &[u8]) -> bool {
    const RESERVED: [&[u8]; 9] = [b"null", b"true", b"false", b"yes", b"no", b"on", b"off", b"y", b"n"];
    RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::Yaml;

    fn yaml(value: &Value) -> String {
        let mut out = Vec::new();
        Yaml::default().push(&mut out, &serde_json::to_vec(value).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_blocks_as_kubernetes_does() {
        let value = json!({
            "apiVersion": "metrics.k8s.io/v1beta1",
            "items": [
                {"labels": {"a": "true", "b": ""}, "usage": {"cpu": "1", "memory": "27Mi"}},
                {"labels": {}, "verbs": ["get", "list"], "nested": [["x"], []]},
            ],
            "metadata": {},
            "n": 404,
            "none": null,
            "window": "1m0s",
        });
        let expected = r#"apiVersion: metrics.k8s.io/v1beta1
items:
- labels:
    a: "true"
    b: ""
  usage:
    cpu: "1"
    memory: 27Mi
- labels: {}
  nested:
  - - x
  - []
  verbs:
  - get
  - list
metadata: {}
"n": 404
none: null
window: 1m0s
"#;
        assert_eq!(yaml(&value), expected);
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~]{0,8}",
            prop::sample::select(vec![
                "no", "0x1f", "1e3", "1_0", "0o7", "12:30", "~", "- a", "a: b", "#", ".inf", "1.5", "9s"
            ])
            .prop_map(str::to_owned),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_back_as_the_same_value(value in value()) {
            let text = yaml(&value);
            let read: Value = serde_saphyr::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read, value, "{}", text);
        }

        #[test]
        fn takes_any_bytes(bytes in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            Yaml::default().push(&mut out, &bytes);
        }
    }
}
