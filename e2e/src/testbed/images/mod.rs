//! The project's images, built from scratch without a registry or a container engine, and the images of the test bed.
//!
//! The archives are written to `target/images`. `ctr -n k8s.io images import`, `kind load image-archive`, `podman
//! load` and `docker load` accept them, so users can load them into their own clusters.

mod oci;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use parking_lot::Mutex;

use crate::command;
use crate::digest::sha256;
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::{binaries, requirements};
pub use oci::is_static;
use oci::{Entry, Image, read_static};

/// The sandbox image of every pod.
pub const PAUSE: &str = "registry.local/metrics-pipeline/pause:e2e";
/// A busybox with a link for each applet, for load and probes in scenarios.
pub const BUSYBOX: &str = "registry.local/metrics-pipeline/busybox:e2e";
/// The name under which kubectl finds the plugin.
pub const KUBECTL_PLUGIN: &str = "kubectl-metrics_pipeline";
/// The repository in the names of the project's images.
pub const REPOSITORY: &str = "registry.local/metrics-pipeline";

/// An image as an archive on disk.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its name with a tag derived from its content, which changes with the program.
    pub reference: String,
    /// Its name with the version as tag.
    pub versioned: String,
    /// The OCI archive. It has only the name with the version, because some tools reject an archive with two names.
    pub archive: PathBuf,
}

/// The project's images.
#[derive(Clone, Debug)]
pub struct ProjectImages {
    /// metrics-core.
    pub metrics_core: Built,
    /// The operator.
    pub operator: Built,
    /// The directory of the programs in the images, and of the plugin if it was built.
    pub programs: PathBuf,
}

/// A program of the project.
struct RustProgram {
    package: &'static str,
    binary: &'static str,
}

const METRICS_CORE: RustProgram = RustProgram { package: "metrics-core", binary: "metrics-core" };
const OPERATOR: RustProgram = RustProgram { package: "operator", binary: "metrics-pipeline-operator" };
const PLUGIN: RustProgram = RustProgram { package: "kubectl-metrics-pipeline", binary: KUBECTL_PLUGIN };

/// An image of the project, which contains one program.
struct ProjectImage {
    program: RustProgram,
    name: &'static str,
    links: &'static [&'static str],
    description: &'static str,
}

const METRICS_CORE_IMAGE: ProjectImage = ProjectImage {
    program: METRICS_CORE,
    name: "metrics-core",
    // A manifest that was written for metrics-server runs unchanged.
    links: &["metrics-server"],
    description: "Scrapes kubelets and serves the Kubernetes resource Metrics API",
};

const OPERATOR_IMAGE: ProjectImage = ProjectImage {
    program: OPERATOR,
    name: "operator",
    links: &[],
    description: "Owns the resource-metrics pipeline of a Kubernetes cluster",
};

/// Builds the project's images as released; cargo rebuilds only what changed.
pub fn project(progress: &Progress) -> Result<ProjectImages> {
    let programs = static_build(
        workspace(),
        &target().join("static"),
        "release",
        &[&METRICS_CORE, &OPERATOR],
        progress,
    )?;
    written(programs, &archives()?, progress)
}

/// Builds the project's images and the kubectl plugin for scenarios: less optimized, so faster to build. Builds once
/// a process, because parallel scenarios must run the same programs while the sources may change.
pub fn for_scenarios(progress: &Progress) -> Result<ProjectImages> {
    static BUILT: Mutex<Option<ProjectImages>> = Mutex::new(None);
    let mut built = BUILT.lock();
    if let Some(images) = &*built {
        return Ok(images.clone());
    }
    let programs = [&METRICS_CORE, &OPERATOR, &PLUGIN];
    let programs = static_build(workspace(), &target().join("static"), "scenarios", &programs, progress)?;
    // Not in the directory of the releases, which users may load into their clusters.
    let directory = archives()?.join("scenarios");
    fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
    let images = written(programs, &directory, progress)?;
    *built = Some(images.clone());
    Ok(images)
}

/// Builds the images of another commit of this clone as for scenarios, once, and returns them with the chart of that commit.
/// They are cached outside the clone.
pub fn of_commit(commit: &str, progress: &Progress) -> Result<(ProjectImages, PathBuf)> {
    let commits = binaries::cache().join("commits");
    let directory = commits.join(commit);
    let (programs, chart) = (directory.join("programs"), directory.join("chart"));
    if !chart.exists() {
        let temporary = commits.join(format!("{commit}.tmp{}", std::process::id()));
        let (sources, target) = (temporary.join("source"), temporary.join("target"));
        let to = temporary.join("programs");
        for directory in [&sources, &to] {
            fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
        }
        let archive = temporary.join("source.tar");
        let mut git = Command::new("git");
        git.current_dir(workspace()).args(["archive", "--format=tar", "--output"]).arg(&archive).arg(commit);
        command::output(&mut git)?;
        let doing = || format!("unpack {}", archive.display());
        let file = fs::File::open(&archive).doing(doing)?;
        tar::Archive::new(file).unpack(&sources).doing(doing)?;
        let needed = [&METRICS_CORE, &OPERATOR];
        let from = static_build(&sources, &target, "scenarios", &needed, progress)?;
        for program in needed {
            let doing = || format!("copy {}", program.binary);
            fs::copy(from.join(program.binary), to.join(program.binary)).doing(doing)?;
        }
        let doing = || format!("write {}", directory.display());
        fs::rename(sources.join("charts/metrics-pipeline"), temporary.join("chart")).doing(doing)?;
        for unneeded in [&sources, &target] {
            fs::remove_dir_all(unneeded).doing(doing)?;
        }
        fs::remove_file(&archive).doing(doing)?;
        fs::rename(&temporary, &directory).doing(doing)?;
    }
    Ok((written(programs, &directory, progress)?, chart))
}

