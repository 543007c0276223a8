//! A tree for people: each branch has a severity, a title, a text and branches of its own.

use std::fmt::Write as _;

use serde::Serialize;

/// How a part of the pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Good,
    /// Not looked at, as something else must come first.
    Waiting,
    /// Could not be looked at.
    Unknown,
    /// It works, but somebody should look at it.
    Warning,
    /// It does not work.
    Bad,
}

impl Severity {
    const fn sign(self) -> &'static str {
        match self {
            Self::Good => "✔",
            Self::Waiting => "…",
            Self::Unknown => "?",
            Self::Warning => "!",
            Self::Bad => "✖",
        }
    }

    /// The colour (ECMA-48, "Select Graphic Rendition").
    const fn colour(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Waiting => "2",
            Self::Unknown | Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

/// A branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TreeNode {
    /// How it is.
    pub(crate) severity: Severity,
    /// What it is.
    pub(crate) title: String,
    /// What is to be said of it; may have several lines.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    /// Its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<TreeNode>,
}

impl TreeNode {
    /// A branch without parts.
    #[must_use]
    pub(crate) fn new(severity: Severity, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity, title: title.into(), text: text.into(), parts: Vec::new() }
    }

    /// The same with parts; it is at least as bad as the worst of them.
    #[must_use]
    pub(crate) fn with(mut self, parts: Vec<TreeNode>) -> Self {
        self.severity = parts.iter().map(|part| part.severity).fold(self.severity, Ord::max);
        self.parts = parts;
        self
    }
}

/// How trees are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Whether with colours.
    pub(crate) colours: bool,
    /// Columns of the terminal.
    pub(crate) width: usize,
}

impl Style {
    fn paint(self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The tree in lines.
#[must_use]
pub(crate) fn render(root: &TreeNode, style: Style) -> String {
    let mut out = String::new();
    branch(&mut out, root, style, "", "");
    out
}

/// Writes a branch whose first line begins with `first` and whose further lines begin with `rest`.
fn branch(out: &mut String, branch_of: &TreeNode, style: Style, first: &str, rest: &str) {
    let sign = style.paint(branch_of.severity.colour(), branch_of.severity.sign());
    let title = style.paint("1", &branch_of.title);
    let below = if branch_of.parts.is_empty() { "  " } else { "│ " };
    // A short text stands behind the title; a long one below it, wrapped.
    let room = style.width.saturating_sub(first.chars().count() + 2);
    let length = branch_of.title.chars().count() + 2 + branch_of.text.chars().count();
    if branch_of.text.is_empty() {
        _ = writeln!(out, "{first}{sign} {title}");
    } else if length <= room && !branch_of.text.contains('\n') {
        _ = writeln!(out, "{first}{sign} {title}  {}", branch_of.text);
    } else {
        _ = writeln!(out, "{first}{sign} {title}");
        for line in branch_of.text.lines() {
            let room = style.width.saturating_sub(rest.chars().count() + 2).max(40);
            for piece in wrap(line, room) {
                _ = writeln!(out, "{rest}{below}{piece}");
            }
        }
    }
    for (at, part) in branch_of.parts.iter().enumerate() {
        let (joint, trunk) =
            if at + 1 == branch_of.parts.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(out, part, style, &format!("{rest}{joint}"), &format!("{rest}{trunk}"));
    }
}

/// Breaks a line between words; what stands between backticks is a command to paste and stays whole.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(line) {
        let last = lines
            .last_mut()
            .filter(|last| last.is_empty() || last.chars().count() + 1 + word.chars().count() <= width);
        match last {
            Some(last) => {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, character) in line.char_indices() {
        match character {
            '`' => quoted = !quoted,
            ' ' if !quoted => {
                words.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&line[start..]);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colours: false, width: 60 };

    #[test]
    fn a_tree_has_joints() {
        let tree = TreeNode::new(Severity::Good, "root", "").with(vec![
            TreeNode::new(Severity::Good, "first", "short").with(vec![TreeNode::new(
                Severity::Bad,
                "leaf",
                "why",
            )]),
            TreeNode::new(Severity::Waiting, "second", ""),
        ]);
        assert_eq!(render(&tree, PLAIN), "✖ root\n├─ ✖ first  short\n│  └─ ✖ leaf  why\n└─ … second\n");
    }

    #[test]
    fn a_long_text_is_wrapped_but_no_command() {
        let text = "This message is longer than the terminal is wide. Run `kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes`.";
        let tree = TreeNode::new(Severity::Good, "root", "").with(vec![
            TreeNode::new(Severity::Bad, "first", text),
            TreeNode::new(Severity::Good, "second", ""),
        ]);
        let lines: Vec<_> = render(&tree, PLAIN).lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "✖ root",
                "├─ ✖ first",
                "│    This message is longer than the terminal is wide. Run",
                "│    `kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes`.",
                "└─ ✔ second",
            ]
        );
    }

    #[test]
    fn colours_are_for_terminals() {
        let leaf = TreeNode::new(Severity::Bad, "leaf", "");
        assert_eq!(
            render(&leaf, Style { colours: true, width: 80 }),
            "\x1b[31m✖\x1b[0m \x1b[1mleaf\x1b[0m\n"
        );
    }
}
