//! The scenarios on a real cluster.
//!
//! `cargo scenarios [FILTER] [--long]` runs them; `E2E_KUBECONFIG=FILE` runs those that can on
//! another cluster. The dump of a failed scenario is in `target/e2e-failures`.

mod cluster;
mod differential;
mod faults;
mod pipeline;
mod plugin;
mod workloads;

use std::process::ExitCode;

use e2e::suite::Suite;

fn main() -> ExitCode {
    let mut suite = match Suite::from_env() {
        Ok(suite) => suite,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    pipeline::add(&mut suite);
    let bench = suite.group("bench");
    workloads::add(&mut suite, &bench);
    cluster::add(&mut suite);
    differential::add(&mut suite);
    faults::add(&mut suite, &bench);
    suite.run()
}
