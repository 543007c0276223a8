//! Label selectors and field selectors.

mod field;
mod label;
mod label_syntax;

pub(super) use field::FieldSelector;
pub(super) use label::LabelSelector;

/// The maximum length of a selector in bytes, far above what clients send.
const MAX_LENGTH: usize = 16 * 1024;
/// The maximum number of requirements in a selector, and of values in a requirement.
const MAX_TERMS: usize = 256;

/// Why a selector is rejected. The text is the message of the 400 response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectorError {
    /// Longer than [`MAX_LENGTH`].
    #[error("the selector is {0} bytes long, more than the maximum of {MAX_LENGTH}")]
    TooLong(usize),
    /// More than [`MAX_TERMS`].
    #[error(
        "the selector has too many terms: the maximum is {MAX_TERMS} requirements and {MAX_TERMS} values per requirement"
    )]
    TooManyTerms,
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

fn check_length(selector: &str) -> Result<(), SelectorError> {
    if selector.len() > MAX_LENGTH { Err(SelectorError::TooLong(selector.len())) } else { Ok(()) }
}
