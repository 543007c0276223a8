//! The `continue` token of a list: the key of the last object given and the version at which the list began, opaque
//! to clients.
//!
//! It names no snapshot, so any replica can go on from it at any time: what has come or gone behind the key
//! in the meantime is shown or not as it is now.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Namespace (empty for nodes) and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The namespace.
    pub(super) namespace: String,
    /// The name.
    pub(super) name: String,
}

impl Key {
    /// The key of these parts.
    pub(super) fn new((namespace, name): (&str, &str)) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// As parts that order as the API orders objects.
    pub(super) fn parts(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// The token of a list that began at a version.
    pub(super) fn token(&self, version: u64) -> String {
        URL_SAFE_NO_PAD.encode(format!("{VERSION}{version}/{}/{}", self.namespace, self.name))
    }

    /// Reads a token; `None` if it is none of ours.
    pub(super) fn from_token(token: &str) -> Option<(Self, u64)> {
        if token.len() > LONGEST {
            return None;
        }
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (version, key) = text.strip_prefix(VERSION)?.split_once('/')?;
        let (namespace, name) = key.split_once('/')?;
        let version = version.parse().ok()?;
        (!name.is_empty()).then(|| (Self::new((namespace, name)), version))
    }
}

/// The form of the token, so that a later one can be told apart.
const VERSION: &str = "2/";
/// A version has 20 bytes, a namespace 63 and a name 253, and base64 makes four of three.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Key;

    proptest! {
        #[test]
        fn reads_back(version: u64, namespace in "[a-z0-9-]{0,63}", name in "[a-z0-9.-]{1,253}") {
            let key = Key { namespace, name };
            let token = key.token(version);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(Key::from_token(&token), Some((key, version)));
        }

        #[test]
        fn takes_any_text(token in "(Mi|[A-Za-z0-9_-]|\\PC){0,40}") {
            Key::from_token(&token);
        }
    }
}
