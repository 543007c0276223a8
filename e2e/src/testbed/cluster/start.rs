//! The order in which a cluster starts, and what each step waits for.

use std::thread;
use std::time::Duration;

use crate::command;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::component::{self, Component, Ensured};
use crate::testbed::cluster::{Cluster, control_plane, server};
use crate::testbed::http::{Request, Response};
use crate::testbed::images;
use crate::testbed::kubectl::Client;
use crate::wait;

/// The timeout of a component's start, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The timeout of one health check.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Cluster {
    /// Starts what is not running, in order; the container runtime starts in parallel with the control plane.
    pub(super) fn start(&self, progress: &Progress) -> Result<()> {
        let authorities = control_plane::prepare(&self.layout)?;
        let address = format!("{}/24", self.node.address);
        self.network.create(&address)?;
        self.node.prepare(&authorities.cluster)?;
        thread::scope(|scope| {
            let runtime = scope.spawn(|| self.start_runtime(progress));
            self.start_control_plane(progress)?;
            runtime.join().unwrap_or_else(|_| Err(Error::Invalid("a thread panicked".into())))
        })?;
        self.steady(progress)?;
        self.settle(progress)
    }

    fn start_runtime(&self, progress: &Progress) -> Result<()> {
        let started = self.ensure(&self.node.containerd()?, progress)?;
        if started == Ensured::Running {
            return Ok(());
        }
        progress.step("containerd is ready", |_| {
            self.await_component("containerd", || command::output(self.node.ctr().arg("version")).map(drop))
        })?;
        let pause = images::pause()?;
        progress.step("pause image loaded", |_| self.node.load(&pause))
    }

    fn start_control_plane(&self, progress: &Progress) -> Result<()> {
        self.ensure(&control_plane::etcd(&self.layout, &self.binaries), progress)?;
        self.await_component("etcd", || self.health("http://127.0.0.1:2379/health"))?;
        self.start_apiserver(progress)?;
        Ok(())
    }

    /// Starts the remaining components and waits until all are healthy.
    ///
    /// Some of them end if they start at the moment at which the API server comes back. They are started again, as
    /// the kubelet does with static pods.
    pub(super) fn steady(&self, progress: &Progress) -> Result<()> {
        let components = [
            (
                control_plane::controller_manager(&self.layout, &self.binaries),
                "https://127.0.0.1:10257/healthz",
            ),
            (control_plane::scheduler(&self.layout, &self.binaries), "https://127.0.0.1:10259/healthz"),
            (self.node.kubelet(&self.binaries), "http://127.0.0.1:10248/healthz"),
            (self.node.kube_proxy(&self.binaries), "http://127.0.0.1:10256/healthz"),
        ];
        progress.step("controllers, scheduler, kubelet and kube-proxy are healthy", |step| {
            let mut starts = 0;
            wait::every(Duration::from_millis(200), TIMEOUT, "all components are healthy", || {
                for (component, _) in &components {
                    if self.ensure(component, progress)? == Ensured::Started {
                        starts += 1;
                    }
                    if starts > 5 * components.len() {
                        return Ok(Err(component::ended(&self.layout, component.name)));
                    }
                }
                for (component, health) in &components {
                    step.note(component.name);
                    self.health(health).map_err(|error| format!("{}: {error}", component.name))?;
                }
                Ok(Ok(()))
            })?
        })
    }

    fn health(&self, url: &str) -> Result<()> {
        let request = Request::get(url).timeout(PROBE_TIMEOUT);
        self.send(&request).and_then(Response::ok).map(drop)
    }

    pub(super) fn start_apiserver(&self, progress: &Progress) -> Result<()> {
        let changes = control_plane::saved_changes(&self.layout).unwrap_or_default();
        let apiserver = control_plane::apiserver(&self.layout, &self.binaries, &changes);
        self.ensure(&apiserver, progress)?;
        progress.step("kube-apiserver is ready", |step| {
            self.await_component("kube-apiserver", || {
                self.api_ready().inspect_err(|error| step.note(error.to_string()))
            })
        })
    }

    fn ensure(&self, component: &Component, progress: &Progress) -> Result<Ensured> {
        let ensured = component.ensure(&self.layout, &self.network)?;
        if ensured == Ensured::Started {
            progress.detail(format!("{} started", component.name));
        }
        Ok(ensured)
    }

    /// Waits until a component is healthy; returns an error at once if it ended.
    fn await_component(&self, name: &str, probe: impl Fn() -> Result<()>) -> Result<()> {
        let mut gone = false;
        let waited = wait::every(Duration::from_millis(100), TIMEOUT, &format!("{name} is ready"), || {
            let ready = probe();
            gone = ready.is_err() && !component::is_running(&self.layout, name);
            match ready {
                Err(error) if !gone => Err(error.into()),
                _ => Ok(()),
            }
        });
        if gone { Err(component::ended(&self.layout, name)) } else { waited }
    }

    pub(super) fn api_ready(&self) -> Result<()> {
        let authority = self.cluster_authority()?.certificate().to_owned();
        let request = Request { authority: Some(authority), ..Request::get(format!("{}/readyz", server())) };
        self.send(&request.timeout(PROBE_TIMEOUT)).and_then(Response::ok).map(drop)
    }

    /// Waits until the node is Ready and pods can be created.
    fn settle(&self, progress: &Progress) -> Result<()> {
        let client = self.client();
        progress.step("node is Ready", |step| {
            wait::every(Duration::from_millis(250), TIMEOUT, "the node is Ready", || {
                if !component::is_running(&self.layout, "kubelet") {
                    // The reason is in the kubelet's log; a timeout would hide it.
                    return Ok(Err(component::ended(&self.layout, "kubelet")));
                }
                let ready = node_ready(&client, &self.node.name).inspect_err(|seen| step.note(seen.clone()));
                ready.map(Ok).map_err(Into::into)
            })?
        })?;
        progress.step("service account and cluster CA are published", |_| {
            wait::every(
                Duration::from_millis(250),
                TIMEOUT,
                "kube-root-ca.crt and the default account",
                || {
                    client.run(&[
                        "-n",
                        "default",
                        "get",
                        "serviceaccount/default",
                        "configmap/kube-root-ca.crt",
                    ])?;
                    Ok(())
                },
            )
        })
    }
}

/// Returns an error with the reason if the node is not Ready.
pub(super) fn node_ready(client: &Client, name: &str) -> Result<(), String> {
    let node = client.get(&["node", name]).map_err(|error| error.to_string())?;
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] == "True" => Ok(()),
        Some(ready) => Err(ready["message"].as_str().unwrap_or("not Ready").to_owned()),
        None => Err("no condition Ready yet".into()),
    }
}
