//! The kubectl plugin `kubectl metrics-pipeline`: shows and explains, and changes nothing.
//!
//! It has no knowledge of its own: what it says of the pipeline is what the operator's [`crate::plan`] says.

pub mod arguments;
mod connect;
mod doctor;
mod examination;
mod flags;
mod picture;
mod status;
mod tree;

use std::io::{self, IsTerminal, Write};

pub use arguments::Arguments;
use arguments::{Colour, Command, Output};
use examination::Examination;
use picture::Picture;
pub use tree::{Branch, Mark};

/// The width of a terminal that does not tell its own.
const WIDTH: usize = 100;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
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
pub async fn run(arguments: &Arguments) -> Result<Mark, PluginError> {
    let client = connect::client(arguments).await?;
    let picture = Picture::take(&client, arguments.namespace.clone()).await;
    match arguments.command {
        Command::Status => tell(arguments, &status::status(&picture)),
        Command::Doctor => tell(arguments, &doctor::doctor(&Examination::make(&client, picture).await)),
        Command::Flags { form } => {
            let (text, remark) = flags::flags(&picture, form);
            if let Some(remark) = remark {
                // Beside the answer, so that the answer can be written to a file.
                _ = writeln!(io::stderr(), "note: {remark}");
            }
            write(&text)?;
            Ok(Mark::Good)
        }
    }
}

fn tell(arguments: &Arguments, tree: &Branch) -> Result<Mark, PluginError> {
    let text = match arguments.output {
        Output::Text => tree::render(tree, style(arguments)),
        Output::Json => serde_json::to_string_pretty(tree)? + "\n",
    };
    write(&text)?;
    Ok(tree.mark)
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
