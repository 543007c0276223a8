//! Field selectors: `metadata.name=a,metadata.namespace!=b`. Only these two fields are supported.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::SelectorError;

/// Terms that must all match. The empty selector matches everything.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct FieldSelector {
    name: Arc<FieldTerms>,
    namespace: Arc<FieldTerms>,
}

/// All terms of one field together.
#[derive(Debug, Default)]
struct FieldTerms {
    /// The first value that it must have.
    equal: Option<String>,
    /// Whether it must also have another value, so that nothing matches.
    contradictory: bool,
    /// The values that it must not have.
    different: BTreeSet<String>,
}

impl FieldTerms {
    fn add(&mut self, equal: bool, value: String) {
        match &self.equal {
            _ if !equal => drop(self.different.insert(value)),
            None => self.equal = Some(value),
            Some(other) => self.contradictory |= *other != value,
        }
    }

    fn matches(&self, value: &str) -> bool {
        !self.contradictory
            && self.equal.as_ref().is_none_or(|equal| equal == value)
            && !self.different.contains(value)
    }
}

impl FieldSelector {
    /// Parses a selector; empty terms are ignored.
    pub(in crate::api) fn parse(selector: &str) -> Result<Self, SelectorError> {
        let (mut name, mut namespace) = (FieldTerms::default(), FieldTerms::default());
        for term in split_terms(selector).into_iter().filter(|term| !term.is_empty()) {
            let (field, equal, value) = split_term(term)
                .ok_or_else(|| SelectorError::Term { selector: selector.into(), term: term.into() })?;
            let value = unescape(value)?;
            let field = match field {
                "metadata.name" => &mut name,
                "metadata.namespace" => &mut namespace,
                other => return Err(SelectorError::UnknownField(other.into())),
            };
            field.add(equal, value);
        }
        Ok(Self { name: Arc::new(name), namespace: Arc::new(namespace) })
    }

    /// Returns whether the object of this key matches. The namespace of cluster-scoped objects is empty.
    pub(in crate::api) fn matches(&self, namespace: &str, name: &str) -> bool {
        self.namespace.matches(namespace) && self.name.matches(name)
    }

    /// Returns the only name that can match, if there is one.
    pub(in crate::api) fn name(&self) -> Option<&str> {
        self.name.equal.as_deref()
    }

    /// Returns the only namespace that can match, if there is one.
    pub(in crate::api) fn namespace(&self) -> Option<&str> {
        self.namespace.equal.as_deref()
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
            ("metadata.name=two,metadata.name=one", false),
            ("metadata.name=one,metadata.name=one", true),
            ("metadata.name=one,metadata.name!=one", false),
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
    fn supports_any_number_of_terms() {
        let others: Vec<_> = (0..3000).map(|at| format!("metadata.name!=p{at}")).collect();
        let selector = FieldSelector::parse(&others.join(",")).unwrap();
        assert!(selector.matches("default", "one") && !selector.matches("default", "p2999"));
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
