//! Label selectors: `app=web,tier in (a,b),!canary,version notin (1)`, as documented in "Labels and Selectors", and
//! `>` and `<`, which kube-apiserver also accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::SelectorError;
use super::label_syntax::{Token, Tokens, check_key, check_value};
use crate::model::labels::Labels;

/// Up to this number of keys, each is looked up in the labels of an object.
const FEW_KEYS: usize = 8;

/// Requirements that must all match. The empty selector matches everything.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct LabelSelector(Arc<Requirements>);

#[derive(Debug, Default)]
struct Requirements {
    /// The requirements by key, sorted by key.
    by_key: Vec<(String, Requirement)>,
    /// The number of keys that an object must have.
    required: usize,
}

/// All requirements of one key together.
#[derive(Debug, Default)]
struct Requirement {
    /// The label must exist.
    exists: bool,
    /// The label must not exist.
    absent: bool,
    /// The label must exist and have one of these values.
    one_of: Option<BTreeSet<String>>,
    /// The label must not have one of these values.
    none_of: BTreeSet<String>,
    /// The label must exist and be a greater integer.
    greater_than: Option<i64>,
    /// The label must exist and be a smaller integer.
    less_than: Option<i64>,
}

impl LabelSelector {
    /// Parses a selector.
    pub(in crate::api) fn parse(selector: &str) -> Result<Self, SelectorError> {
        let mut tokens = Tokens(selector);
        let mut by_key: BTreeMap<String, Requirement> = BTreeMap::new();
        if tokens.peek() == Token::End {
            return Ok(Self::default());
        }
        let mut expected = "!, identifier, or 'end of string'";
        loop {
            match tokens.peek() {
                Token::Word(_) | Token::Symbol("!") => {}
                other => return Err(SelectorError::Unexpected { found: other.text().into(), expected }),
            }
            parse_requirement(&mut tokens, &mut by_key)?;
            match tokens.take() {
                Token::End => break,
                Token::Symbol(",") => expected = "identifier after ','",
                other => {
                    return Err(SelectorError::Unexpected {
                        found: other.text().into(),
                        expected: "',' or 'end of string'",
                    });
                }
            }
        }
        let required = by_key.values().filter(|requirement| !requirement.matches(None)).count();
        Ok(Self(Arc::new(Requirements { by_key: by_key.into_iter().collect(), required })))
    }

    /// Returns whether an object with these labels matches.
    pub(in crate::api) fn matches(&self, labels: &Labels) -> bool {
        let Requirements { by_key, required } = &*self.0;
        if by_key.len() <= FEW_KEYS {
            return by_key.iter().all(|(key, requirement)| requirement.matches(labels.get(key)));
        }
        // An object has fewer labels than the selector has keys.
        let mut found = 0;
        for (key, value) in labels.iter() {
            if let Ok(at) = by_key.binary_search_by(|(candidate, _)| candidate.as_str().cmp(key)) {
                let requirement = &by_key[at].1;
                if !requirement.matches(Some(value)) {
                    return false;
                }
                found += usize::from(!requirement.matches(None));
            }
        }
        found == *required
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let Self { exists, absent, one_of, none_of, greater_than, less_than } = self;
        let Some(value) = value else {
            return !exists && one_of.is_none() && greater_than.is_none() && less_than.is_none();
        };
        !absent
            && one_of.as_ref().is_none_or(|values| values.contains(value))
            && !none_of.contains(value)
            && greater_than.is_none_or(|bound| parse_integer(value).is_some_and(|value| value > bound))
            && less_than.is_none_or(|bound| parse_integer(value).is_some_and(|value| value < bound))
    }

    fn require_one_of(&mut self, mut values: BTreeSet<String>) {
        if let Some(others) = &self.one_of {
            values.retain(|value| others.contains(value));
        }
        self.one_of = Some(values);
    }
}

