//! Field selectors: `metadata.name=a,metadata.namespace!=b`. Only these two fields are supported.

use super::{MAX_TERMS, SelectorError, check_length};

/// Terms that must all match. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct FieldSelector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
}

impl FieldSelector {
    /// Parses a selector; empty terms are ignored.
    pub(in crate::api) fn parse(selector: &str) -> Result<Self, SelectorError> {
        check_length(selector)?;
        let mut terms = Vec::new();
        for term in split_terms(selector).into_iter().filter(|term| !term.is_empty()) {
            if terms.len() == MAX_TERMS {
                return Err(SelectorError::TooManyTerms);
            }
            let (field, equal, value) = split_term(term)
                .ok_or_else(|| SelectorError::Term { selector: selector.into(), term: term.into() })?;
            let value = unescape(value)?;
            let field = match field {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                other => return Err(SelectorError::UnknownField(other.into())),
            };
            terms.push(Term { field, equal, value });
        }
        Ok(Self(terms))
    }

    /// Returns whether the object of this key matches. The namespace of cluster-scoped objects is empty.
    pub(in crate::api) fn matches(&self, namespace: &str, name: &str) -> bool {
        self.0.iter().all(|term| {
            let value = match term.field {
                Field::Name => name,
                Field::Namespace => namespace,
            };
            (term.value == value) == term.equal
        })
    }

    /// Returns the only name that can match, if there is one.
    pub(in crate::api) fn name(&self) -> Option<&str> {
        self.exact(Field::Name)
    }

    /// Returns the only namespace that can match, if there is one.
    pub(in crate::api) fn namespace(&self) -> Option<&str> {
        self.exact(Field::Namespace)
    }

    fn exact(&self, field: Field) -> Option<&str> {
        self.0.iter().find(|term| term.field == field && term.equal).map(|term| term.value.as_str())
    }
}

/// Splits at commas that are not escaped by a backslash.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut escaped = false;
    selector
        .split(move |c| {
            let separator = c == ',' && !escaped;
            escaped = c == '\\' && !escaped;
            separator
        })
        .collect()
}

/// Splits a term at its first operator: field, whether the value must be equal, and the value, still escaped.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.match_indices(['!', '=']).map(|(at, _)| at).find(|at| {
        let rest = &term[*at..];
        rest.starts_with('=') || rest.starts_with("!=")
    })?;
    let (field, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, false, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, true, value))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    return Err(SelectorError::Escape(format!(
                        "\\{}",
                        other.map(String::from).unwrap_or_default()
                    )));
                }
            },
            ',' | '=' => return Err(SelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::FieldSelector;

    #[test]
    fn selects_by_name_and_namespace() {
        for (selector, selected) in [
            ("", true),
            (",", true),
            ("metadata.name=one", true),
            ("metadata.name==one", true),
            ("metadata.name!=one", false),
            ("metadata.namespace=default,metadata.name=one", true),
            ("metadata.namespace=default,metadata.name!=one", false),
            ("metadata.name=one,metadata.name=two", false),
            ("metadata.name=", false),
        ] {
            assert_eq!(
                FieldSelector::parse(selector).unwrap().matches("default", "one"),
                selected,
                "{selector}"
            );
        }
        let selector = FieldSelector::parse("metadata.namespace!=a,metadata.name=o\\,\\=\\\\e").unwrap();
        assert_eq!(selector.name(), Some("o,=\\e"));
        assert_eq!(selector.namespace(), None);
    }

    #[test]
    fn rejects_with_the_messages_of_kube_apiserver() {
        let message = |selector| FieldSelector::parse(selector).unwrap_err().to_string();
        assert_eq!(
            message("spec.nodeName=x"),
            "\"spec.nodeName\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert_eq!(message("abc"), "invalid selector: 'abc'; can't understand 'abc'");
        assert_eq!(message("metadata.name=a\\x"), "invalid field selector: invalid escape sequence: \\x");
        assert!(message("metadata.name=a=b").contains("unescaped character"));
        assert!(message(&"metadata.name!=a,".repeat(300)).contains("too many terms"));
    }

    proptest! {
        #[test]
        fn accepts_any_text(selector in "(metadata.name|metadata.namespace|[=!,\\\\]|\\PC){0,12}") {
            if let Ok(parsed) = FieldSelector::parse(&selector) {
                parsed.matches("a", "b");
            }
        }

        #[test]
        fn unescapes_values(name in "\\PC*") {
            let escaped: String = name
                .chars()
                .flat_map(|c| ['\\', ',', '='].contains(&c).then_some('\\').into_iter().chain([c]))
                .collect();
            let parsed = FieldSelector::parse(&format!("metadata.name={escaped}")).unwrap();
            // An escaped `=` at the start of a value is not part of the operator, which ends before the backslash.
            prop_assert_eq!(parsed.name(), Some(name.as_str()));
        }
    }
}
