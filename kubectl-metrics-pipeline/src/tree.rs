//! The output of `status` and `doctor`: a tree of nodes, each with a severity, a title, a text and children.

use std::fmt::Write as _;

use serde::Serialize;

/// The severity of a node. The order is that of [`TreeNode::with_children`]: the greatest one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It works.
    Ok,
    /// It is in progress, or depends on something that must work first.
    Waiting,
    /// It could not be read.
    Unknown,
    /// It works, but needs attention.
    Warning,
    /// It does not work.
    Error,
}

impl Severity {
    const fn symbol(self) -> &'static str {
        match self {
            Self::Ok => "✔",
            Self::Waiting => "…",
            Self::Unknown => "?",
            Self::Warning => "!",
            Self::Error => "✖",
        }
    }

    /// Returns the parameter of ECMA-48's "Select Graphic Rendition".
    const fn color(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Waiting => "2",
            Self::Unknown | Self::Warning => "33",
            Self::Error => "31",
        }
    }
}

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TreeNode {
    /// The severity; at least that of each child.
    pub(crate) severity: Severity,
    /// The name of the object, condition or check.
    pub(crate) title: String,
    /// The state, cause and remedy; can have several lines.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    /// The nodes below it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) children: Vec<TreeNode>,
}

impl TreeNode {
    /// Returns a node without children.
    pub(crate) fn new(severity: Severity, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity, title: title.into(), text: text.into(), children: Vec::new() }
    }

    /// Returns the node with these children, and with the greatest severity of itself and them.
    #[must_use]
    pub(crate) fn with_children(mut self, children: Vec<TreeNode>) -> Self {
        self.severity = children.iter().map(|child| child.severity).fold(self.severity, Ord::max);
        self.children = children;
        self
    }
}

/// The style of a rendered tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Whether to use color.
    pub(crate) color: bool,
    /// The width in columns.
    pub(crate) width: usize,
}

impl Style {
    fn paint(self, color: &str, text: &str) -> String {
        if self.color { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Returns the lines of the tree.
pub(crate) fn render(root: &TreeNode, style: Style) -> String {
    let mut out = String::new();
    render_node(&mut out, root, style, "", "");
    out
}

/// Appends a node: its first line starts with `first`, the others start with `rest`.
fn render_node(out: &mut String, node: &TreeNode, style: Style, first: &str, rest: &str) {
    let symbol = style.paint(node.severity.color(), node.severity.symbol());
    let title = style.paint("1", &node.title);
    let below = if node.children.is_empty() { "  " } else { "│ " };
    // A short text follows the title; a long one is wrapped below it.
    let room = style.width.saturating_sub(first.chars().count() + 2);
    let length = node.title.chars().count() + 2 + node.text.chars().count();
    if node.text.is_empty() {
        _ = writeln!(out, "{first}{symbol} {title}");
    } else if length <= room && !node.text.contains('\n') {
        _ = writeln!(out, "{first}{symbol} {title}  {}", node.text);
    } else {
        _ = writeln!(out, "{first}{symbol} {title}");
        for line in node.text.lines() {
            let room = style.width.saturating_sub(rest.chars().count() + 2).max(40);
            for piece in wrap(line, room) {
                _ = writeln!(out, "{rest}{below}{piece}");
            }
        }
    }
    for (index, child) in node.children.iter().enumerate() {
        let (joint, trunk) =
            if index + 1 == node.children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        render_node(out, child, style, &format!("{rest}{joint}"), &format!("{rest}{trunk}"));
    }
}

/// Wraps a line between words. Text in backticks is a command to paste and is never broken.
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
    for (index, character) in line.char_indices() {
        match character {
            '`' => quoted = !quoted,
            ' ' if !quoted => {
                words.push(&line[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    words.push(&line[start..]);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests;
