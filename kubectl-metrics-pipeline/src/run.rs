//! The kubectl plugin `kubectl metrics-pipeline`: shows and explains, and changes nothing.
//!
//! It has no knowledge of its own: what it says of the pipeline is what the operator's conditions says.

use std::io::{self, IsTerminal, Write};

use crate::arguments::{Arguments, Colour, Command, Output};
use crate::checks::Checks;
use crate::snapshot::Snapshot;
use crate::tree::{Severity, TreeNode};
use crate::{connect, doctor, flags, status, tree};

/// The width of a terminal that does not tell its own.
const WIDTH: usize = 100;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    /// There is no way to a cluster.
    #[error(transparent)]
    Connect(#[from] connect::ConnectError),
    /// The answer could not be written.
    #[error("the answer could not be written: {0}")]
    Write(#[from] io::Error),
    /// The answer could not be made JSON, which is a defect.
    #[error("the answer could not be written as JSON: {0}")]
    Serialize(#[from] serde_json::Error),
}

/// Does what was asked for; how bad the worst is that was found.
pub(crate) async fn run(arguments: &Arguments) -> Result<Severity, PluginError> {
    let client = connect::client(arguments).await?;
    let snapshot = Snapshot::read(&client, arguments.namespace.clone()).await;
    match arguments.command {
        Command::Status => tell(arguments, &status::status(&snapshot)),
        Command::Doctor => tell(arguments, &doctor::doctor(&Checks::read(&client, snapshot).await)),
        Command::Flags { form } => {
            let (text, remark) = flags::flags(&snapshot, form);
            if let Some(remark) = remark {
                // Beside the answer, so that the answer can be written to a file.
                _ = writeln!(io::stderr(), "note: {remark}");
            }
            write(&text)?;
            Ok(Severity::Good)
        }
    }
}

fn tell(arguments: &Arguments, tree: &TreeNode) -> Result<Severity, PluginError> {
    let text = match arguments.output {
        Output::Text => tree::render(tree, style(arguments)),
        Output::Json => serde_json::to_string_pretty(tree)? + "\n",
    };
    write(&text)?;
    Ok(tree.severity)
}

fn write(text: &str) -> Result<(), io::Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has read enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn style(arguments: &Arguments) -> tree::Style {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let colours = match arguments.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => io::stdout().is_terminal() && variable("NO_COLOR").is_none(),
    };
    let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    tree::Style { colours, width: width.filter(|width| *width >= 40).unwrap_or(WIDTH) }
}
