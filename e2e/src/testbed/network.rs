//! The network namespace of a cluster, which leaves the host's network untouched.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command;
use crate::error::{Doing as _, Error, Result};

/// The file system type of a file that holds a namespace: nsfs (statfs(2)).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A network namespace that is held by a file.
///
/// It is entered with nsenter, never with `ip netns exec`, which remounts /sys and so hides the cgroups from the
/// kubelet.
#[derive(Clone, Debug)]
pub struct Namespace {
    file: PathBuf,
}

impl Namespace {
    /// Returns the namespace of a file, which need not exist yet.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Returns whether the namespace exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        rustix::fs::statfs(&self.file).is_ok_and(|status| u64::try_from(status.f_type) == Ok(NSFS_MAGIC))
    }

    /// Creates the namespace, with a bridge as the node's interface. `address` is the node's address, as `a.b.c.d/n`.
    pub fn create(&self, address: &str) -> Result<()> {
        if !self.exists() {
            fs::write(&self.file, "").doing(|| format!("create {}", self.file.display()))?;
            command::output(
                Command::new("unshare").arg(format!("--net={}", self.file.display())).args(["--", "true"]),
            )?;
        }
        // A bridge without ports is the node's interface, because not every kernel has the dummy device.
        let script = format!(
            "ip link set lo up
             ip link show node0 >/dev/null 2>&1 || ip link add node0 type bridge
             ip address replace {address} dev node0
             ip link set node0 up
             ip route replace default dev node0
             echo 1 > /proc/sys/net/ipv4/ip_forward"
        );
        command::output(self.command("sh").args(["-ec", &script])).map(drop)
    }

    /// Returns a command that runs inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.flag()).arg("--").arg(program);
        // The host's proxy is unreachable from inside.
        for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs a function on a thread of its own inside. Sockets that it opens stay in the cluster's network, wherever
    /// they are used.
    pub fn inside<T: Send>(&self, what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = fs::File::open(&self.file).doing(|| format!("open {}", self.file.display()))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(std::io::Error::from)
                    .doing(|| format!("enter {}", self.file.display()))?;
                what()
            });
            thread
                .join()
                .unwrap_or_else(|_| Err(Error::Invalid("the function inside the network panicked".into())))
        })
    }

    /// Returns the argument with which nsenter enters the namespace.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--net={}", self.file.display())
    }

    /// Returns the file that holds the namespace.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}
