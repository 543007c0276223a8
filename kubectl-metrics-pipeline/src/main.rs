//! The kubectl plugin: kubectl finds it as `kubectl metrics-pipeline` when it is on the path.

mod arguments;
mod checks;
mod connect;
mod doctor;
mod flags;
mod run;
mod snapshot;
mod status;
mod tree;

use std::io::Write as _;
use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser as _;
use tree::Severity;

/// Exit codes: 0 all well, 1 something is wrong, 2 it could not be found out.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = match runtime {
        Ok(runtime) => runtime.block_on(run::run(&arguments)).map_err(|error| error.to_string()),
        Err(error) => Err(format!("the asynchronous runtime did not start: {error}")),
    };
    match answer {
        Ok(Severity::Good | Severity::Warning) => ExitCode::SUCCESS,
        Ok(Severity::Bad | Severity::Waiting) => ExitCode::from(1),
        Ok(Severity::Unknown) => ExitCode::from(2),
        Err(error) => {
            // There is nowhere left to say that this failed.
            _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}
