//! The kubectl plugin, run as its users run it: beside kubectl, with a kubeconfig.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::command;
use crate::error::{Doing as _, Result};
use crate::progress::Progress;
use crate::testbed::client::Client;
use crate::testbed::images;

/// The plugin's program.
#[derive(Clone, Debug)]
pub struct Plugin {
    program: PathBuf,
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// The standard output.
    pub text: String,
    /// The standard error.
    pub remarks: String,
}

impl Plugin {
    /// Builds it, with the images of the scenarios.
    pub fn build(progress: &Progress) -> Result<Self> {
        Ok(Self { program: images::for_scenarios(progress)?.programs.join(images::KUBECTL_PLUGIN) })
    }

    /// Runs it on the client's cluster.
    ///
    /// # Errors
    /// When it can't be started; that it ends with an error is an answer.
    pub fn run(&self, client: &Client, arguments: &[&str]) -> Result<Answer> {
        let mut command = client.command(&self.program);
        command.args(arguments).stdin(Stdio::null());
        let output = command.output().doing(|| format!("start `{}`", command::line(&command)))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Answer {
            code: output.status.code().unwrap_or(-1),
            text: text(&output.stdout),
            remarks: text(&output.stderr),
        })
    }

    /// `doctor -o json`: the exit code and the tree.
    pub fn doctor(&self, client: &Client) -> Result<(i32, Value)> {
        let answer = self.run(client, &["doctor", "--output=json"])?;
        let tree = serde_json::from_str(&answer.text)
            .doing(|| format!("doctor, exit code {}, {}", answer.code, answer.remarks.trim()))?;
        Ok((answer.code, tree))
    }
}
