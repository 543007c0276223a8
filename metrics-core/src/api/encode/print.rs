//! Indented JSON and YAML, printed by `serde_json` and `serde_saphyr` from compact JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use crate::api::negotiate::{MediaType, Representation};

/// A text form for people to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Printer {
    /// JSON, indented by two spaces.
    IndentedJson,
    /// YAML in block style.
    Yaml,
}

/// Which part of a list a batch of items is.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct ListPart {
    /// Whether it is the first part.
    pub(in crate::api) first: bool,
    /// Whether it is the last part.
    pub(in crate::api) last: bool,
    /// Whether it has no items. Then it must be the last part.
    pub(in crate::api) is_empty: bool,
}

impl Printer {
    /// Returns the printer for YAML and indented JSON; `None` for compact JSON and protobuf.
    pub(in crate::api) fn of(representation: Representation) -> Option<Self> {
        match representation.media_type {
            MediaType::Yaml => Some(Self::Yaml),
            MediaType::Json if representation.pretty => Some(Self::IndentedJson),
            MediaType::Json | MediaType::Protobuf => None,
        }
    }

    /// Prints a document.
    pub(in crate::api) fn print(self, json: &[u8]) -> Vec<u8> {
        // JSON from our own encoder always parses. Compact JSON is also valid as indented JSON and as YAML.
        let Ok(document) = serde_json::from_slice::<Document>(json) else { return json.to_vec() };
        match self {
            Self::IndentedJson => serde_json::to_string_pretty(&document).ok().map(escape_html),
            Self::Yaml => serde_saphyr::to_string_with_options(&document, yaml_options()).ok(),
        }
        .map_or_else(|| json.to_vec(), String::into_bytes)
    }

    /// Prints one part of a list, so that all parts, one after the other, are the printed list.
    ///
    /// `list` is a complete list with the items of this part only. All parts but the first have only the member
    /// `items_member`.
    pub(in crate::api) fn print_part(self, list: &[u8], items_member: &str, part: ListPart) -> Vec<u8> {
        let (start, separator, end) = match self {
            Self::IndentedJson => (format!("{{\n  \"{items_member}\": ["), ",", "\n  ]\n}"),
            Self::Yaml => (format!("{items_member}:\n"), "", ""),
        };
        if part.is_empty && !part.first {
            return end.into();
        }
        let mut text = self.print(list);
        if !part.last {
            text.truncate(text.len().saturating_sub(end.len()));
        }
        if !part.first {
            text.splice(..start.len().min(text.len()), separator.bytes());
        }
        text
    }
}

/// Escapes the characters that Go escapes in JSON to make it safe within HTML. JSON has them only in strings.
fn escape_html(json: String) -> String {
    const ESCAPES: [(char, &str); 5] = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    ESCAPES.into_iter().fold(json, |json, (character, escape)| {
        if json.contains(character) { json.replace(character, escape) } else { json }
    })
}

fn yaml_options() -> serde_saphyr::SerializerOptions {
    // Messages stay on one line, as Kubernetes writes them.
    serde_saphyr::ser_options! { prefer_block_scalars: false }
}

/// A JSON document whose members keep their order, which [`Value`] does not preserve.
enum Document {
    Scalar(Value),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Document::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Document::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        Ok(Document::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Document, E> {
        Ok(Document::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Document::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Document, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Document::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Document::Object(members))
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Scalar(value) => value.serialize(serializer),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => {
                serializer.collect_map(members.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{ListPart, Printer, escape_html};

    fn print(printer: Printer, value: &Value) -> String {
        String::from_utf8(printer.print(&serde_json::to_vec(value).unwrap())).unwrap()
    }

    #[test]
    fn yaml_is_written_as_kubernetes_writes_it() {
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
        assert_eq!(print(Printer::Yaml, &value), expected);
    }

    #[test]
    fn members_keep_their_order() {
        let json = br#"{"kind":"Status","apiVersion":"v1","code":404}"#;
        let text = |printer: Printer| String::from_utf8(printer.print(json)).unwrap();
        assert_eq!(
            text(Printer::IndentedJson),
            "{\n  \"kind\": \"Status\",\n  \"apiVersion\": \"v1\",\n  \"code\": 404\n}"
        );
        assert_eq!(text(Printer::Yaml), "kind: Status\napiVersion: v1\ncode: 404\n");
    }

    #[test]
    fn indented_json_has_the_escapes_of_go() {
        // The output of Go's json.MarshalIndent.
        let value = json!({ "<&>": ["a\u{2028}b\u{2029}c", "\u{8}\u{c}\n\u{1}\"\\/ü"] });
        let expected = r#"{
  "\u003c\u0026\u003e": [
    "a\u2028b\u2029c",
    "\b\f\n\u0001\"\\/ü"
  ]
}"#;
        assert_eq!(print(Printer::IndentedJson, &value), expected);
    }

    #[test]
    fn strings_that_yaml_1_1_reads_as_other_types_are_quoted() {
        for text in
            ["y", "no", "on", "0x1f", "1e3", "1_0", "0o7", "12:30", "~", "2026-07-01T12:34:56Z", "1.5"]
        {
            let yaml = print(Printer::Yaml, &json!({ text: text }));
            assert_eq!(yaml, format!("\"{text}\": \"{text}\"\n"));
        }
    }

    #[test]
    fn parts_of_a_list_make_up_the_list() {
        let item =
            |number: usize| format!(r#"{{"metadata":{{"name":"{number}"}},"containers":[{{"name":"c"}}]}}"#);
        let items = |range: std::ops::Range<usize>| range.map(item).collect::<Vec<_>>().join(",");
        let whole = |count: usize| format!(r#"{{"kind":"L","metadata":{{}},"items":[{}]}}"#, items(0..count));
        for printer in [Printer::IndentedJson, Printer::Yaml] {
            for ends in [vec![0], vec![3], vec![1, 3], vec![2, 3, 6], vec![2, 2], vec![1, 3, 3]] {
                let mut text = Vec::new();
                let mut from = 0;
                for (at, end) in ends.iter().enumerate() {
                    let list = match at {
                        0 => whole(*end),
                        _ => format!(r#"{{"items":[{}]}}"#, items(from..*end)),
                    };
                    let part =
                        ListPart { first: at == 0, last: at + 1 == ends.len(), is_empty: from == *end };
                    text.extend(printer.print_part(list.as_bytes(), "items", part));
                    from = *end;
                }
                let expected = printer.print(whole(from).as_bytes());
                assert_eq!(
                    String::from_utf8(text).unwrap(),
                    String::from_utf8(expected).unwrap(),
                    "{ends:?}"
                );
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~]{0,8}",
            prop::sample::select(vec![
                "no", "0x1f", "1e3", "1_0", "0o7", "12:30", "~", "- a", "a: b", "#", ".inf", "1.5", "9s"
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
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
        fn printed_values_parse_back(value in value()) {
            let indented = print(Printer::IndentedJson, &value);
            prop_assert!(!indented.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{}", indented);
            prop_assert_eq!(&serde_json::from_str::<Value>(&indented).unwrap(), &value);
            prop_assert_eq!(indented, escape_html(serde_json::to_string_pretty(&value).unwrap()));
            let yaml = print(Printer::Yaml, &value);
            let parsed: Value = serde_saphyr::from_str(&yaml).map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}")))?;
            prop_assert_eq!(parsed, value, "{}", yaml);
        }

        #[test]
        fn accepts_any_bytes(bytes in any::<Vec<u8>>()) {
            Printer::IndentedJson.print(&bytes);
            Printer::Yaml.print(&bytes);
        }
    }
}
