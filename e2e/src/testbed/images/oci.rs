//! Writes an OCI image layout as one archive; the same files always result in the same bytes.
//!
//! Formats: OCI image-spec 1.1 (image-layout, manifest, config), and the `manifest.json` that older versions of
//! `docker load` read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::digest::sha256;
use crate::error::{Doing as _, Error, Result};

/// Number of archives that this process started to write.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);

/// An entry of an image's only layer; paths are relative to the root.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A directory.
    Directory(String),
    /// A program, mode 0755.
    Program(String, Vec<u8>),
    /// A symbolic link and its target.
    Link(String, String),
}

/// An image with one layer.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// Its full name, `registry/path:tag`.
    pub name: String,
    /// Its files.
    pub entries: Vec<Entry>,
    /// The command line that it runs.
    pub entrypoint: Vec<String>,
    /// `uid:gid` as numbers, because the image has no user names.
    pub user: String,
    /// Labels of the configuration and annotations of the manifest (`org.opencontainers.image.…`).
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// Writes the archive atomically.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let doing = || format!("write {}", path.display());
        let layer = self.layer().doing(doing)?;
        let layer_digest = sha256(&layer);
        let config = self.config(&layer_digest).to_string().into_bytes();
        let config_digest = sha256(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config_digest, config.len()),
            "layers": [descriptor(LAYER, &layer_digest, layer.len())],
            "annotations": self.labels,
        });
        let manifest = manifest.to_string().into_bytes();
        let manifest_digest = sha256(&manifest);
        let index = self.index(&manifest_digest, manifest.len());
        let docker = json!([{
            "Config": blob(&config_digest),
            "RepoTags": [self.name],
            "Layers": [blob(&layer_digest)],
        }]);

        // Clusters that start in parallel write the same archive.
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("tmp{}-{number}", std::process::id()));
        let file = File::create(&temporary).doing(doing)?;
        let mut archive = Builder::new(BufWriter::new(file));
        let files = [
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
            ("manifest.json".to_owned(), docker.to_string().into_bytes()),
            (blob(&config_digest), config),
            (blob(&manifest_digest), manifest),
            (blob(&layer_digest), layer),
        ];
        for (name, bytes) in &files {
            append(&mut archive, EntryType::Regular, name, 0o644, bytes).doing(doing)?;
        }
        let mut writer = archive.into_inner().doing(doing)?;
        writer.flush().doing(doing)?;
        fs::rename(&temporary, path).doing(doing)
    }

    fn layer(&self) -> std::io::Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for entry in &self.entries {
            match entry {
                Entry::Directory(path) => append(&mut layer, EntryType::Directory, path, 0o755, &[])?,
                Entry::Program(path, bytes) => append(&mut layer, EntryType::Regular, path, 0o755, bytes)?,
                Entry::Link(path, target) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    layer.append_link(&mut header, path, target)?;
                }
            }
        }
        layer.into_inner()
    }

    fn config(&self, layer_digest: &str) -> Value {
        json!({
            "created": CREATED,
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": self.user,
                "Entrypoint": self.entrypoint,
                "WorkingDir": "/",
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
            "history": [{"created": CREATED, "created_by": "metrics-pipeline e2e"}],
        })
    }

    fn index(&self, manifest_digest: &str, size: usize) -> Value {
        let mut entry = descriptor(MANIFEST, manifest_digest, size);
        entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
        entry["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name,
        });
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The same in every build, because it is part of the digests.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Returns whether an ELF binary needs no dynamic linker, so that it runs in an image from scratch.
///
/// Source: the System V ABI; a program header of type `PT_INTERP` names the linker. Supports 64-bit little-endian
/// only.
#[must_use]
pub fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let headers = || {
        let offset = usize::try_from(number(0x20, 8)?).ok()?;
        let size = usize::try_from(number(0x36, 2)?).ok()?;
        let count = usize::try_from(number(0x38, 2)?).ok()?;
        (0..count).map(|index| number(offset + index * size, 4)).collect::<Option<Vec<_>>>()
    };
    elf.starts_with(b"\x7fELF\x02\x01")
        && headers().is_some_and(|types| !types.contains(&u64::from(PT_INTERP)))
}

/// Returns the name of this machine's architecture in image formats.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn descriptor(kind: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

fn append<W: std::io::Write>(
    archive: &mut Builder<W>,
    kind: EntryType,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    archive.append_data(&mut header(kind, mode, bytes.len()), path, bytes)
}

/// Reads a program; it must be linked statically.
pub(super) fn read_static(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).doing(|| format!("read {}", path.display()))?;
    if is_static(&bytes) {
        return Ok(bytes);
    }
    Err(Error::Invalid(format!(
        "{} is not a static 64-bit ELF program: no image from scratch can run it",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            name: "registry.local/a:1".into(),
            entries: vec![
                Entry::Directory("bin".into()),
                Entry::Program("bin/a".into(), b"#!".to_vec()),
                Entry::Link("b".into(), "bin/a".into()),
            ],
            entrypoint: vec!["/bin/a".into()],
            user: "65534:65534".into(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn writes_equal_bytes_and_names_blobs_by_digest() {
        let directory = std::env::temp_dir().join(format!("oci-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (first, second) = (directory.join("first.tar"), directory.join("second.tar"));
        image().write(&first).unwrap();
        image().write(&second).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        let mut archive = tar::Archive::new(File::open(&first).unwrap());
        let mut blobs = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            if let Some(digest) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest, sha256(&bytes));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn detects_dynamic_programs() {
        let mut elf = vec![0; 0x40 + 0x38];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[0x20], elf[0x36], elf[0x38], elf[0x40]) = (0x40, 0x38, 1, 1);
        assert!(is_static(&elf));
        elf[0x40] = 3;
        assert!(!is_static(&elf));
        elf.truncate(0x41);
        assert!(!is_static(&elf));
        assert!(!is_static(b"#!/bin/sh"));
    }
}
