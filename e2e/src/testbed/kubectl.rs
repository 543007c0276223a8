//! A client of a cluster that runs kubectl, so that scenarios see what users see.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::command;
use crate::error::{Doing as _, Result};
use crate::testbed::network::Namespace;
use crate::wait::{self, Pending};

/// Accesses one cluster as one user.
#[derive(Clone, Debug)]
pub struct Client {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    network: Option<Namespace>,
}

impl Client {
    /// Returns a client that runs `kubectl`, inside `network` if given.
    #[must_use]
    pub fn new(kubectl: PathBuf, kubeconfig: PathBuf, network: Option<Namespace>) -> Self {
        Self { kubectl, kubeconfig, network }
    }

    /// Returns the same client with another kubectl.
    #[must_use]
    pub fn with_kubectl(&self, kubectl: PathBuf) -> Self {
        Self { kubectl, ..self.clone() }
    }

    /// Returns the path of the kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns a command for `program` that reaches the cluster: with KUBECONFIG, inside the cluster's network.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match &self.network {
            Some(network) => network.command(program),
            None => Command::new(program),
        };
        command.env("KUBECONFIG", &self.kubeconfig);
        // A third of kubectl's CPU is garbage collection, which a short-lived process does not need.
        command.env("GOGC", "off").env("GOMEMLIMIT", "200MiB");
        if self.network.is_some() {
            // kubectl caches discovery by the server's address, which is the same for all clusters of this crate.
            command.env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"));
        }
        command
    }

    /// Returns a kubectl command without arguments.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        self.command(&self.kubectl)
    }

    /// Runs kubectl and returns its standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.kubectl().args(arguments))
    }

    /// Returns the output of `kubectl get ARGUMENTS -o json`.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = command::output(self.kubectl().arg("get").args(arguments).args(["-o", "json"]))?;
        serde_json::from_str(&text).doing(|| format!("kubectl get {}", arguments.join(" ")))
    }

    /// Returns the output of `kubectl get --raw PATH` as text.
    pub fn raw(&self, path: &str) -> Result<String> {
        self.run(&["get", "--raw", path])
    }

    /// Returns the output of `kubectl get --raw PATH` as JSON.
    pub fn raw_json(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.raw(path)?).doing(|| format!("GET {path}"))
    }

    /// Applies a manifest (YAML or JSON).
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.with_manifest(&["apply"], manifest)
    }

    /// Runs `kubectl ARGUMENTS -f -` with the manifest on standard input.
    pub fn with_manifest(&self, arguments: &[&str], manifest: &str) -> Result<String> {
        command::output_with_input(self.kubectl().args(arguments).args(["-f", "-"]), manifest)
    }

    /// Deletes objects and waits until they are gone; missing objects are no error.
    pub fn delete(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.kubectl().args(["delete", "--ignore-not-found"]).args(arguments))
    }

    /// Waits until `probe` returns a value; an error has the last state that it reported.
    pub fn wait_for<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut probe: impl FnMut(&Self) -> Result<T, Pending>,
    ) -> Result<T> {
        wait::until(timeout, what, || probe(self))
    }

    /// Waits until a condition of an object has a status (`True`, `False`) and returns the object.
    pub fn wait_for_condition(
        &self,
        object: &[&str],
        condition: &str,
        status: &str,
        timeout: Duration,
    ) -> Result<Value> {
        let what = format!("{} is {condition}={status}", object.join(" "));
        self.wait_for(&what, timeout, |client| {
            let value = client.get(object)?;
            let conditions = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
            match conditions.iter().find(|known| known["type"] == condition) {
                Some(known) if known["status"] == status => Ok(value),
                Some(known) => Err(known.to_string().into()),
                None => Err(format!("no such condition; status: {}", value["status"]).into()),
            }
        })
    }
}
