//! Label selectors and field selectors.
//!
//! As in Kubernetes, a selector may have any number of terms: the size of a request bounds it. Matching one object costs
//! the same for a selector of three terms and of thousands.

mod field;
mod label;
mod label_syntax;

pub(super) use field::FieldSelector;
pub(super) use label::LabelSelector;

/// Why a selector is rejected. The text is the message of the 400 response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectorError {
    /// An unexpected token at the start of a requirement.
    #[error("found '{found}', expected: {expected}")]
    Unexpected {
        /// The token.
        found: String,
        /// The expected tokens.
        expected: &'static str,
    },
    /// A label requirement that is incomplete, or has an invalid key or value.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    /// A field term without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole selector.
        selector: String,
        /// The term.
        term: String,
    },
    /// A backslash before a character that needs no escape.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A `,` or `=` in a value, without a backslash.
    #[error("invalid field selector: unescaped character in value: {0:?}")]
    Unescaped(char),
    /// A field that is not supported.
    #[error("{0:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    UnknownField(String),
}
