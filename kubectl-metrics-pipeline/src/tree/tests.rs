use super::*;

const PLAIN: Style = Style { color: false, width: 60 };

#[test]
fn draws_lines_between_nodes() {
    let tree = TreeNode::new(Severity::Ok, "root", "").with_children(vec![
        TreeNode::new(Severity::Ok, "first", "short").with_children(vec![TreeNode::new(
            Severity::Error,
            "leaf",
            "why",
        )]),
        TreeNode::new(Severity::Waiting, "second", ""),
    ]);
    assert_eq!(render(&tree, PLAIN), "✖ root\n├─ ✖ first  short\n│  └─ ✖ leaf  why\n└─ … second\n");
}

#[test]
fn wraps_long_texts_but_not_commands() {
    let text = "This message is longer than the terminal is wide. Run `kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes`.";
    let tree = TreeNode::new(Severity::Ok, "root", "").with_children(vec![
        TreeNode::new(Severity::Error, "first", text),
        TreeNode::new(Severity::Ok, "second", ""),
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
fn colors_symbol_and_title() {
    let leaf = TreeNode::new(Severity::Error, "leaf", "");
    assert_eq!(render(&leaf, Style { color: true, width: 80 }), "\x1b[31m✖\x1b[0m \x1b[1mleaf\x1b[0m\n");
}
