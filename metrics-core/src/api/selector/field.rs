//! Field selectors: `metadata.name=a,metadata.namespace!=b`. These two fields are all that can be selected
//! by where a resource offers no others.

use super::{Error, MOST_TERMS, check_length};

/// Terms that must all hold.
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
    pub(in crate::api) fn parse(selector: &str) -> Result<Self, Error> {
        check_length(selector)?;
        let mut terms = Vec::new();
        for term in split_terms(selector).into_iter().filter(|term| !term.is_empty()) {
            if terms.len() == MOST_TERMS {
                return Err(Error::TooManyTerms);
            }
            let (field, equal, value) = split_term(term)
                .ok_or_else(|| Error::Term { selector: selector.into(), term: term.into() })?;
            let value = unescape(value)?;
            let field = match field {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                other => return Err(Error::UnknownField(other.into())),
            };
            terms.push(Term { field, equal, value });
        }
        Ok(Self(terms))
    }

    /// Whether the object of this key is selected; cluster-scoped objects have the empty namespace.
    pub(in crate::api) fn matches(&self, namespace: &str, name: &str) -> bool {
        self.0.iter().all(|term| {
            let value = match term.field {
                Field::Name => name,
                Field::Namespace => namespace,
            };
            (term.value == value) == term.equal
        })
    }

    /// The one name that can match.
    pub(in crate::api) fn name(&self) -> Option<&str> {
        self.exact(Field::Name)
    }

    /// The one namespace that can match.
    pub(in crate::api) fn namespace(&self) -> Option<&str> {
        self.exact(Field::Namespace)
    }

    fn exact(&self, field: Field) -> Option<&str> {
        self.0.iter().find(|term| term.field == field && term.equal).map(|term| term.value.as_str())
    }
}

/// Splits at commas that no backslash precedes.
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

/// Field, whether it must be equal, and the value as written; the first operator counts.
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

fn unescape(value: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    return Err(Error::Escape(format!("\\{}", other.map(String::from).unwrap_or_default())));
                }
            },
            ',' | '=' => return Err(Error::Unescaped(c)),
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
    fn refuses_in_the_words_of_the_api_server() {
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
        fn takes_any_text(selector in "(metadata.name|metadata.namespace|[=!,\\\\]|\\PC){0,12}") {
            if let Ok(parsed) = FieldSelector::parse(&selector) {
                parsed.matches("a", "b");
            }
        }

        #[test]
        fn undoes_escaping(name in "\\PC*") {
            let escaped: String = name
                .chars()
                .flat_map(|c| ['\\', ',', '='].contains(&c).then_some('\\').into_iter().chain([c]))
                .collect();
            let parsed = FieldSelector::parse(&format!("metadata.name={escaped}")).unwrap();
            // A value that begins with an escaped `=` stays a value: the operator ends before the backslash.
            prop_assert_eq!(parsed.name(), Some(name.as_str()));
        }
    }
}
