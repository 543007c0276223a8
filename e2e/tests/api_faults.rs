//! A sample of the faults between the operator and kube-apiserver. `cargo api-faults` injects all.

use std::process::ExitCode;

use e2e::api_faults::{self, Journey, Plan, Programs};
use e2e::suite::failed;
use e2e::testbed::{binaries, images, requirements};
use e2e::{Progress, Result};
use libtest_mimic::{Arguments, Completion, Trial};

/// The number of runs. Each takes about 10 s, the control plane and the undisturbed run 15 s.
const RUNS: usize = 3;

fn main() -> ExitCode {
    // `--long` is an argument of the scenarios, which `cargo test --workspace -- --long` passes here, too.
    let arguments = Arguments::from_iter(std::env::args().filter(|argument| argument != "--long"));
    let trial = Trial::ignorable_test("a_killed_operator_completes_the_installation", || {
        if std::env::var_os("E2E_KUBECONFIG").is_some_and(|value| !value.is_empty()) {
            return Ok(Completion::ignored_with("needs a control plane that this test starts"));
        }
        sample().map(|()| Completion::Completed).map_err(Into::into)
    });
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

fn sample() -> Result<()> {
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
    if results.is_good() { Ok(()) } else { Err(failed(results.violations().join("\n"))) }
}
