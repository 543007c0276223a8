//! Label selectors: `app=web,tier in (a,b),!canary,version notin (1)`, as documented in "Labels and Selectors", and
//! `>` and `<`, which kube-apiserver also accepts.

use super::label_syntax::{Token, Tokens, check_key, check_value};
use super::{MAX_TERMS, SelectorError, check_length};
use crate::model::labels::Labels;

/// Requirements that must all match. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    DoesNotExist,
    /// Values, sorted.
    In(Vec<String>),
    /// Values, sorted. Also matches an absent label.
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

impl LabelSelector {
    /// Parses a selector.
    pub(in crate::api) fn parse(selector: &str) -> Result<Self, SelectorError> {
        check_length(selector)?;
        let mut tokens = Tokens(selector);
        let mut requirements = Vec::new();
        if tokens.peek() == Token::End {
            return Ok(Self::default());
        }
        let mut expected = "!, identifier, or 'end of string'";
        loop {
            match tokens.peek() {
                Token::Word(_) | Token::Symbol("!") => {}
                other => return Err(SelectorError::Unexpected { found: other.text().into(), expected }),
            }
            if requirements.len() == MAX_TERMS {
                return Err(SelectorError::TooManyTerms);
            }
            requirements.push(Requirement::parse(&mut tokens)?);
            match tokens.take() {
                Token::End => return Ok(Self(requirements)),
                Token::Symbol(",") => expected = "identifier after ','",
                other => {
                    return Err(SelectorError::Unexpected {
                        found: other.text().into(),
                        expected: "',' or 'end of string'",
                    });
                }
            }
        }
    }

    /// Returns whether an object with these labels matches.
    pub(in crate::api) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.operator.matches(labels.get(&requirement.key)))
    }
}

impl Requirement {
    fn parse(tokens: &mut Tokens<'_>) -> Result<Self, SelectorError> {
        let negated = tokens.peek() == Token::Symbol("!");
        if negated {
            tokens.take();
        }
        let key = match tokens.take() {
            Token::Word(word) => word.to_owned(),
            other => return Err(unexpected(other, "identifier")),
        };
        if let Err(error) = check_key(&key) {
            return Err(SelectorError::Requirement(format!("invalid key {key:?}: {error}")));
        }
        if negated {
            return Ok(Self { key, operator: Operator::DoesNotExist });
        }
        if matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
            return Ok(Self { key, operator: Operator::Exists });
        }
        let operator = match tokens.take() {
            Token::Symbol("=" | "==") => Operator::In(vec![exact_value(tokens, &key)?]),
            Token::Symbol("!=") => Operator::NotIn(vec![exact_value(tokens, &key)?]),
            Token::Symbol(">") => Operator::GreaterThan(integer(tokens, &key)?),
            Token::Symbol("<") => Operator::LessThan(integer(tokens, &key)?),
            Token::Word("in") => Operator::In(set(tokens, &key)?),
            Token::Word("notin") => Operator::NotIn(set(tokens, &key)?),
            other => return Err(unexpected(other, "in, notin, =, ==, !=, gt, lt")),
        };
        Ok(Self { key, operator })
    }
}

impl Operator {
    fn matches(&self, value: Option<&str>) -> bool {
        let contains = |values: &[String], value: &str| {
            values.binary_search_by(|candidate| candidate.as_str().cmp(value)).is_ok()
        };
        match (self, value) {
            (Self::Exists, value) => value.is_some(),
            (Self::DoesNotExist, value) => value.is_none(),
            (Self::In(values), Some(value)) => contains(values, value),
            (Self::NotIn(values), Some(value)) => !contains(values, value),
            (Self::NotIn(_), None) => true,
            (Self::GreaterThan(bound), Some(value)) => {
                parse_integer(value).is_some_and(|value| value > *bound)
            }
            (Self::LessThan(bound), Some(value)) => parse_integer(value).is_some_and(|value| value < *bound),
            (Self::In(_) | Self::GreaterThan(_) | Self::LessThan(_), None) => false,
        }
    }
}

fn parse_integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Parses `VALUE`, or nothing for the empty value.
fn exact_value(tokens: &mut Tokens<'_>, key: &str) -> Result<String, SelectorError> {
    if matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
        return Ok(String::new());
    }
    match tokens.take() {
        Token::Word(word) => checked(word, key),
        other => Err(unexpected(other, "identifier")),
    }
}

fn integer(tokens: &mut Tokens<'_>, key: &str) -> Result<i64, SelectorError> {
    let value = exact_value(tokens, key)?;
    parse_integer(&value).ok_or_else(|| {
        SelectorError::Requirement(format!(
            "invalid value {value:?} for {key:?}: for 'Gt', 'Lt' operators, the value must be an integer"
        ))
    })
}

