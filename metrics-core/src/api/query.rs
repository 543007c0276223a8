//! The query of a URL, decoded as Go's `net/url` does: pairs that can't be decoded are dropped.

/// The parameters of a query, in order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part after the `?`.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(pairs.filter_map(decode_pair).collect())
    }

    /// Returns the first value of a parameter. As in kube-apiserver, further values are ignored.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns a boolean parameter: true if it is set, and neither `0` nor `false`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }
}

fn decode_pair(pair: &str) -> Option<(String, String)> {
    if pair.contains(';') {
        return None;
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Some((decode(key, true)?, decode(value, true)?))
}

/// Decodes percent-encoding. Returns `None` if a `%` is not followed by two hexadecimal digits. Invalid UTF-8 becomes
/// U+FFFD, which no Kubernetes name or label contains.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Query, decode};

    #[test]
    fn decodes_pairs_and_drops_invalid_ones() {
        let query = Query::parse(Some("a=1&a=2&b=x+y%2C%c3%a4&c&d=%zz&e=%4&;f=1&=g&watch=FALSE&w"));
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.get("b"), Some("x y,ä"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(query.get("d"), None);
        assert_eq!(query.get("e"), None);
        assert!(!query.flag("watch"));
        assert!(query.flag("w"));
        assert!(!query.flag("absent"));
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in "\\PC*") {
            let query = Query::parse(Some(&text));
            query.get("labelSelector");
            decode(&text, false);
        }

        #[test]
        fn decodes_what_was_encoded(text in "\\PC*") {
            let encoded = text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
            prop_assert_eq!(decode(&encoded, true), Some(text));
        }
    }
}
