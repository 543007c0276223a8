//! The tokens of label selectors, and the syntax of label keys and values.

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
    /// Returns the token as written.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Symbol(symbol) => symbol,
            Self::Word(word) => word,
            Self::End => "",
        }
    }
}

/// Longer symbols first, so that `!=` is not parsed as `!`.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ">", "<", "(", ")", ","];

/// Splits a selector into tokens.
pub(super) struct Tokens<'a>(pub(super) &'a str);

impl<'a> Tokens<'a> {
    /// Removes and returns the next token.
    pub(super) fn take(&mut self) -> Token<'a> {
        let (token, rest) = self.split();
        self.0 = rest;
        token
    }

    /// Returns the next token without removing it.
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

/// Checks a label key. Returns the rule that it breaks.
pub(super) fn check_key(key: &str) -> Result<(), &'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Err(
            "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
             '.', must start and end with an alphanumeric character, and must be no more than 253 characters",
        );
    }
    if name.is_empty() || !is_name(name) {
        return Err(
            "name part must consist of alphanumeric characters, '-', '_' or '.', must start and end with an \
             alphanumeric character, and must be no more than 63 characters",
        );
    }
    Ok(())
}

/// Checks a label value. Returns the rule that it breaks.
pub(super) fn check_value(value: &str) -> Result<(), &'static str> {
    if is_name(value) {
        return Ok(());
    }
    Err(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', must start and end \
         with an alphanumeric character, and must be no more than 63 characters",
    )
}

/// Returns whether the text is a valid label value.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && [bytes.first(), bytes.last()].iter().flatten().all(|byte| byte.is_ascii_alphanumeric())
}

/// Returns whether the text is a lower-case RFC 1123 subdomain.
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
