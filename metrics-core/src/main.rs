//! The metrics-core program.

use std::io::Write;
use std::process::ExitCode;

use metrics_core::flags::{self, CommandLine};
use metrics_core::program::Program;

/// The exit code for an invalid command line, as in flag libraries.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = match flags::parse(std::env::args().skip(1)) {
        Ok(CommandLine::Run(options)) => *options,
        Ok(CommandLine::Print(text)) => {
            return if std::io::stdout().write_all(text.as_bytes()).is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        Err(error) => return fail(USAGE, &error),
    };
    let program = match Program::new(options) {
        Ok(program) => program,
        Err(error) => return fail(USAGE, &error),
    };
    if let Err(error) = program.start_log() {
        return fail(1, &error);
    }
    // Two workers, so that one can scrape while the other encodes a long list.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(program.run()),
        Err(error) => return fail(1, &error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "metrics-core: {error}");
    ExitCode::from(code)
}
