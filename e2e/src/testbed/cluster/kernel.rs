//! The kernel settings of the machine that clusters change; they are restored when the last cluster is taken down.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Result};
use crate::testbed::cluster::layout::Layout;
use crate::testbed::process::write_whole;

/// The settings that the kubelet makes unless `protectKernelDefaults` is set (then it fails if they differ), and
/// those that clusters need.
const TUNABLES: [&str; 5] =
    ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", INOTIFY_INSTANCES.0];

/// Each cluster uses about a dozen of root's 128 inotify instances; a kubelet without one does not start.
const INOTIFY_INSTANCES: (&str, u32) = ("fs/inotify/max_user_instances", 1024);

/// Saves the current settings unless an earlier cluster did, and raises the limits for several clusters.
pub(super) fn remember(layout: &Layout) -> Result<()> {
    let path = memory(layout);
    if path.exists() {
        return Ok(());
    }
    let read = |name: &'static str| Some((name, fs::read_to_string(sysctl(name)).ok()?.trim().to_owned()));
    let values: BTreeMap<_, _> = TUNABLES.into_iter().filter_map(read).collect();
    write_whole(&path, &serde_json::to_vec(&values).doing(|| "encode kernel settings".to_owned())?)?;
    let (name, enough) = INOTIFY_INSTANCES;
    let set = values.get(name).and_then(|value| value.parse().ok());
    if set.is_some_and(|set: u32| set < enough) {
        fs::write(sysctl(name), enough.to_string()).doing(|| format!("raise {name}"))?;
    }
    Ok(())
}

/// Restores the saved settings.
pub(super) fn restore(layout: &Layout) {
    let bytes = fs::read(memory(layout)).unwrap_or_default();
    let values: BTreeMap<String, String> = serde_json::from_slice(&bytes).unwrap_or_default();
    for (name, value) in values.iter().filter(|(name, _)| TUNABLES.contains(&name.as_str())) {
        let _ = fs::write(sysctl(name), value);
    }
    let _ = fs::remove_file(memory(layout));
}

fn sysctl(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

fn memory(layout: &Layout) -> PathBuf {
    layout.run.with_file_name("kernel.json")
}
