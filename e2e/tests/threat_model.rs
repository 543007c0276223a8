//! Compares docs/threat-model.md with the chart: the permissions of the operator and the admission policies.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

#[test]
fn threat_model_lists_every_permission_of_the_operator() {
    let found: BTreeSet<String> = objects()
        .iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole")))
        .flat_map(|role| {
            let place = role["metadata"]["namespace"].as_str().unwrap_or("cluster").to_owned();
            items(&role["rules"]).map(move |rule| row(&place, rule)).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.len() > 25, "only {found:#?}");
    let documented = rows("### Permissions of the operator");
    let missing: Vec<_> = found.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&found).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing: {missing:#?}\nnot in the chart: {unknown:#?}"
    );
}

#[test]
fn threat_model_explains_every_admission_policy() {
    let kind = |kind: &str| -> BTreeSet<String> {
        let objects = objects();
        let found = objects.iter().filter(|object| object["kind"] == kind);
        found.map(|object| format!("| `{}`", object["metadata"]["name"].as_str().unwrap())).collect()
    };
    let policies = kind("ValidatingAdmissionPolicy");
    assert_eq!(policies, rows("### Admission policies").iter().map(|row| first_cell(row)).collect());
    for object in objects().iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicyBinding") {
        assert_eq!(object["metadata"]["name"], object["spec"]["policyName"]);
        assert_eq!(items(&object["spec"]["validationActions"]).next().unwrap(), "Deny");
    }
    assert_eq!(kind("ValidatingAdmissionPolicyBinding"), policies);
    for policy in objects().iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy") {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{}", policy["metadata"]["name"]);
    }
}

#[test]
fn threat_model_names_tests_and_files_that_exist() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let mut sources = String::new();
    for part in ["operator/src", "metrics-core/src", "e2e/tests"] {
        read_sources(&root().join(part), &mut sources);
    }
    let quoted: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let is_test = |text: &&&str| {
        text.matches('_').count() >= 4 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let tests: Vec<_> = quoted.iter().filter(is_test).collect();
    assert!(tests.len() >= 10, "only {tests:?}");
    let exists =
        |name: &str| sources.contains(&format!("fn {name}()")) || sources.contains(&format!("\"{name}\""));
    let missing: Vec<_> = tests.into_iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "docs/threat-model.md names tests that do not exist: {missing:?}");
}

fn read_sources(directory: &Path, sources: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Returns place, resources, names and verbs of a rule as the cells of a table.
fn row(place: &str, rule: &Value) -> String {
    let quoted = |values: Vec<String>| match values.as_slice() {
        [] => "–".to_owned(),
        values => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
    };
    let texts = |field: &str| -> Vec<String> {
        items(&rule[field]).map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let group = texts("apiGroups").concat();
    let resources = texts("resources").into_iter().map(|resource| match group.as_str() {
        "" => resource,
        group => format!("{resource}.{group}"),
    });
    let what = quoted(resources.chain(texts("nonResourceURLs")).collect());
    format!("| {place} | {what} | {} | {} |", quoted(texts("resourceNames")), texts("verbs").join(", "))
}

/// Returns the rows of the first table below a heading, without the last cell, which explains.
fn rows(heading: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with("|--")).skip(1);
    let table = lines.take_while(|line| line.starts_with('|'));
    table
        .map(|line| {
            let (cells, _) = line.trim_end_matches(" |").rsplit_once(" | ").unwrap();
            format!("{cells} |")
        })
        .collect()
}

fn first_cell(row: &str) -> String {
    row.split_once(" |").map_or(row, |(cell, _)| cell).to_owned()
}

/// Returns the objects of the chart's templates with every condition true. Values are placeholders.
fn objects() -> Vec<Value> {
    let templates = root().join("charts/metrics-pipeline/templates");
    let mut found = Vec::new();
    for entry in fs::read_dir(templates).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !(name.contains("role") || name.contains("admission")) {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let documents = rendered(&text).into_iter().filter(|document| document.contains("kind:"));
        found.extend(documents.map(|document| serde_saphyr::from_str::<Value>(&document).unwrap()));
    }
    found
}

/// Replaces the actions of a template: those that fill a line are left out, others become a value. The bindings of the
/// admission policies come from a helper.
fn rendered(template: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in template.lines() {
        let text = line.trim();
        if let Some((_, rest)) = text.split_once("metrics-pipeline.policyBinding\" (list . \"") {
            let suffix = rest.split('"').next().unwrap();
            let name = format!("metrics-pipeline-operator-{suffix}");
            lines.push(format!(
                "---\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: {name}}}\nspec:\n  policyName: {name}\n  \
                 validationActions: [Deny, Audit]"
            ));
        } else if !text.starts_with("{{") {
            lines.push(filled(line));
        }
    }
    lines.join("\n").split("\n---").map(str::to_owned).collect()
}

/// Replaces the actions within a line.
fn filled(line: &str) -> String {
    let Some((before, rest)) = line.split_once("{{") else { return line.to_owned() };
    let (action, after) = rest.split_once("}}").unwrap();
    let value = match action.trim() {
        "$name" => "metrics-pipeline-operator",
        text if text.contains("metrics-pipeline.name") => "metrics-pipeline-operator",
        ".Release.Namespace" | "$.Release.Namespace" => "release",
        "$namespace" => "kubeletCA.namespace",
        "$name | quote" => "kubeletCA.name",
        ". | quote" => "servingSecret",
        "." => "previousNamespace",
        _ => "value",
    };
    format!("{before}{value}{}", filled(after))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
