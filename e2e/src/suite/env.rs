//! What a scenario gets: a cluster, a client and a namespace of its own.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;

use super::{Body, dump};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::Cluster;
use crate::testbed::kubectl::Client;

/// The environment of a scenario: a cluster, a client and a namespace.
pub struct TestEnv {
    /// A client with the permissions of an administrator.
    pub client: Client,
    /// The cluster, if this crate started it.
    pub cluster: Option<Arc<Cluster>>,
    /// The namespace of this scenario; [`TestEnv::namespace`] creates it.
    pub(super) namespace: String,
    /// Whether `--long` was given.
    pub long: bool,
    /// Prints progress.
    pub progress: Progress,
}

impl TestEnv {
    pub(super) fn new(
        client: Client,
        cluster: Option<Arc<Cluster>>,
        name: &str,
        long: bool,
        progress: Progress,
    ) -> Self {
        let namespace = format!("e2e-{}", name.replace('_', "-"));
        Self { client, cluster, namespace, long, progress }
    }

    /// Returns the cluster, for scenarios that need one that this crate started.
    pub fn own_cluster(&self) -> Result<&Cluster> {
        self.cluster
            .as_deref()
            .ok_or_else(|| Error::Invalid("this scenario needs a cluster that this crate started".into()))
    }

    /// Creates the scenario's namespace if it does not exist, and returns its name.
    pub fn namespace(&self) -> Result<&str> {
        let manifest = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{{\"name\":\"{}\"}}}}",
            self.namespace
        );
        self.client.apply(&manifest)?;
        // Pods are rejected until the namespace has its service account.
        self.client.wait_for(
            "the namespace's default service account",
            Duration::from_secs(30),
            |client| {
                client.run(&["-n", &self.namespace, "get", "serviceaccount", "default"])?;
                Ok(())
            },
        )?;
        Ok(&self.namespace)
    }

    /// Runs a scenario; a failure has a dump.
    pub(super) fn run(&self, body: Body) -> Result<(), Failed> {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(self)));
        let message = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panicked".into())),
        };
        // The cause comes last: readers of a long report see its end.
        let dumped = message.map(|message| {
            self.progress.say(format!("{} failed: {message}", self.namespace));
            format!("{}{}{message}", self.dump(), dump::CAUSE)
        });
        let _ = self.client.delete(&["namespace", &self.namespace, "--wait=false"]);
        dumped.map_or(Ok(()), |message| Err(message.into()))
    }
}
