//! A network namespace of its own for each cluster, so that the host's network is never touched.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command;
use crate::error::{Doing as _, Error, Result};

/// The kernel's nsfs (statfs(2)): a file that keeps a namespace.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A network namespace kept by a file.
///
/// It is entered with nsenter, never with `ip netns exec`: that one remounts /sys, which hides the cgroups
/// from the kubelet.
#[derive(Clone, Debug)]
pub struct Namespace {
    file: PathBuf,
}

impl Namespace {
    /// Names it; nothing is made yet.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        rustix::fs::statfs(&self.file).is_ok_and(|status| u64::try_from(status.f_type) == Ok(NSFS_MAGIC))
    }

    /// Makes it, with a bridge as the node's interface: `address` is the node's own, as `a.b.c.d/n`.
    pub fn create(&self, address: &str) -> Result<()> {
        if !self.exists() {
            fs::write(&self.file, "").doing(|| format!("create {}", self.file.display()))?;
            command::output(
                Command::new("unshare").arg(format!("--net={}", self.file.display())).args(["--", "true"]),
            )?;
        }
        // A bridge without ports serves as the node's interface: a dummy device is not in every kernel.
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

    /// A command that runs inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.flag()).arg("--").arg(program);
        // A proxy of the host is of no use inside.
        for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs something on a thread of its own inside: sockets made there are the cluster's, wherever they are used.
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
                .unwrap_or_else(|_| Err(Error::Invalid("what ran inside the network panicked".into())))
        })
    }

    /// nsenter's argument that enters it.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--net={}", self.file.display())
    }

    /// The file that keeps it.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}
