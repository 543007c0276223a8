//! A cluster: its start, its status, changes to its API server, and its removal.

pub(crate) mod component;
pub(crate) mod control_plane;
mod flags;
mod kernel;
mod kubelet;
mod layout;
mod node;
mod start;
mod teardown;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

pub use component::{Ensured, tail};
pub use control_plane::{FRONT_PROXY_NAME, server};
pub use flags::FlagChange;
pub use kubelet::{KUBELET_FORGETS, KUBELET_HTTP_PORT, KUBELET_PORT, KubeletCertificate};
pub use layout::Layout;
pub use node::Node;

use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::images::Built;
use crate::testbed::kubeconfig;
use crate::testbed::kubectl::Client;
use crate::testbed::network::Namespace;
use crate::testbed::pki::{Authority, Identity, Subject, write_private};
use crate::testbed::process::{Record, write_whole};
use crate::testbed::requirements;
use control_plane::Authorities;

/// The components in the order in which they start.
pub const COMPONENTS: [&str; 7] = [
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// The specification of a cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClusterSpec {
    /// The cluster's name.
    pub name: String,
    /// Changes to kube-apiserver's command line; `None` keeps those of an existing cluster.
    pub apiserver_flags: Option<Vec<FlagChange>>,
    /// The process after whose end [`Cluster::reap`] takes the cluster down.
    pub owner: Option<Record>,
}

impl ClusterSpec {
    /// Returns a cluster with default flags and without an owner.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), apiserver_flags: None, owner: None }
    }

    /// Sets changes to the flags of kube-apiserver.
    #[must_use]
    pub fn apiserver_flags(mut self, changes: Vec<FlagChange>) -> Self {
        self.apiserver_flags = Some(changes);
        self
    }

    /// Lets [`Cluster::reap`] take the cluster down after the end of this process.
    #[must_use]
    pub fn owned_by_this_process(mut self) -> Self {
        self.owner = i32::try_from(std::process::id()).ok().and_then(|pid| Record::of(pid, ""));
        self
    }
}

/// A cluster that is up, or was.
#[derive(Clone, Debug)]
pub struct Cluster {
    layout: Layout,
    network: Namespace,
    node: Node,
    binaries: PathBuf,
}

/// The status of a cluster.
#[derive(Clone, Debug)]
pub struct Status {
    /// Each component with its pid if it is running.
    pub components: Vec<(&'static str, Option<i32>)>,
    /// Whether the API server reports that it is ready, or why not.
    pub api: Result<(), String>,
    /// The Node's Ready condition: its status and message.
    pub node: Result<(), String>,
}

impl Status {
    /// Returns whether every component, the API and the Node are ready.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.components.iter().all(|(_, pid)| pid.is_some()) && self.api.is_ok() && self.node.is_ok()
    }
}

impl Cluster {
    /// Brings the cluster up or repairs it; does nothing if it is healthy.
    ///
    /// Components that run with the current inputs are left running. Those that ended or whose inputs changed are
    /// started. After a restart of the machine, or if the network namespace is gone, the leftovers are removed first.
    ///
    /// # Errors
    /// [`Error::Missing`] if this machine lacks a requirement; otherwise a component that ended or is not healthy in
    /// time, with its log.
    pub fn up(spec: &ClusterSpec, progress: &Progress) -> Result<Self> {
        let layout = Layout::new(&spec.name)?;
        requirements::check(progress)?;
        let binaries = binaries::kubernetes(progress)?;
        let _lock = lock(&layout, progress)?;
        let network = Namespace::new(layout.network());
        if !network.exists() {
            teardown::stop(&layout)?;
        }
        layout.create()?;
        kernel::remember(&layout)?;
        write_whole(&spec_path(&layout), &serde_json::to_vec(spec).doing(|| "encode the spec".into())?)?;
        if let Some(changes) = &spec.apiserver_flags {
            control_plane::save_changes(&layout, changes)?;
        }
        let cluster = Self { node: Node::first(&layout), layout, network, binaries };
        cluster.start(progress)?;
        Ok(cluster)
    }

