//! Taking a cluster away: processes, mounts, network, cgroups, files — also what a crash left.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::component;
use crate::cluster::layout::Layout;
use crate::cluster::{COMPONENTS, Node};
use crate::error::{Doing as _, Error, Result};
use crate::mounts;
use crate::process;

/// Ends every process of the cluster and removes what only its processes needed; keeps the data.
pub fn stop(layout: &Layout) -> Result<()> {
    let shim_sockets = shim_sockets(layout);
    // The components first, or containerd and the kubelet would start anew what is being ended.
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
    shim_sockets.iter().for_each(|socket| drop(fs::remove_file(socket)));
    remove_traces(layout, &node);
    remove(&layout.run)
}

/// Removes the data too.
pub fn erase(layout: &Layout) -> Result<()> {
    remove(&layout.data)?;
    // Only the last cluster's removal empties the parents.
    for parent in [&layout.data, &layout.run].into_iter().filter_map(|path| path.parent()) {
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// containerd's shims listen outside its own directories; each leaves the address in its bundle.
fn shim_sockets(layout: &Layout) -> Vec<PathBuf> {
    let node_run = layout.run.join("node-1");
    let bundles = node_run.join("containerd/io.containerd.runtime.v2.task/k8s.io");
    let entries = fs::read_dir(bundles).into_iter().flatten().flatten();
    entries
        .filter_map(|bundle| fs::read_to_string(bundle.path().join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect()
}

/// What the CNI library and the kubelet write outside the directories given to them.
fn remove_traces(layout: &Layout, node: &Node) {
    let ours = format!("{}-", layout.machine_wide_name());
    remove_matching(Path::new("/var/lib/cni/results"), |entry| {
        entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&ours))
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
