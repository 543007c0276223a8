//! The node: containerd with runc, kubelet, kube-proxy.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::command;
use crate::error::{Doing as _, Error, Result};
use crate::testbed::cgroups::Cgroup;
use crate::testbed::cluster::component::Component;
use crate::testbed::cluster::control_plane::{self, flags, keep_kubeconfig};
use crate::testbed::cluster::kubelet::KUBELET_HTTP_PORT;
use crate::testbed::cluster::layout::Layout;
use crate::testbed::images::{Built, PAUSE};
use crate::testbed::pki::{Authority, Subject};
use crate::testbed::process::write_whole;
use crate::testbed::requirements;

/// The addresses of all pods.
const PODS: &str = "10.244.0.0/16";
/// The file system type of overlayfs (statfs(2)).
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// A node and its directories.
#[derive(Clone, Debug)]
pub struct Node {
    /// The Node object's name.
    pub name: String,
    /// Its `InternalIP`.
    pub address: Ipv4Addr,
    /// The addresses of its pods.
    pub pods: String,
    layout: Layout,
    cgroup: Cgroup,
}

impl Node {
    /// Returns the first node, which shares its address with the control plane.
    #[must_use]
    pub fn first(layout: &Layout) -> Self {
        Self {
            name: "node-1".into(),
            address: control_plane::ADDRESS,
            pods: "10.244.0.0/24".into(),
            cgroup: Cgroup::new(&layout.machine_wide_name()),
            layout: layout.clone(),
        }
    }

    /// Returns the cgroup of its pods.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Returns the directory of the node's data.
    fn data(&self) -> PathBuf {
        self.layout.data.join(&self.name)
    }

    /// Returns the directory of containerd's state and sockets.
    fn run(&self) -> PathBuf {
        self.layout.run.join(&self.name)
    }

    /// Returns the directory of the pods' logs.
    #[must_use]
    pub fn pod_logs(&self) -> PathBuf {
        self.data().join("pod-logs")
    }

