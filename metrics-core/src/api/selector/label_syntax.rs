//! The tokens of a label selector, and what a label's key and value look like.

/// A token of a label selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `=`, `==`, `!=`, `!`, `>`, `<`, `(`, `)` or `,`.
    Symbol(&'static str),
    /// A key, a value, `in` or `notin`.
    Word(&'a str),
    /// The end of the selector.
    End,
}

impl Token<'_> {
    /// The token as it was written.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Symbol(symbol) => symbol,
            Self::Word(word) => word,
            Self::End => "",
        }
    }
}

/// Longer symbols first, so that `!=` is not read as `!`.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ">", "<", "(", ")", ","];

/// Splits a selector into tokens.
pub(super) struct Tokens<'a>(pub(super) &'a str);

impl<'a> Tokens<'a> {
    /// Takes the next token.
    pub(super) fn take(&mut self) -> Token<'a> {
        let (token, rest) = self.split();
        self.0 = rest;
        token
    }

    /// Looks at the next token.
    pub(super) fn peek(&self) -> Token<'a> {
        self.split().0
    }

    fn split(&self) -> (Token<'a>, &'a str) {
        let text = self.0.trim_start_matches(is_space);
        if text.is_empty() {
            return (Token::End, "");
        }
        for symbol in SYMBOLS {
            if let Some(rest) = text.strip_prefix(symbol) {
                return (Token::Symbol(symbol), rest);
            }
        }
        let end = text.find(|c| is_space(c) || "=!()<>,".contains(c)).unwrap_or(text.len());
        (Token::Word(&text[..end]), &text[end..])
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

const NAME_RULE: &str = "at most 63 letters, digits, '-', '_' and '.', the first and last a letter or digit";

/// What is wrong with a label's key, or `None`.
pub(super) fn key_fault(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Some(
            "the part before '/' must be a DNS subdomain: lower-case letters, digits, '-' and '.', at most 253".into(),
        );
    }
    (name.is_empty() || !is_name(name))
        .then(|| format!("a label's name must be {NAME_RULE}, optionally behind 'DOMAIN/'"))
}

/// What is wrong with a label's value, or `None`.
pub(super) fn value_fault(value: &str) -> Option<String> {
    (!is_name(value)).then(|| format!("a label's value must be empty or {NAME_RULE}"))
}

/// Whether the text may be a label's value.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && [bytes.first(), bytes.last()].iter().flatten().all(|byte| byte.is_ascii_alphanumeric())
}

/// RFC 1123, lower case.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            let bytes = label.as_bytes();
            !bytes.is_empty()
                && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
