//! The labels of an object, compact and ordered.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Labels ordered by key, each key once. Pods of one template may share one value behind an `Arc`.
///
/// Two allocations whatever their number: there are some for every node and every template of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Keys and values, one behind the other.
    text: Box<str>,
    /// Where each key and its value end in it.
    ends: Box<[(u32, u32)]>,
}

impl Labels {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            let (found, value) = self.at(middle);
            match found.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(value),
            }
        }
        None
    }

    /// Keys and values, ordered by key.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        (0..self.ends.len()).map(|at| self.at(at))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn at(&self, at: usize) -> (&str, &str) {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].1 as usize);
        let (key, value) = (self.ends[at].0 as usize, self.ends[at].1 as usize);
        (&self.text[start..key], &self.text[key..value])
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    /// Collects labels in any order; of a repeated key the last value stays. What would be beyond 4 GB is left out.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let ordered: BTreeMap<Box<str>, Box<str>> =
            labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let mut text = String::new();
        let mut ends = Vec::with_capacity(ordered.len());
        for (key, value) in ordered {
            let start = text.len();
            let end = |length: usize| u32::try_from(start + length);
            let (Ok(key_end), Ok(value_end)) = (end(key.len()), end(key.len() + value.len())) else { break };
            text.push_str(&key);
            text.push_str(&value);
            ends.push((key_end, value_end));
        }
        Self { text: text.into_boxed_str(), ends: ends.into_boxed_slice() }
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;

    #[test]
    fn finds_by_key_whatever_the_order_of_insertion() {
        let labels: Labels = [("b", "2"), ("a", "1"), ("c", ""), ("a", "0")].into_iter().collect();
        assert_eq!(labels.get("a"), Some("0"));
        assert_eq!(labels.get("c"), Some(""));
        assert_eq!(labels.get("d"), None);
        assert_eq!(labels.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn equal_labels_are_equal_and_others_are_not() {
        let of = |labels: &[(&str, &str)]| labels.iter().copied().collect::<Labels>();
        assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("a", "1")]));
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]), "the border between key and value counts");
        assert_eq!(of(&[("", "x")]).get(""), Some("x"));
        assert!(of(&[]).is_empty() && of(&[]) == Labels::default());
    }
}
