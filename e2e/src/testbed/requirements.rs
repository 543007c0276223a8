//! The requirements of the test bed on this machine; apt-get installs what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// A program and the Debian package that brings it.
struct SystemProgram {
    name: &'static str,
    package: &'static str,
}

const PROGRAMS: [SystemProgram; 11] = [
    SystemProgram { name: "containerd", package: "containerd" },
    SystemProgram { name: "containerd-shim-runc-v2", package: "containerd" },
    SystemProgram { name: "ctr", package: "containerd" },
    SystemProgram { name: "runc", package: "runc" },
    SystemProgram { name: "nft", package: "nftables" },
    SystemProgram { name: "curl", package: "curl" },
    SystemProgram { name: "ip", package: "iproute2" },
    SystemProgram { name: "nsenter", package: "util-linux" },
    SystemProgram { name: "unshare", package: "util-linux" },
    SystemProgram { name: "setsid", package: "util-linux" },
    SystemProgram { name: "mount", package: "mount" },
];

/// The directories in which distributions install the CNI plugins.
const CNI_DIRECTORIES: [&str; 4] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni", "/usr/lib64/cni"];
const CNI_PLUGINS: [&str; 3] = ["ptp", "host-local", "loopback"];

/// Directories that a non-login shell often omits from PATH.
pub const EXTRA_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Checks that a cluster can run here; installs missing packages with apt-get.
///
/// # Errors
/// [`Error::Missing`] names everything that is missing and the remedy.
pub fn check(progress: &Progress) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Missing(
            "a cluster needs root (network namespaces, mounts, cgroups): run the same command with `sudo -E env \
             PATH=$PATH …`, or point E2E_KUBECONFIG to a cluster that you have"
                .into(),
        ));
    }
    let mut packages = missing();
    if !packages.is_empty() && find("apt-get").is_some() {
        let names = packages.iter().map(|(package, _)| *package).collect::<Vec<_>>();
        progress.step(&format!("apt-get install {}", names.join(" ")), |_| install(&names))?;
        packages = missing();
    }
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages
        .iter()
        .map(|(package, what)| format!("  {what} (on Debian: package {package})"))
        .collect::<Vec<_>>()
        .join("\n");
    Err(Error::Missing(format!("this machine lacks the following; install it and run again:\n{list}")))
}

fn missing() -> Vec<(&'static str, String)> {
    let mut missing: Vec<(&'static str, String)> = Vec::new();
    let mut add =
        |package: &'static str, what: String| match missing.iter_mut().find(|(known, _)| *known == package) {
            Some((_, whats)) => *whats = format!("{whats}, {what}"),
            None => missing.push((package, what)),
        };
    for program in PROGRAMS.iter().filter(|program| find(program.name).is_none()) {
        add(program.package, program.name.to_owned());
    }
    if cni_directory().is_none() {
        add("containernetworking-plugins", format!("the CNI plugins {}", CNI_PLUGINS.join(", ")));
    }
    if static_busybox().is_none() {
        add("busybox-static", "a statically linked busybox".to_owned());
    }
    missing
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command::output(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments)).map(drop)
    };
    let install: Vec<&str> =
        ["install", "--yes", "--no-install-recommends"].into_iter().chain(packages.iter().copied()).collect();
    // The update is not needed if the package lists are up to date.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

/// Returns the path of a program in PATH or in the system directories.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut candidates =
        path.split(':').chain(EXTRA_PATH.split(':')).filter(|directory| !directory.is_empty());
    candidates.find_map(|directory| Some(Path::new(directory).join(program)).filter(|path| path.is_file()))
}

/// Returns the directory that contains the CNI plugins in use.
#[must_use]
pub fn cni_directory() -> Option<PathBuf> {
    let complete =
        |directory: &&str| CNI_PLUGINS.iter().all(|plugin| Path::new(directory).join(plugin).is_file());
    CNI_DIRECTORIES.iter().find(|directory| complete(directory)).map(PathBuf::from)
}

/// Returns a busybox without shared libraries, which an image from scratch can run.
#[must_use]
pub fn static_busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static", "/sbin/busybox.static", "/usr/sbin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|path| std::fs::read(path).is_ok_and(|bytes| crate::testbed::images::is_static(&bytes)))
}