/// Parses `(VALUE, VALUE, …)`. Each value may be empty.
fn set(tokens: &mut Tokens<'_>, key: &str) -> Result<Vec<String>, SelectorError> {
    match tokens.take() {
        Token::Symbol("(") => {}
        other => return Err(SelectorError::Requirement(format!("found '{}' expected: '('", other.text()))),
    }
    let mut values = Vec::new();
    loop {
        if values.len() == MAX_TERMS {
            return Err(SelectorError::TooManyTerms);
        }
        values.push(match tokens.peek() {
            Token::Word(word) => {
                tokens.take();
                checked(word, key)?
            }
            _ => String::new(),
        });
        match tokens.take() {
            Token::Symbol(",") => {}
            Token::Symbol(")") => break,
            other => return Err(unexpected(other, "',' or ')'")),
        }
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

fn checked(value: &str, key: &str) -> Result<String, SelectorError> {
    match check_value(value) {
        Err(error) => {
            Err(SelectorError::Requirement(format!("invalid value {value:?} for {key:?}: {error}")))
        }
        Ok(()) => Ok(value.to_owned()),
    }
}

fn unexpected(token: Token<'_>, expected: &str) -> SelectorError {
    SelectorError::Requirement(format!("found '{}', expected: {expected}", token.text()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::LabelSelector;
    use crate::model::labels::Labels;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn message(selector: &str) -> String {
        LabelSelector::parse(selector).unwrap_err().to_string()
    }

    #[test]
    fn matches_as_documented() {
        let web = labels(&[("app", "web"), ("tier", "front"), ("example.com/n", "7"), ("empty", "")]);
        for (selector, selected) in [
            ("", true),
            (" \t", true),
            ("app=web", true),
            ("app == web", true),
            ("app!=web", false),
            ("absent!=web", true),
            ("absent=web", false),
            ("app", true),
            ("!app", false),
            ("! absent", true),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db)", true),
            ("app notin (web,db)", false),
            ("absent notin (web)", true),
            ("app=web,tier=back", false),
            ("app=web , tier in (front,back) , !absent", true),
            ("empty=", true),
            ("empty in ()", true),
            ("empty in (,a)", true),
            ("app in (,a)", false),
            ("example.com/n>6", true),
            ("example.com/n<7", false),
            ("app>6", false),
            ("in in (in)", false),
            ("notin=in", false),
        ] {
            let parsed = LabelSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches(&web), selected, "{selector}");
        }
    }

    #[test]
    fn rejects_with_the_reason() {
        // The first five are also kube-apiserver's messages.
        assert_eq!(message("a==="), "unable to parse requirement: found '=', expected: identifier");
        assert_eq!(message("a in b"), "unable to parse requirement: found 'b' expected: '('");
        assert_eq!(message("!"), "unable to parse requirement: found '', expected: identifier");
        assert_eq!(message("(("), "found '(', expected: !, identifier, or 'end of string'");
        assert_eq!(message("a,"), "found '', expected: identifier after ','");
        assert!(message("a!b").ends_with("found '!', expected: in, notin, =, ==, !=, gt, lt"));
        assert!(message("a=-b").contains("invalid value \"-b\" for \"a\""));
        assert!(message("a/b/c").contains("invalid key \"a/b/c\""));
        assert!(message("A_/b").contains("lowercase RFC 1123 subdomain"));
        assert!(message("a>x").contains("integer"));
        assert!(message("a in (b").contains("',' or ')'"));
        assert!(message(&"a,".repeat(300)).contains("too many terms"));
        assert!(message(&"a".repeat(20_000)).contains("20000 bytes"));
    }

    /// A requirement as documented, without a parser.
    #[derive(Clone, Debug)]
    struct Term {
        key: &'static str,
        operator: &'static str,
        values: Vec<&'static str>,
    }

    impl Term {
        fn text(&self) -> String {
            let Term { key, operator, values } = self;
            match *operator {
                "exists" => (*key).to_owned(),
                "!" => format!("!{key}"),
                "in" | "notin" => format!("{key} {operator} ({})", values.join(",")),
                _ => format!("{key}{operator}{}", values[0]),
            }
        }

        fn holds(&self, pairs: &[(&str, &str)]) -> bool {
            let value = pairs.iter().find(|(key, _)| *key == self.key).map(|(_, value)| *value);
            match self.operator {
                "exists" => value.is_some(),
                "!" => value.is_none(),
                "in" => value.is_some_and(|value| self.values.contains(&value)),
                "notin" => !value.is_some_and(|value| self.values.contains(&value)),
                "=" | "==" => value == Some(self.values[0]),
                "!=" => value != Some(self.values[0]),
                other => panic!("{other}"),
            }
        }
    }

    fn key() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["app", "tier", "example.com/x"])
    }

    fn value() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["", "a", "b", "in"])
    }

    fn term() -> impl Strategy<Value = Term> {
        let operator = prop::sample::select(vec!["exists", "!", "in", "notin", "=", "==", "!="]);
        (key(), operator, prop::collection::vec(value(), 1..4)).prop_map(|(key, operator, values)| Term {
            key,
            operator,
            values,
        })
    }

    proptest! {
        #[test]
        fn matches_random_selectors_as_documented(
            terms in prop::collection::vec(term(), 1..4),
            pairs in prop::collection::btree_map(key(), value(), 0..4),
        ) {
            let pairs: Vec<_> = pairs.into_iter().collect();
            let selector = terms.iter().map(Term::text).collect::<Vec<_>>().join(",");
            let parsed = LabelSelector::parse(&selector).unwrap();
            prop_assert_eq!(parsed.matches(&labels(&pairs)), terms.iter().all(|term| term.holds(&pairs)));
        }

        #[test]
        fn accepts_any_text(selector in "\\PC*") {
            if let Ok(parsed) = LabelSelector::parse(&selector) {
                parsed.matches(&Labels::default());
            }
        }

        #[test]
        fn accepts_any_sequence_of_its_characters(selector in "[ab/.!=<>(), \tinot-]{0,24}") {
            let _ = LabelSelector::parse(&selector);
        }
    }
}
