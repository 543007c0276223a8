//! Checks how tools judge the statuses that the operator reports: kstatus (Flux, kpt), and Argo CD with
//! `docs/argocd/health.lua`. A unit test of the operator writes the statuses (`operator/src/report/tests/tools.rs`).

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use e2e::progress::Progress;
use e2e::testbed::binaries;
use serde_json::Value;

/// The name of each status, with the verdict of kstatus and of Argo CD.
const VERDICTS: [(&str, &str, &str); 10] = [
    ("new", "InProgress", "Progressing"),
    ("installing", "InProgress", "Progressing"),
    ("rolled-out", "Current", "Healthy"),
    ("not-observed", "InProgress", "Progressing"),
    ("rolling-out", "InProgress", "Progressing"),
    ("rollout-failed", "Failed", "Degraded"),
    ("resizing", "Current", "Healthy"),
    ("fault", "Failed", "Degraded"),
    ("conflict", "Failed", "Degraded"),
    ("deleting", "Terminating", "Progressing"),
];

#[test]
fn tools_judge_each_status_as_the_operator_means_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = binaries::kstatus(&Progress::default()).unwrap();
    let script = directory.join("../docs/argocd/health.lua");
    let statuses = directory.join("kstatus/testdata");
    let names: BTreeSet<_> = fs::read_dir(&statuses)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, VERDICTS.iter().map(|(name, ..)| (*name).to_owned()).collect());
    for (name, kstatus, argo) in VERDICTS {
        let object = File::open(statuses.join(name).with_extension("json")).unwrap();
        let output = Command::new(&program).arg(&script).stdin(object).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (verdict["kstatus"].as_str(), verdict["argo"].as_str()),
            (Some(kstatus), Some(argo)),
            "{name}"
        );
        assert!(
            verdict["message"].as_str().is_some_and(|message| message.ends_with('.')),
            "{name}: {verdict}"
        );
    }
}
