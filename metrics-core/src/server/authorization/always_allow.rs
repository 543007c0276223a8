//! Paths that need no authorization.

/// Whole paths, and prefixes of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlwaysAllow {
    paths: Vec<String>,
    prefixes: Vec<String>,
}

impl AlwaysAllow {
    /// Parses patterns: paths, with an optional `*` at the end and an optional `/` at the start. The error is the first
    /// pattern with a `*` elsewhere.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut allow = Self::default();
        for pattern in patterns {
            let bare = pattern.strip_prefix('/').unwrap_or(pattern);
            match bare.strip_suffix('*') {
                Some(prefix) if !prefix.contains('*') => allow.prefixes.push(prefix.to_owned()),
                None if !bare.contains('*') => allow.paths.push(bare.to_owned()),
                _ => return Err(pattern.clone()),
            }
        }
        Ok(allow)
    }

    /// Returns whether `path` matches.
    #[must_use]
    pub(crate) fn matches(&self, path: &str) -> bool {
        let bare = path.strip_prefix('/').unwrap_or(path);
        self.paths.iter().any(|allowed| allowed == bare)
            || self.prefixes.iter().any(|prefix| bare.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::AlwaysAllow;

    #[test]
    fn matches_whole_paths_and_prefixes() {
        let patterns = ["/livez", "readyz", "/open/*", "/"].map(str::to_owned);
        let allow = AlwaysAllow::new(&patterns).unwrap();
        for yes in ["/livez", "/readyz", "/open/", "/open/a/b", "/"] {
            assert!(allow.matches(yes), "{yes}");
        }
        for no in ["/livez/", "/livez/ping", "/open", "/apis", "//livez"] {
            assert!(!allow.matches(no), "{no}");
        }
        assert_eq!(AlwaysAllow::new(&["/a/*/b".to_owned()]).unwrap_err(), "/a/*/b");
    }
}
