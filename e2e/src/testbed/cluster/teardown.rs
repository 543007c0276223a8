//! Takes a cluster down: processes, mounts, network, cgroups and files, including those that a crash left.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Doing as _, Error, Result};
use crate::testbed::cluster::component;
use crate::testbed::cluster::kernel;
use crate::testbed::cluster::layout::Layout;
use crate::testbed::cluster::{COMPONENTS, Node};
use crate::testbed::mounts;
use crate::testbed::process;

/// Kills every process of the cluster and removes what only its processes needed; keeps the data.
pub(super) fn stop(layout: &Layout) -> Result<()> {
    let bundles = bundles(layout);
    let shim_sockets = shim_sockets(&bundles);
    // The components first: containerd and the kubelet would restart what is being killed.
    for name in COMPONENTS.iter().rev() {
        if let Some(record) = component::record(layout, name) {
            record.kill();
        }
    }
    let node = Node::first(layout);
    let mark = layout.run.to_string_lossy().into_owned();
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let mut alive = process::marked(&mark);
        alive.extend(node.cgroup().processes());
        let recorded = COMPONENTS.iter().filter(|name| component::is_running(layout, name)).count();
        if alive.is_empty() && recorded == 0 {
            break;
        }
        if Instant::now() > deadline {
            return Err(Error::Timeout {
                what: format!("all processes of cluster {} end", layout.name),
                after: Duration::from_secs(15),
                last: format!("pids {alive:?} still run"),
            });
        }
        alive.into_iter().for_each(process::kill);
        thread::sleep(Duration::from_millis(20));
    }
    mounts::unmount_under(&layout.run);
    mounts::unmount_under(&layout.data);
    node.cgroup().remove()?;
    for socket in shim_sockets {
        let _ = fs::remove_file(socket);
    }
    remove_traces(layout, &node, &bundles);
    remove(&layout.run)
}

/// Removes the data too, and last the lock, which the caller holds.
pub(super) fn erase(layout: &Layout) -> Result<()> {
    remove(&layout.data)?;
    if Layout::known().is_empty() {
        kernel::restore(layout);
    }
    let _ = fs::remove_file(layout.lock());
    // The parents are empty only after the last cluster.
    for parent in [&layout.data, &layout.run].into_iter().filter_map(|path| path.parent()) {
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// Returns the directory of each container that containerd runs, named by the container's id.
fn bundles(layout: &Layout) -> Vec<PathBuf> {
    let tasks = Node::first(layout).containerd_state().join("io.containerd.runtime.v2.task/k8s.io");
    fs::read_dir(tasks).into_iter().flatten().flatten().map(|bundle| bundle.path()).collect()
}

/// The shims of containerd listen outside its own directories; each writes the address to its bundle.
fn shim_sockets(bundles: &[PathBuf]) -> Vec<PathBuf> {
    let addresses = bundles.iter().filter_map(|bundle| fs::read_to_string(bundle.join("address")).ok());
    addresses.filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from)).collect()
}

/// Removes what the CNI library and the kubelet write outside the directories given to them.
fn remove_traces(layout: &Layout, node: &Node, bundles: &[PathBuf]) {
    let ours = format!("{}-", layout.machine_wide_name());
    let ids: Vec<_> = bundles.iter().filter_map(|bundle| bundle.file_name()?.to_str()).collect();
    remove_matching(Path::new("/var/lib/cni/results"), |entry| {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&ours) || ids.iter().any(|id| name.starts_with(&format!("cni-loopback-{id}-")))
    });
    remove_matching(Path::new("/var/log/containers"), |entry| {
        fs::read_link(entry).is_ok_and(|target| target.starts_with(node.pod_logs()))
    });
}

fn remove_matching(directory: &Path, ours: impl Fn(&Path) -> bool) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if ours(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