/// Parses one requirement and adds it to those of its key.
fn parse_requirement(
    tokens: &mut Tokens<'_>,
    by_key: &mut BTreeMap<String, Requirement>,
) -> Result<(), SelectorError> {
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
    let of_key = by_key.entry(key.clone()).or_default();
    if negated {
        of_key.absent = true;
        return Ok(());
    }
    if matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
        of_key.exists = true;
        return Ok(());
    }
    match tokens.take() {
        Token::Symbol("=" | "==") => of_key.require_one_of([exact_value(tokens, &key)?].into()),
        Token::Symbol("!=") => of_key.none_of.extend([exact_value(tokens, &key)?]),
        Token::Symbol(">") => of_key.greater_than = of_key.greater_than.max(Some(integer(tokens, &key)?)),
        Token::Symbol("<") => {
            let bound = integer(tokens, &key)?;
            of_key.less_than = Some(of_key.less_than.map_or(bound, |other| other.min(bound)));
        }
        Token::Word("in") => of_key.require_one_of(set(tokens, &key)?),
        Token::Word("notin") => of_key.none_of.extend(set(tokens, &key)?),
        other => return Err(unexpected(other, "in, notin, =, ==, !=, gt, lt")),
    }
    Ok(())
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
fn set(tokens: &mut Tokens<'_>, key: &str) -> Result<BTreeSet<String>, SelectorError> {
    match tokens.take() {
        Token::Symbol("(") => {}
        other => return Err(SelectorError::Requirement(format!("found '{}' expected: '('", other.text()))),
    }
    let mut values = BTreeSet::new();
    loop {
        values.insert(match tokens.peek() {
            Token::Word(word) => {
                tokens.take();
                checked(word, key)?
            }
            _ => String::new(),
        });
        match tokens.take() {
            Token::Symbol(",") => {}
            Token::Symbol(")") => return Ok(values),
            other => return Err(unexpected(other, "',' or ')'")),
        }
    }
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
        assert!(message(&"a".repeat(20_000)).contains("no more than 63 characters"));
    }

    #[test]
    fn supports_any_number_of_values_and_requirements() {
        let web = labels(&[("app", "web"), ("k7", "v"), ("k8", "v")]);
        let list = |count: usize| (0..count).map(|at| format!("v{at}")).collect::<Vec<_>>().join(",");
        let keys = |prefix: &str, suffix: &str| {
            (0..3000).map(|at| format!("{prefix}k{at}{suffix}")).collect::<Vec<_>>().join(",")
        };
        for (selector, selected) in [
            (format!("app in ({},web)", list(5000)), true),
            (format!("app in ({})", list(5000)), false),
            (format!("app notin ({})", list(5000)), true),
            (format!("app notin ({},web)", list(5000)), false),
            (keys("", "!=x"), true),
            (keys("", "!=v"), false),
            (keys("!", ""), false),
            (format!("{},app=web", keys("", " notin (x,y)")), true),
            (format!("{},other", keys("", "!=x")), false),
            (format!("{},app>1", keys("", "!=x")), false),
            (format!("app{}", ",app!=a".repeat(3000)), true),
            (format!("app!=web{}", ",app!=web".repeat(3000)), false),
        ] {
            let parsed = LabelSelector::parse(&selector).unwrap();
            assert_eq!(parsed.matches(&web), selected, "{}", &selector[..40]);
        }
    }

    /// Without a clock: a selector of 64 kB must not compare each of its terms with each of many objects.
    #[test]
    fn many_requirements_cost_no_more_than_the_labels_of_an_object() {
        let selector: Vec<_> = (0..9000).map(|at| format!("k{at}!=v")).collect();
        let parsed = LabelSelector::parse(&selector.join(",")).unwrap();
        let web = labels(&[("app", "web"), ("tier", "front")]);
        // With a comparison of each term: 1.8 billion, minutes in a debug build.
        assert!((0..200_000).all(|_| parsed.matches(&web)));
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
            // Keys that no object has, so that both ways to match are tested.
            others in prop::sample::select(vec![0, 20]),
            pairs in prop::collection::btree_map(key(), value(), 0..4),
        ) {
            let pairs: Vec<_> = pairs.into_iter().collect();
            let others = (0..others).map(|at| format!("other{at}!=x"));
            let selector = terms.iter().map(Term::text).chain(others).collect::<Vec<_>>().join(",");
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
