//! Runs other programs and reports their output when they fail.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Doing as _, Error, Result};
use crate::progress::Step;

/// Returns the command line as a user would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end; returns the standard output, or an error with the standard error.
pub fn output(command: &mut Command) -> Result<String> {
    output_of(command, None)
}

/// Runs the same with `input` on its standard input.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    output_of(command, Some(input))
}

fn output_of(command: &mut Command, input: Option<&str>) -> Result<String> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| format!("start `{}`", line(command)))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        // A program that ends without reading its input explains itself in its exit status.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().doing(|| format!("wait for `{}`", line(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Command {
        command: line(command),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Runs a command to its end with this process' input and output.
pub fn shown(command: &mut Command) -> Result<()> {
    let status = command.status().doing(|| format!("start `{}`", line(command)))?;
    if status.success() {
        return Ok(());
    }
    let output = "its messages are above".to_owned();
    Err(Error::Command { command: line(command), status: status.to_string(), output })
}

/// Runs a long command: its output goes to `log`, its latest line to the step's note.
pub fn logged(command: &mut Command, log: &Path, step: &Step) -> Result<()> {
    const SHOWN: usize = 30;
    let mut file = File::create(log).doing(|| format!("create {}", log.display()))?;
    let stdout = file.try_clone().doing(|| format!("open {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| format!("start `{}`", line(command)))?;
    let mut tail = VecDeque::with_capacity(SHOWN);
    if let Some(stderr) = child.stderr.take() {
        for text in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = writeln!(file, "{text}");
            step.note(text.trim());
            if tail.len() == SHOWN {
                tail.pop_front();
            }
            tail.push_back(text);
        }
    }
    let status = child.wait().doing(|| format!("wait for `{}`", line(command)))?;
    if status.success() {
        return Ok(());
    }
    let output = format!("\n{}\n(full log: {})", Vec::from(tail).join("\n"), log.display());
    Err(Error::Command { command: line(command), status: status.to_string(), output })
}
