//! Dumps of what may explain a failure.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::env::TestEnv;
use crate::testbed::cluster::{COMPONENTS, tail};
use crate::testbed::images;

/// The text before the cause in the report of a failure.
pub(super) const CAUSE: &str = "\n--- ";

impl TestEnv {
    /// Writes objects and logs of the cluster to files; returns the directory and an excerpt.
    pub(super) fn dump(&self) -> String {
        let directory = failures().join(&self.namespace);
        let _ = fs::remove_dir_all(&directory);
        if let Err(error) = fs::create_dir_all(&directory) {
            return format!("(no dump: {error})");
        }
        let mut excerpt = String::new();
        for (file, arguments, shown) in [
            ("pods.txt", &["get", "pods", "-A", "-o", "wide"] as &[&str], true),
            ("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"], true),
            ("apiservices.txt", &["get", "apiservices"], false),
            ("apiservices.yaml", &["get", "apiservices", "-o", "yaml"], false),
            ("pipelines.yaml", &["get", "metricspipelines", "-o", "yaml", "--ignore-not-found"], true),
            ("nodes.yaml", &["get", "nodes", "-o", "yaml"], false),
            (
                "workloads.yaml",
                &["get", "deployments,replicasets,pods,services,endpointslices", "-A", "-o", "yaml"],
                false,
            ),
        ] {
            let text = self.client.run(arguments).unwrap_or_else(|error| error.to_string());
            let _ = fs::write(directory.join(file), &text);
            if shown {
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(25)..].join("\n");
                let _ = writeln!(excerpt, "--- kubectl {}\n{last}", arguments.join(" "));
            }
        }
        self.dump_pod_logs(&directory);
        if let Some(cluster) = &self.cluster {
            for component in COMPONENTS {
                let log = tail(&cluster.layout().log(component), 300);
                let _ = fs::write(directory.join(format!("{component}.log")), log);
            }
        }
        format!("{excerpt}--- more in {}", directory.display())
    }

    fn dump_pod_logs(&self, directory: &Path) {
        let pods = self.client.get(&["pods", "-A"]).unwrap_or_default();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let (Some(namespace), Some(name)) =
                (pod["metadata"]["namespace"].as_str(), pod["metadata"]["name"].as_str())
            else {
                continue;
            };
            for previous in [false, true] {
                let option = format!("--previous={previous}");
                let log = ["-n", namespace, "logs", name, "--all-containers", "--tail=300", &option];
                if let Ok(log) = self.client.run(&log) {
                    let file = if previous { "previous.log" } else { "log" };
                    let _ = fs::write(directory.join(format!("{namespace}.{name}.{file}")), log);
                }
            }
        }
    }
}

/// Returns the directory of all dumps, `target/e2e-failures`.
fn failures() -> PathBuf {
    images::target().join("e2e-failures")
}
