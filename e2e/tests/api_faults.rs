//! A sample of the faults between the operator and kube-apiserver. `cargo api-faults` injects all.

use std::process::ExitCode;

use e2e::api_faults::{self, Journey, Plan, Programs};
use e2e::testbed::{binaries, images, requirements};
use e2e::{Progress, Result};

/// The sample. Each run takes about 8 s, the control plane and the undisturbed run 20 s.
const RUNS: usize = 3;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(violations) if violations.is_empty() => ExitCode::SUCCESS,
        Ok(violations) => {
            eprintln!("{}", violations.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Vec<String>> {
    let progress = Progress::default();
    requirements::check(&progress)?;
    let programs = Programs {
        kubernetes: binaries::kubernetes(&progress)?,
        helm: binaries::helm(&progress)?,
        operator: images::for_scenarios(&progress)?.programs.join("metrics-pipeline-operator"),
    };
    let plan = Plan {
        name: "api-faults-sample".to_owned(),
        journeys: vec![Journey::Install],
        filter: Some("kill".to_owned()),
        sample: Some(RUNS),
        seed: 17,
        parallel: 1,
        time: None,
    };
    let results = api_faults::run(&plan, &programs, &progress)?;
    progress.say(results.summary());
    Ok(results.violations())
}
