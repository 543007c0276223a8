//! The `continue` token of a list: the key of the last object of the page, and the resource version of the list.
//! Opaque to clients.
//!
//! It names no snapshot, so any replica can continue the list at any time. Objects after the key are listed as they
//! are at the time of the request.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The namespace (empty for nodes) and name of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectKey {
    /// The namespace.
    pub(super) namespace: String,
    /// The name.
    pub(super) name: String,
}

impl ObjectKey {
    /// Creates a key from its parts.
    pub(super) fn new((namespace, name): (&str, &str)) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Returns namespace and name, which order as the API orders objects.
    pub(super) fn parts(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// Returns the token for a list of this resource version.
    pub(super) fn token(&self, version: u64) -> String {
        URL_SAFE_NO_PAD.encode(format!("{FORMAT}{version}/{}/{}", self.namespace, self.name))
    }

    /// Parses a token. Returns the key and the resource version, or `None` if metrics-core did not issue the token.
    pub(super) fn parse_token(token: &str) -> Option<(Self, u64)> {
        if token.len() > MAX_TOKEN_LENGTH {
            return None;
        }
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (version, key) = text.strip_prefix(FORMAT)?.split_once('/')?;
        let (namespace, name) = key.split_once('/')?;
        let version = version.parse().ok()?;
        (!name.is_empty()).then(|| (Self::new((namespace, name)), version))
    }
}

/// The version of the token's format.
const FORMAT: &str = "2/";
/// A version has up to 20 bytes, a namespace 63 and a name 253; base64 encodes three bytes as four.
const MAX_TOKEN_LENGTH: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ObjectKey;

    proptest! {
        #[test]
        fn tokens_parse_back(version: u64, namespace in "[a-z0-9-]{0,63}", name in "[a-z0-9.-]{1,253}") {
            let key = ObjectKey { namespace, name };
            let token = key.token(version);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(ObjectKey::parse_token(&token), Some((key, version)));
        }

        #[test]
        fn accepts_any_text(token in "(Mi|[A-Za-z0-9_-]|\\PC){0,40}") {
            ObjectKey::parse_token(&token);
        }
    }
}
