//! The directories and files of a cluster.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Error, Result};

/// The directories of one cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The cluster's name.
    pub name: String,
    /// Data that survives a restart of the machine: etcd, certificates, images, logs.
    pub data: PathBuf,
    /// Data that does not: sockets, process records, the network namespace.
    pub run: PathBuf,
}

const DATA: &str = "/var/lib/metrics-pipeline-e2e";
const RUN: &str = "/run/metrics-pipeline-e2e";
/// The length of the name that the limit of 108 bytes for socket paths leaves for the longest path.
const LONGEST_NAME: usize = 24;

impl Layout {
    /// Returns the layout of the cluster `name`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the name is too long or has other characters than `a-z`, `0-9` and `-`.
    pub fn new(name: &str) -> Result<Self> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(legal) || name.starts_with('-') {
            return Err(Error::Invalid(format!(
                "cluster name {name:?}: use 1 to {LONGEST_NAME} of a-z, 0-9 and -, not a - first"
            )));
        }
        Ok(Self { name: name.to_owned(), data: Path::new(DATA).join(name), run: Path::new(RUN).join(name) })
    }

    /// Returns the names of all clusters that left something on this machine.
    #[must_use]
    pub fn known() -> Vec<String> {
        let names = |directory: &str| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            directories.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
        };
        let mut all = names(DATA);
        all.extend(names(RUN));
        all.sort_unstable();
        all.dedup();
        all.retain(|name| Self::new(name).is_ok());
        all
    }

    /// Creates the directories.
    pub fn create(&self) -> Result<()> {
        for directory in
            [self.data.clone(), self.run.clone(), self.pki(), self.logs(), self.records(), self.config()]
        {
            fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
        }
        Ok(())
    }

    /// Returns the directory of certificates and keys.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }

    /// Returns the directory of configuration files and kubeconfigs.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.data.join("config")
    }

    /// Returns the directory of the components' logs and the audit log.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// Returns the directory of process records.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.run.join("processes")
    }

    /// Returns the log of a component.
    #[must_use]
    pub fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }

    /// Returns the API server's audit log, which has one JSON event on each line.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.log")
    }

    /// Returns the administrator's kubeconfig.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.config().join("admin.kubeconfig")
    }

    /// Returns the file that holds the network namespace.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.run.join("network")
    }

    /// Returns the cluster's name for objects that the whole machine shares: cgroups, CNI results.
    #[must_use]
    pub fn machine_wide_name(&self) -> String {
        format!("metrics-pipeline-{}", self.name)
    }

    /// Returns the file of the lock that `up` and `down` hold.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        Path::new(RUN).join(format!("{}.lock", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_names() {
        assert!(Layout::new("blue-2").is_ok());
        for name in ["", "..", "a/b", "A", "-a", "a123456789012345678901234"] {
            assert!(matches!(Layout::new(name), Err(Error::Invalid(_))), "{name}");
        }
    }
}
