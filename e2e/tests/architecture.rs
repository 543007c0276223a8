//! Holds the direction of imports: each module of `operator` and `metrics-core` may import only the modules
//! before it in the lists below. A module and its own tree are one thing; paths in expressions and in macros count as
//! imports, and so do `super` chains that leave the tree. Unit tests (`mod tests`) are left out.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One reconcile is observe → plan → apply → assess → report; the modules before `observe` are pure.
const OPERATOR: &[&str] = &[
    "common",
    "pki",
    "nanny",
    "csr",
    "settings",
    "observe",
    "plan",
    "apply",
    "assess",
    "report",
    "run",
    "hook",
    "inspect",
    "simulation",
];

/// A sample goes from ingest to api; `program` connects the parts.
const METRICS_CORE: &[&str] = &[
    "digest",
    "watched_file",
    "memory",
    "model",
    "telemetry",
    "flags",
    "cluster",
    "ingest",
    "server",
    "api",
    "report",
    "program",
];

/// The order of imports, which is not that of the data: `scrape` drives the other three.
const INGEST: &[&str] = &["discover", "decode", "store", "scrape"];

const SERVER: &[&str] = &["tls", "reviews", "authentication", "request_info", "authorization", "listen"];

#[test]
fn operator_imports_point_one_way() {
    assert_points_one_way("operator/src", &[], OPERATOR);
}

#[test]
fn metrics_core_imports_point_one_way() {
    assert_points_one_way("metrics-core/src", &[], METRICS_CORE);
}

#[test]
fn ingest_imports_point_one_way() {
    assert_points_one_way("metrics-core/src", &["ingest"], INGEST);
}

#[test]
fn server_imports_point_one_way() {
    assert_points_one_way("metrics-core/src", &["server"], SERVER);
}

/// Checks the modules below `parent` (module path within the crate) against their order.
fn assert_points_one_way(source: &str, parent: &[&str], order: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(source);
    let directory = parent.iter().fold(source.clone(), |path, name| path.join(name));
    let mut problems = Vec::new();
    let mut modules = BTreeSet::new();
    for file in rust_files(&directory) {
        let path = module_path(file.strip_prefix(&source).unwrap());
        let Some(module) = path.get(parent.len()).cloned() else { continue };
        modules.insert(module.clone());
        for target in imports(&fs::read_to_string(&file).unwrap(), &path) {
            let Some(imported) = target.get(parent.len()) else { continue };
            if !target.iter().zip(parent).all(|(name, expected)| name == expected) {
                continue;
            }
            if let Some(problem) = judge(&module, imported, order) {
                problems.push(format!("{}: {problem} ({})", file.display(), target.join("::")));
            }
        }
    }
    let expected: BTreeSet<String> = order.iter().map(ToString::to_string).collect();
    assert_eq!(
        modules,
        expected,
        "the list of modules in this test differs from the modules of {}",
        directory.display()
    );
    assert!(problems.is_empty(), "imports against the direction:\n{}", problems.join("\n"));
}

/// Why `module` may not import `imported`; `None` when it may.
fn judge(module: &str, imported: &str, order: &[&str]) -> Option<String> {
    let place = |name: &str| order.iter().position(|known| *known == name);
    match (place(module), place(imported)) {
        (Some(from), Some(to)) if to <= from => None,
        (Some(_), Some(_)) => Some(format!("{module} imports {imported}, which comes after it")),
        // A name that the parent defines or re-exports.
        (Some(_), None) => None,
        (None, _) => Some(format!("{module} is not in the list")),
    }
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests" && name != "bin") {
                files.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            files.push(path);
        }
    }
    files
}

/// The module path of a source file; empty for `lib.rs` and `main.rs`.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if path.last().is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str())) {
        path.pop();
    }
    path
}

/// The paths within the crate that a source names, each from the crate's root.
fn imports(source: &str, module: &[String]) -> Vec<Vec<String>> {
    let tokens: Vec<TokenTree> = TokenStream::from_str(source).unwrap().into_iter().collect();
    let mut found = Vec::new();
    scan(&tokens, module, &mut found);
    found
}

fn scan(tokens: &[TokenTree], module: &[String], found: &mut Vec<Vec<String>>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(name) if name == "mod" => {
                // An inline module; one whose name ends the statement is another file.
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    if name != "tests" {
                        let mut inner = module.to_vec();
                        inner.push(name.to_string());
                        scan(&body.stream().into_iter().collect::<Vec<_>>(), &inner, found);
                    }
                    at += 3;
                    continue;
                }
                at += 1;
            }
            TokenTree::Ident(name) if name == "crate" && is_separator(tokens, at + 1) => {
                let dollar =
                    at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(punct) if punct.as_char() == '$');
                let next = at + 3;
                if !dollar {
                    names(&tokens[next..], &[], found);
                }
                at = next;
            }
            TokenTree::Ident(name) if name == "super" && is_separator(tokens, at + 1) => {
                let mut base = module.to_vec();
                base.pop();
                let mut next = at + 3;
                while matches!(tokens.get(next), Some(TokenTree::Ident(name)) if name == "super") {
                    base.pop();
                    next += 3;
                }
                // A visibility such as `pub(in super::super)` names nothing more.
                if next < tokens.len() {
                    names(&tokens[next..], &base, found);
                }
                at = next;
            }
            TokenTree::Group(group) => {
                scan(&group.stream().into_iter().collect::<Vec<_>>(), module, found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// The names that follow a prefix: one, or those of a group in braces, each with all that follows.
fn names(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<Vec<String>>) {
    match tokens.first() {
        Some(TokenTree::Ident(name)) => {
            let mut path = prefix.to_vec();
            path.push(name.to_string());
            if is_separator(tokens, 1)
                && matches!(tokens.get(3), Some(TokenTree::Ident(_) | TokenTree::Group(_)))
            {
                names(&tokens[3..], &path, found);
            } else {
                found.push(path);
            }
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            let elements =
                inner.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','));
            for element in elements {
                names(element, prefix, found);
            }
        }
        _ => found.push(prefix.to_vec()),
    }
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

#[test]
fn finds_imports_in_every_form() {
    let source = r#"
        use crate::plan::{self, objects::{Context, service}};
        use super::super::report::Events;
        use super::sibling::Thing;
        mod inline { fn f() { super::super::super::assess::judge(); } }
        fn g() { println!("{}", crate::apply::write()); }
        macro_rules! m { () => { $crate::not_counted::x() } }
        mod tests { use crate::run; }
    "#;
    let module = ["observe".to_owned(), "nodes".to_owned()];
    let found: Vec<String> = imports(source, &module).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        [
            "plan::self",
            "plan::objects::Context",
            "plan::objects::service",
            "report::Events",
            "observe::sibling::Thing",
            "assess::judge",
            "apply::write",
        ]
    );
}

#[test]
fn refuses_an_import_of_what_comes_later() {
    assert_eq!(judge("plan", "observe", OPERATOR), None);
    assert_eq!(judge("plan", "plan", OPERATOR), None);
    assert!(judge("observe", "plan", OPERATOR).is_some());
    assert!(judge("novel", "plan", OPERATOR).is_some());
}

#[test]
fn names_the_module_of_a_file() {
    let path = |file: &str| module_path(Path::new(file)).join("::");
    assert_eq!(path("plan/objects/service.rs"), "plan::objects::service");
    assert_eq!(path("plan/mod.rs"), "plan");
    assert_eq!(path("lib.rs"), "");
}