    /// Returns a cluster that this process or another one brought up.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no cluster of that name.
    pub fn open(name: &str, progress: &Progress) -> Result<Self> {
        let layout = Layout::new(name)?;
        let network = Namespace::new(layout.network());
        if !network.exists() {
            let known = Layout::known();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Error::Invalid(format!(
                "no cluster {name:?} is up (there are: {known}); start it with `cargo cluster up --name {name}`"
            )));
        }
        let binaries = binaries::kubernetes(progress)?;
        Ok(Self { node: Node::first(&layout), layout, network, binaries })
    }

    /// Takes a cluster down, whatever state it is in, and removes all of it.
    pub fn down(name: &str, progress: &Progress) -> Result<()> {
        let layout = Layout::new(name)?;
        let lock = lock(&layout, progress)?;
        progress.step(&format!("cluster {name} is gone"), |step| {
            step.note("killing its processes");
            teardown::stop(&layout)?;
            step.note("removing its files");
            teardown::erase(&layout)
        })?;
        drop(lock);
        Ok(())
    }

    /// Takes down the clusters whose owning process has ended: those of test runs that were killed.
    pub fn reap(progress: &Progress) -> Result<()> {
        for name in Layout::known() {
            let spec = fs::read(spec_path(&Layout::new(&name)?)).unwrap_or_default();
            let owner = serde_json::from_slice::<ClusterSpec>(&spec).ok().and_then(|spec| spec.owner);
            if owner.is_some_and(|owner| !owner.is_alive()) {
                Self::down(&name, progress)?;
            }
        }
        Ok(())
    }

    /// Restarts kube-apiserver with other changes to its command line; an empty list restores the defaults.
    ///
    /// It is killed with SIGKILL, because a graceful shutdown would wait for watches.
    pub fn restart_apiserver_with(&self, changes: &[FlagChange], progress: &Progress) -> Result<()> {
        control_plane::save_changes(&self.layout, changes)?;
        component::stop(&self.layout, "kube-apiserver");
        self.start_apiserver(progress)?;
        self.steady(progress)
    }

    /// Restarts the kubelet with changes to its configuration: top-level fields, null removes one. An empty object
    /// restores the defaults.
    pub fn restart_kubelet_with(&self, changes: &serde_json::Value, progress: &Progress) -> Result<()> {
        self.node.save_kubelet_changes(changes)?;
        self.node.prepare(&self.authorities()?.cluster)?;
        self.steady(progress)
    }

    /// Kills a component with SIGKILL, as a crash would; [`Cluster::up`] starts it again.
    pub fn kill(&self, name: &str) -> Result<()> {
        if !COMPONENTS.contains(&name) {
            return Err(Error::Invalid(format!(
                "no component {name:?}; there are {}",
                COMPONENTS.join(", ")
            )));
        }
        component::stop(&self.layout, name);
        Ok(())
    }

    /// Returns the status of the components, the API and the Node.
    #[must_use]
    pub fn status(&self) -> Status {
        let pid = |name: &str| {
            component::record(&self.layout, name).filter(Record::is_alive).map(|record| record.pid)
        };
        let api = self.api_ready().map_err(|error| error.to_string());
        let node = match &api {
            Ok(()) => start::node_ready(&self.client(), &self.node.name),
            Err(_) => Err("unknown while the API server does not respond".into()),
        };
        Status { components: COMPONENTS.map(|name| (name, pid(name))).to_vec(), api, node }
    }

    /// Returns a client with the permissions of an administrator.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_with(self.layout.admin_kubeconfig())
    }

    /// Returns a client with any kubeconfig.
    #[must_use]
    pub fn client_with(&self, kubeconfig: PathBuf) -> Client {
        Client::new(self.binaries.join("kubectl"), kubeconfig, Some(self.network.clone()))
    }

    /// Returns a client of another user, with a client certificate of the cluster's authority.
    pub fn client_as(&self, user: &str, group: Option<&str>) -> Result<Client> {
        let safe = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let file = format!("user-{}-{}.kubeconfig", safe(user), safe(group.unwrap_or_default()));
        let path = self.layout.config().join(file);
        write_private(&path, &self.kubeconfig_for(user, group)?)?;
        Ok(self.client_with(path))
    }

    /// Returns a kubeconfig of another user, with a client certificate of the cluster's authority.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<String> {
        let authority = self.authorities()?.cluster;
        let identity = authority.issue(&Subject::user(user, group))?;
        Ok(kubeconfig::render(&server(), authority.certificate(), &identity))
    }

    /// Returns the authority that signs servers and clients.
    pub fn cluster_authority(&self) -> Result<Authority> {
        Ok(self.authorities()?.cluster)
    }

    /// Returns the authority that signs the front proxy.
    pub fn front_proxy_authority(&self) -> Result<Authority> {
        Ok(self.authorities()?.front_proxy)
    }

    /// Returns the certificate that kube-apiserver presents as the front proxy.
    pub fn front_proxy_identity(&self) -> Result<Identity> {
        let pki = self.layout.pki();
        let found = Identity::load(&pki, "front-proxy-client");
        found.ok_or_else(|| Error::Invalid(format!("{} has no front-proxy-client", pki.display())))
    }

    fn authorities(&self) -> Result<Authorities> {
        control_plane::prepare(&self.layout)
    }

    /// Returns a command that runs inside the cluster's network with the administrator's KUBECONFIG.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.client().command(program.as_ref())
    }

    /// Loads an image into the node.
    pub fn load(&self, image: &Built) -> Result<()> {
        self.node.load(image)
    }

    /// Returns the directories of the cluster.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the network of the cluster.
    #[must_use]
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// Returns the node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}

fn spec_path(layout: &Layout) -> PathBuf {
    layout.data.join("spec.json")
}

/// Acquires the cluster's lock, which `up` and `down` hold; waits while another process holds it.
fn lock(layout: &Layout, progress: &Progress) -> Result<File> {
    let path = layout.lock();
    let directory = path.parent().unwrap_or(Path::new("/"));
    loop {
        fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
        let Ok(file) = File::create(&path) else {
            // The `down` of another process may have removed the directory just now.
            fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
            File::create(&path).doing(|| format!("create {}", path.display()))?;
            continue;
        };
        let what = format!("waiting for another `cluster` command on {}", layout.name);
        progress.clone().quiet().step(&what, |_| file.lock().doing(|| format!("lock {}", path.display())))?;
        // The process that held the lock may have removed the file; then another process may hold a new one.
        let held = file.metadata().doing(|| format!("read {}", path.display()))?.ino();
        if fs::metadata(&path).is_ok_and(|current| current.ino() == held) {
            return Ok(file);
        }
    }
}
