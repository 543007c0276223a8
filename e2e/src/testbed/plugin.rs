//! The kubectl plugin, run as users run it: beside kubectl, with a kubeconfig.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::command;
use crate::error::{Doing as _, Result};
use crate::progress::Progress;
use crate::testbed::images;
use crate::testbed::kubectl::Client;

/// The program of the plugin.
#[derive(Clone, Debug)]
pub struct Plugin {
    program: PathBuf,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct PluginOutput {
    /// The exit code; -1 if a signal ended the program.
    pub code: i32,
    /// The standard output.
    pub text: String,
    /// The standard error.
    pub errors: String,
}

impl Plugin {
    /// Builds the plugin, with the images of the scenarios.
    pub fn build(progress: &Progress) -> Result<Self> {
        Ok(Self { program: images::for_scenarios(progress)?.programs.join(images::KUBECTL_PLUGIN) })
    }

    /// Runs the plugin on the client's cluster.
    ///
    /// # Errors
    /// If it cannot be started. An exit code other than 0 is no error.
    pub fn run(&self, client: &Client, arguments: &[&str]) -> Result<PluginOutput> {
        let mut command = client.command(&self.program);
        command.args(arguments).stdin(Stdio::null());
        let output = command.output().doing(|| format!("start `{}`", command::line(&command)))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(PluginOutput {
            code: output.status.code().unwrap_or(-1),
            text: text(&output.stdout),
            errors: text(&output.stderr),
        })
    }

    /// Runs `doctor -o json`; returns the exit code and the tree.
    pub fn doctor(&self, client: &Client) -> Result<(i32, Value)> {
        let output = self.run(client, &["doctor", "--output=json"])?;
        let tree = serde_json::from_str(&output.text)
            .doing(|| format!("doctor, exit code {}, {}", output.code, output.errors.trim()))?;
        Ok((output.code, tree))
    }
}