    /// Returns containerd's socket.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.run().join("containerd.sock")
    }

    /// Returns the directory in which containerd records running containers.
    #[must_use]
    pub fn containerd_state(&self) -> PathBuf {
        self.run().join("containerd")
    }

    fn config(&self, file: &str) -> PathBuf {
        self.data().join("config").join(file)
    }

    /// Writes certificates and configuration files, and creates the cgroup.
    pub fn prepare(&self, authority: &Authority) -> Result<()> {
        for directory in [self.run(), self.data().join("config/cni"), self.pod_logs()] {
            fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
        }
        let serving = Subject::server(&self.name, &[&self.name], &[IpAddr::from(self.address)]);
        authority.keep_issued(&self.layout.pki(), &self.name, &serving)?;
        let user = Subject::user(&format!("system:node:{}", self.name), Some("system:nodes"));
        keep_kubeconfig(&self.layout, authority, &self.name, &user)?;
        let proxy = Subject::user("system:kube-proxy", None);
        keep_kubeconfig(&self.layout, authority, "kube-proxy", &proxy)?;
        write_whole(&self.config("cni/10-e2e.conflist"), self.cni_config().as_bytes())?;
        write_whole(&self.config("containerd.toml"), self.containerd_config()?.as_bytes())?;
        write_whole(&self.config("kubelet.json"), self.kubelet_config().as_bytes())?;
        // The cluster has no DNS; an empty file keeps the host's resolv.conf out.
        write_whole(&self.config("resolv.conf"), b"")?;
        self.cgroup.create()
    }

    /// Returns the component containerd.
    pub fn containerd(&self) -> Result<Component> {
        let missing = || Error::Missing("containerd is missing (on Debian: package containerd)".into());
        Ok(Component {
            name: "containerd",
            program: requirements::find("containerd").ok_or_else(missing)?,
            arguments: vec![format!("--config={}", self.config("containerd.toml").display())],
            inputs: vec![self.config("containerd.toml")],
        })
    }

    /// Returns the component kubelet.
    #[must_use]
    pub fn kubelet(&self, binaries: &Path) -> Component {
        let config = self.config("kubelet.json");
        let kubeconfig = self.layout.config().join(format!("{}.kubeconfig", self.name));
        let kubelet = self.data().join("kubelet");
        Component {
            name: "kubelet",
            program: binaries.join("kubelet"),
            arguments: flags(&[
                ("config", &config.to_string_lossy()),
                ("kubeconfig", &kubeconfig.to_string_lossy()),
                ("hostname-override", &self.name),
                ("node-ip", &self.address.to_string()),
                ("root-dir", &kubelet.to_string_lossy()),
                ("cert-dir", &kubelet.join("pki").to_string_lossy()),
            ]),
            inputs: vec![config, kubeconfig, self.layout.pki().join(format!("{}.crt", self.name))],
        }
    }

    /// Returns the component kube-proxy, in nftables mode.
    #[must_use]
    pub fn kube_proxy(&self, binaries: &Path) -> Component {
        let kubeconfig = self.layout.config().join("kube-proxy.kubeconfig");
        Component {
            name: "kube-proxy",
            program: binaries.join("kube-proxy"),
            arguments: flags(&[
                ("kubeconfig", &kubeconfig.to_string_lossy()),
                ("proxy-mode", "nftables"),
                ("cluster-cidr", PODS),
                ("hostname-override", &self.name),
                // These would change the whole machine.
                ("conntrack-max-per-core", "0"),
                ("conntrack-min", "0"),
                ("oom-score-adj", "0"),
            ]),
            inputs: vec![kubeconfig],
        }
    }

    /// Returns a ctr command in the namespace of Kubernetes.
    #[must_use]
    pub fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.containerd_socket()).args(["--namespace", "k8s.io"]);
        command
    }

    /// Loads an OCI archive.
    pub fn load_archive(&self, archive: &Path) -> Result<()> {
        let mut ctr = self.ctr();
        ctr.args(["images", "import", "--snapshotter", self.snapshotter()]).arg(archive);
        command::output(&mut ctr).map(drop)
    }

    /// Loads an image under both its names.
    pub fn load(&self, image: &Built) -> Result<()> {
        self.load_archive(&image.archive)?;
        if image.reference == image.versioned {
            return Ok(());
        }
        let tag = ["images", "tag", "--force", &image.versioned, &image.reference];
        command::output(self.ctr().args(tag)).map(drop)
    }

    fn snapshotter(&self) -> &'static str {
        // An overlay cannot be the upper layer of another one, and a container may have no other file system.
        let overlay = rustix::fs::statfs(&self.layout.data)
            .is_ok_and(|status| u64::try_from(status.f_type) == Ok(OVERLAYFS_MAGIC));
        if overlay { "native" } else { "overlayfs" }
    }

    /// Point-to-point links, so that all traffic passes the node's routing and kube-proxy's rules: on a bridge,
    /// responses between two pods would bypass them.
    fn cni_config(&self) -> String {
        json!({
            "cniVersion": "0.4.0",
            "name": self.layout.machine_wide_name(),
            "plugins": [{
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.run().join("cni"),
                    "ranges": [[{"subnet": self.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        })
        .to_string()
    }

    fn containerd_config(&self) -> Result<String> {
        let plugins = requirements::cni_directory().ok_or_else(|| {
            Error::Missing("CNI plugins are missing (on Debian: package containernetworking-plugins)".into())
        })?;
        Ok(format!(
            r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Without CAP_SYS_RESOURCE (in many virtual machines and containers) runc could not lower oom_score_adj.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{runc}"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"
"#,
            root = self.data().join("containerd").display(),
            state = self.containerd_state().display(),
            socket = self.containerd_socket().display(),
            runc = self.run().join("runc").display(),
            snapshotter = self.snapshotter(),
            plugins = plugins.display(),
            cni = self.config("cni").display(),
        ))
    }

    fn kubelet_changes(&self) -> PathBuf {
        self.layout.config().join(format!("{}-kubelet-changes.json", self.name))
    }

    /// Stores changes to the kubelet's configuration with the cluster: top-level fields, null removes one.
    pub fn save_kubelet_changes(&self, changes: &Value) -> Result<()> {
        write_whole(&self.kubelet_changes(), changes.to_string().as_bytes())
    }

    fn kubelet_config(&self) -> String {
        let changes = fs::read(self.kubelet_changes()).ok();
        let changes = changes.and_then(|changes| serde_json::from_slice::<Value>(&changes).ok());
        let mut config = self.usual_kubelet_config();
        for (field, value) in changes.iter().filter_map(Value::as_object).flatten() {
            config[field] = value.clone();
        }
        config.to_string()
    }

    fn usual_kubelet_config(&self) -> Value {
        let pki = |file: &str| self.layout.pki().join(file);
        let certificate = |kind: &str| pki(&format!("{}.{kind}", self.name));
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true, "cacheTTL": "10s"},
                "x509": {"clientCAFile": pki("ca.crt")},
            },
            "authorization": {
                "mode": "Webhook",
                "webhook": {"cacheAuthorizedTTL": "10s", "cacheUnauthorizedTTL": "5s"},
            },
            // HTTP without TLS, for the scenario of a port that does not speak HTTPS.
            "readOnlyPort": KUBELET_HTTP_PORT,
            "tlsCertFile": certificate("crt"),
            "tlsPrivateKeyFile": certificate("key"),
            "containerRuntimeEndpoint": format!("unix://{}", self.containerd_socket().display()),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup.root(),
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            "podLogsDir": self.pod_logs(),
            "volumePluginDir": self.data().join("volume-plugins"),
            "resolvConf": self.config("resolv.conf"),
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": false,
            // Images are only imported: an image that was garbage-collected could not be pulled.
            "imageGCHighThresholdPercent": 100,
            // The free disk space of this machine is irrelevant here.
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
            },
            "configMapAndSecretChangeDetectionStrategy": "Watch",
            "serializeImagePulls": false,
            "nodeStatusUpdateFrequency": "5s",
        })
    }
}
