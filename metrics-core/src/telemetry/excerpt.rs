//! Text from outside, shortened for a log line or a report.

/// Returns at most `most` characters of `text`, without control characters. A cut ends in `…`.
#[must_use]
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut excerpt: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        excerpt.pop();
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn is_bounded_and_printable() {
        assert_eq!(excerpt("a\nb", 5), "a b");
        assert_eq!(excerpt("äöüß", 4), "äöüß");
        assert_eq!(excerpt("äöüß!", 4), "äöü…");
        assert_eq!(excerpt("", 4), "");
    }
}
