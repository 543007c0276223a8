//! metrics-core and metrics-server as processes in the cluster's network, with the same flags.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::command;
use crate::error::{Doing as _, Result};
use crate::progress::Progress;
use crate::testbed::cluster::Cluster;
use crate::testbed::images;
use crate::testbed::pki::{Identity, Subject, write_private};

/// A running server; dropping it kills the process.
pub struct Server {
    child: Child,
    /// The address on which it listens.
    pub address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server on `address`, with files in `directory`. `scrape_interval` is a duration such as `15s`;
    /// metrics-server accepts none below `10s`.
    pub fn start(
        cluster: &Cluster,
        directory: &Path,
        program: &Path,
        address: SocketAddr,
        resolution: &str,
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let directory = directory.join(&name);
        fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
        let authority = cluster.cluster_authority()?;
        let serving = authority.issue(&Subject::server(&name, &["localhost"], &[address.ip()]))?;
        serving.save(&directory, "serving")?;
        // The client certificate for kubelets and for the API server.
        let client: Identity = authority.issue(&Subject::user(&name, Some("system:masters")))?;
        client.save(&directory, "client")?;
        write_private(&directory.join("ca.crt"), authority.certificate())?;
        let kubeconfig = cluster.layout().admin_kubeconfig();
        let file = |name: &str| directory.join(name).display().to_string();
        let log = directory.join("log");
        let output = File::create(&log).doing(|| format!("create {}", log.display()))?;
        let errors = output.try_clone().doing(|| format!("open {}", log.display()))?;
        let mut command = cluster.network().command(program);
        for (flag, value) in [
            ("kubeconfig", kubeconfig.display().to_string()),
            ("authentication-kubeconfig", kubeconfig.display().to_string()),
            ("authorization-kubeconfig", kubeconfig.display().to_string()),
            ("bind-address", address.ip().to_string()),
            ("secure-port", address.port().to_string()),
            ("tls-cert-file", file("serving.crt")),
            ("tls-private-key-file", file("serving.key")),
            ("metric-resolution", resolution.to_owned()),
            ("kubelet-request-timeout", "3s".into()),
            ("kubelet-preferred-address-types", "InternalIP".into()),
            ("kubelet-use-node-status-port", "true".into()),
            ("kubelet-certificate-authority", file("ca.crt")),
            ("kubelet-client-certificate", file("client.crt")),
            ("kubelet-client-key", file("client.key")),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().doing(|| format!("start `{}`", command::line(&command)))?;
        Ok(Self { child, address })
    }
}

/// Returns the metrics-core that is in the image of the scenarios.
pub fn metrics_core(progress: &Progress) -> Result<PathBuf> {
    Ok(images::for_scenarios(progress)?.programs.join("metrics-core"))
}