fn written(programs: PathBuf, archives: &Path, progress: &Progress) -> Result<ProjectImages> {
    progress.step("images of metrics-core and the operator written", |_| {
        Ok(ProjectImages {
            metrics_core: write_image(&METRICS_CORE_IMAGE, &programs, archives)?,
            operator: write_image(&OPERATOR_IMAGE, &programs, archives)?,
            programs,
        })
    })
}

/// Writes the sandbox image, a busybox that sleeps.
pub fn pause() -> Result<Built> {
    busybox_image(PAUSE, "pause", &[], &["/bin/busybox", "sleep", "2147483647"])
}

/// Writes the image for load and probes in scenarios.
pub fn busybox() -> Result<Built> {
    let path = busybox_path()?;
    let list = command::output(Command::new(path).arg("--list"))?;
    let applets: Vec<&str> = list.lines().filter(|applet| *applet != "busybox").collect();
    busybox_image(BUSYBOX, "busybox", &applets, &[])
}

fn busybox_path() -> Result<PathBuf> {
    requirements::static_busybox().ok_or_else(|| {
        Error::Missing("a statically linked busybox is missing (on Debian: package busybox-static)".into())
    })
}

fn busybox_image(name: &str, file: &str, applets: &[&str], entrypoint: &[&str]) -> Result<Built> {
    let mut entries = vec![
        Entry::Directory("bin".into()),
        Entry::Program("bin/busybox".into(), read_static(&busybox_path()?)?),
    ];
    entries.extend(applets.iter().map(|applet| Entry::Link(format!("bin/{applet}"), "busybox".into())));
    let image = Image {
        name: name.to_owned(),
        entries,
        entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
        user: "65534:65534".into(),
        labels: BTreeMap::new(),
    };
    let archive = archives()?.join(format!("{file}.tar"));
    image.write(&archive)?;
    Ok(Built { reference: name.to_owned(), versioned: name.to_owned(), archive })
}

fn write_image(image: &ProjectImage, directory: &Path, archives: &Path) -> Result<Built> {
    let bytes = read_static(&directory.join(image.program.binary))?;
    let version = env!("CARGO_PKG_VERSION");
    let name = |tag: &str| format!("{REPOSITORY}/{}:{tag}", image.name);
    let (reference, versioned) = (name(&sha256(&bytes)[..12]), name(version));
    let mut entries = vec![Entry::Program(image.program.binary.into(), bytes)];
    entries.extend(image.links.iter().map(|link| Entry::Link((*link).into(), image.program.binary.into())));
    let labels = [
        ("title", image.name),
        ("description", image.description),
        ("version", version),
        ("licenses", env!("CARGO_PKG_LICENSE")),
    ];
    let labels = labels.map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned()));
    let content = Image {
        name: versioned.clone(),
        entries,
        entrypoint: vec![format!("/{}", image.program.binary)],
        user: "65534:65534".into(),
        labels: labels.into(),
    };
    let archive = archives.join(format!("{}.tar", image.name));
    content.write(&archive)?;
    Ok(Built { reference, versioned, archive })
}

/// Returns the directory of this workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Returns the workspace's target directory.
pub(crate) fn target() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    workspace().join(set.unwrap_or_else(|| "target".into()))
}

fn archives() -> Result<PathBuf> {
    let directory = target().join("images");
    fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
    Ok(directory)
}

/// Builds static programs in a target directory and returns the directory of the programs. It must not be the usual target
/// directory, because other RUSTFLAGS would invalidate that.
fn static_build(
    workspace: &Path,
    directory: &Path,
    profile: &str,
    programs: &[&RustProgram],
    progress: &Progress,
) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
    let title = "metrics-core and the operator built as static programs (some minutes the first time)";
    let named = programs.iter().flat_map(|program| ["--package", program.package, "--bin", program.binary]);
    progress.step(title, |step| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(workspace)
            .args(["build", "--profile", profile, "--locked", "--target", &triple])
            .args(named)
            .env("CARGO_TARGET_DIR", directory)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        command::logged(&mut cargo, &directory.join("build.log"), step)
    })?;
    Ok(directory.join(triple).join(profile))
}
