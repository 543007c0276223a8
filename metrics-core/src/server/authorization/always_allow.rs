//! Paths allowed to everyone.

/// Whole paths, and prefixes of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlwaysAllow {
    paths: Vec<String>,
    prefixes: Vec<String>,
}

impl AlwaysAllow {
    /// Reads patterns; a `*` may stand at the end only, the leading `/` may be missing. The error is the pattern
    /// that breaks this.
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

    /// Whether `path` is among them.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let bare = path.strip_prefix('/').unwrap_or(path);
        self.paths.iter().any(|allowed| allowed == bare)
            || self.prefixes.iter().any(|prefix| bare.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::AlwaysAllow;

    #[test]
    fn whole_paths_and_prefixes_match() {
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
