//! Compares docs/diagnosis.md with the vocabulary of conditions and causes.

use std::path::Path;

#[test]
fn diagnosis_page_explains_every_condition_reason_and_cause() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diagnosis.md");
    let text = std::fs::read_to_string(path).unwrap();
    let reasons = crds::Reason::ALL.iter().map(|reason| format!("\n| `{reason}` | "));
    let conditions = crds::ConditionType::ALL.iter().map(|kind| format!("\n| `{kind}` | "));
    // The status never contains it.
    let causes = crds::cause::ScrapeCause::ALL.iter().filter(|cause| cause.as_str() != "node_deleted");
    let causes = causes.map(|cause| format!("`{cause}`"));
    let sample_causes = crds::cause::SampleCause::ALL.iter().filter(|cause| cause.as_str() != "other");
    // Its row names the condition, its reason and whether it is a fault or a warning.
    let sample_causes = sample_causes.map(|cause| format!("\n| `{cause}` | "));
    let causes = causes.chain(sample_causes);
    let missing: Vec<_> =
        reasons.chain(conditions).chain(causes).filter(|entry| !text.contains(entry.as_str())).collect();
    assert!(missing.is_empty(), "docs/diagnosis.md does not explain {missing:?}");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let known = |name: &str| {
        crds::Reason::ALL.iter().any(|reason| reason.as_str() == name)
            || crds::ConditionType::ALL.iter().any(|kind| kind.as_str() == name)
            || crds::cause::SampleCause::ALL.iter().any(|cause| cause.as_str() == name)
    };
    let unknown: Vec<_> = rows.filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "docs/diagnosis.md explains reasons that do not exist: {unknown:?}");
}
