//! Compact JSON to indented JSON, piece by piece.

/// The state between two pieces. A piece may end anywhere but within an escape.
#[derive(Debug, Default)]
pub(in crate::api) struct Indent {
    depth: usize,
    in_string: bool,
    /// A container has been opened and nothing has been written into it.
    opened: bool,
}

impl Indent {
    /// Appends `compact`, indented by two spaces a level.
    pub(in crate::api) fn push(&mut self, out: &mut Vec<u8>, compact: &[u8]) {
        let mut bytes = compact.iter();
        while let Some(&byte) = bytes.next() {
            if self.in_string {
                out.push(byte);
                match byte {
                    b'"' => self.in_string = false,
                    b'\\' => out.extend(bytes.next()),
                    _ => {}
                }
                continue;
            }
            let closes = matches!(byte, b'}' | b']');
            if closes {
                self.depth = self.depth.saturating_sub(1);
            }
            if closes != self.opened {
                self.line_break(out);
            }
            self.opened = false;
            match byte {
                b'{' | b'[' => {
                    out.push(byte);
                    self.depth += 1;
                    self.opened = true;
                }
                b',' => {
                    out.push(byte);
                    self.line_break(out);
                }
                b':' => out.extend_from_slice(b": "),
                byte => {
                    self.in_string = byte == b'"';
                    out.push(byte);
                }
            }
        }
    }

    fn line_break(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::Indent;

    fn indented(pieces: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut indent = Indent::default();
        for piece in pieces {
            indent.push(&mut out, piece);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn indents_as_serde_json_does() {
        let value =
            json!({"a": {}, "b": [], "c": [1, {"d": "x{},:\"\\"}, [[]]], "e": null, "f": [true, -1.5e3]});
        let compact = serde_json::to_vec(&value).unwrap();
        assert_eq!(indented(&[&compact]), serde_json::to_string_pretty(&value).unwrap());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"{}]{0,4}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(value in value()) {
            let compact = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(indented(&[&compact]), serde_json::to_string_pretty(&value).unwrap());
        }

        #[test]
        fn takes_any_bytes(bytes in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            Indent::default().push(&mut out, &bytes);
        }
    }
}
