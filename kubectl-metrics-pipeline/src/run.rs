//! Runs one command: connects, reads the cluster, prints the result, and returns the exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::arguments::{Arguments, Color, Command, Output};
use crate::checks::Checks;
use crate::snapshot::Snapshot;
use crate::tree::{self, Severity, TreeNode};
use crate::{connect, doctor, flags, status};

/// The width in columns when standard output is not a terminal.
const DEFAULT_WIDTH: usize = 100;

/// The exit code when the command fails or finds nothing but unknown states.
const EXIT_UNKNOWN: u8 = 2;

/// An error that leaves the command without a result.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the async runtime did not start: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Connect(#[from] connect::ConnectError),
    #[error("the output could not be written: {0}")]
    Write(#[from] io::Error),
    #[error("the output could not be serialized as JSON: {0}")]
    Serialize(#[from] serde_json::Error),
}

/// Runs the command, prints errors to standard error, and returns the exit code.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match start(arguments) {
        Ok(severity) => ExitCode::from(exit_code(severity)),
        Err(error) => {
            // A failure to write to standard error cannot be reported.
            _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(EXIT_UNKNOWN)
        }
    }
}

const fn exit_code(severity: Severity) -> u8 {
    match severity {
        Severity::Ok | Severity::Warning => 0,
        Severity::Error | Severity::Waiting => 1,
        Severity::Unknown => EXIT_UNKNOWN,
    }
}

fn start(arguments: &Arguments) -> Result<Severity, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(RunError::Runtime)?.block_on(execute(arguments))
}

/// Executes the command and returns the highest severity in its output.
async fn execute(arguments: &Arguments) -> Result<Severity, RunError> {
    let client = connect::client(arguments).await?;
    let snapshot = Snapshot::read(&client, arguments.namespace.clone()).await;
    match arguments.command {
        Command::Status => print_tree(arguments, &status::status(&snapshot)),
        Command::Doctor => print_tree(arguments, &doctor::doctor(&Checks::read(&client, snapshot).await)),
        Command::Flags { form } => {
            let (text, note) = flags::flags(&snapshot, form);
            if let Some(note) = note {
                // On standard error, so that standard output can be redirected to a file.
                _ = writeln!(io::stderr(), "note: {note}");
            }
            write(&text)?;
            Ok(Severity::Ok)
        }
    }
}

fn print_tree(arguments: &Arguments, root: &TreeNode) -> Result<Severity, RunError> {
    let text = match arguments.output {
        Output::Text => tree::render(root, style(arguments)),
        Output::Json => serde_json::to_string_pretty(root)? + "\n",
    };
    write(&text)?;
    Ok(root.severity)
}

fn write(text: &str) -> Result<(), io::Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader closed the pipe, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn style(arguments: &Arguments) -> tree::Style {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let color = match arguments.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => io::stdout().is_terminal() && variable("NO_COLOR").is_none(),
    };
    let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    tree::Style { color, width: width.filter(|width| *width >= 40).unwrap_or(DEFAULT_WIDTH) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_exit_with_0_and_problems_with_1() {
        assert_eq!(exit_code(Severity::Ok), 0);
        assert_eq!(exit_code(Severity::Warning), 0);
        assert_eq!(exit_code(Severity::Waiting), 1);
        assert_eq!(exit_code(Severity::Error), 1);
        assert_eq!(exit_code(Severity::Unknown), 2);
    }
}
