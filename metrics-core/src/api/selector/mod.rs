//! Which objects a list asks for: label selectors and field selectors.

mod field;
mod label;
mod label_syntax;

pub(super) use field::FieldSelector;
pub(super) use label::LabelSelector;

/// A selector longer than this is refused: nothing that a client composes comes near it.
const LONGEST: usize = 16 * 1024;
/// Requirements in one selector, and values in one requirement.
const MOST_TERMS: usize = 256;

/// Why a selector can't be used; the text is the message of the 400 that the client gets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Longer than [`LONGEST`].
    #[error("the selector is {0} bytes long; at most {LONGEST} are accepted")]
    TooLong(usize),
    /// More than [`MOST_TERMS`].
    #[error("the selector has too many terms; at most {MOST_TERMS} requirements and values are accepted")]
    TooManyTerms,
    /// A token that has no place where it stands, at the start of a requirement.
    #[error("found '{found}', expected: {expected}")]
    Unexpected {
        /// The token.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A label requirement that breaks off, or whose key or value no label can have.
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
    /// A backslash in front of something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A `,` or `=` in a value without a backslash.
    #[error("invalid field selector: unescaped character in value: {0:?}")]
    Unescaped(char),
    /// A field that can't be selected by.
    #[error("{0:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    UnknownField(String),
}

fn check_length(selector: &str) -> Result<(), Error> {
    if selector.len() > LONGEST { Err(Error::TooLong(selector.len())) } else { Ok(()) }
}
