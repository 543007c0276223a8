//! Builds Kubernetes, metrics-server, clients and a generator of certificates from their Go modules, once for each content, and caches them
//! outside the clone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::digest::Sha256;
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::requirements;

/// The oldest Go that the modules accept, as in their go.mod.
const GO: &str = "1.26";

/// A Go program to build.
struct GoProgram {
    /// The name of the cache entry and of the file.
    name: &'static str,
    /// What is built, for messages.
    title: &'static str,
    /// The module's directory beside this crate's manifest.
    module: &'static str,
    /// The package to build: one of the module (`.`, `./NAME`) or that of a tool.
    package: &'static str,
    /// The linker's flags, which set the program's version.
    ldflags: &'static str,
    /// Whether cgo is enabled, if there is a C compiler.
    cgo: bool,
    /// Further names of the program, as links.
    links: &'static [&'static str],
    /// The duration of a cold build on two cores, for messages.
    minutes: u8,
}

const KUBERNETES: GoProgram = GoProgram {
    name: "kubernetes",
    title: "Kubernetes v1.36.3",
    module: "kubernetes",
    package: ".",
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
              -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
    cgo: true,
    links: &[
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ],
    minutes: 10,
};

const HELM: GoProgram = GoProgram {
    name: "helm",
    title: "Helm v4.3.1",
    module: CLIENTS_MODULE,
    package: "helm.sh/helm/v4/cmd/helm",
    ldflags: "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
    cgo: true,
    links: &[],
    minutes: 3,
};

/// The module of users' clients: its libraries are compiled once.
const CLIENTS_MODULE: &str = "clients";

const CLIENTS: GoProgram = GoProgram {
    name: "clients",
    title: "kubectl v1.37.1 and client-go",
    module: CLIENTS_MODULE,
    package: ".",
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.1 \
              -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37",
    cgo: true,
    links: &["kubectl", "client-go"],
    minutes: 1,
};

const RECOMMENDER: GoProgram = GoProgram {
    name: "recommender",
    title: "the recommender of VPA v1.8.1",
    module: CLIENTS_MODULE,
    package: "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender",
    ldflags: "-s -w",
    cgo: true,
    links: &[],
    minutes: 1,
};

const CERT_MANAGER: GoProgram = GoProgram {
    name: "cert-manager",
    title: "the controllers of cert-manager v1.21.2",
    module: CLIENTS_MODULE,
    package: "./cert-manager",
    ldflags: "-s -w",
    cgo: true,
    links: &[],
    minutes: 2,
};

const METRICS_SERVER: GoProgram = GoProgram {
    name: "metrics-server",
    title: "metrics-server v0.9.0",
    module: "metrics-server",
    package: "sigs.k8s.io/metrics-server/cmd/metrics-server",
    ldflags: "-s -w -X k8s.io/client-go/pkg/version.gitVersion=v0.9.0",
    // As its releases are built.
    cgo: false,
    links: &[],
    minutes: 4,
};

const KSTATUS: GoProgram = GoProgram {
    name: "kstatus",
    title: "kstatus v0.37.2 and the Lua of Argo CD",
    module: "kstatus",
    package: ".",
    ldflags: "-s -w",
    cgo: false,
    links: &[],
    minutes: 2,
};

const CERTIFICATES: GoProgram = GoProgram {
    name: "certificates",
    title: "the generator of certificates",
    module: "certificates",
    package: ".",
    ldflags: "-s -w",
    cgo: false,
    links: &[],
    minutes: 1,
};

/// Returns the directory of the Kubernetes programs, each under its own name; builds them if necessary.
pub fn kubernetes(progress: &Progress) -> Result<PathBuf> {
    build(&KUBERNETES, progress)
}

/// Returns the versions of Kubernetes and of metrics-server.
#[must_use]
pub fn versions() -> String {
    format!("{}, {}", KUBERNETES.title, METRICS_SERVER.title)
}

/// Returns the path of Helm; builds it if necessary.
pub fn helm(progress: &Progress) -> Result<PathBuf> {
    build(&HELM, progress).map(|directory| directory.join("helm"))
}

/// Returns the directory of a `kubectl` one version ahead of the cluster, and of `client-go`, which sends requests as
/// typed clients do (`clients/typed.go`); builds them if necessary.
pub fn clients(progress: &Progress) -> Result<PathBuf> {
    build(&CLIENTS, progress)
}

/// Returns the recommender of the Vertical Pod Autoscaler and the manifest of its CRDs; builds it if necessary.
pub fn recommender(progress: &Progress) -> Result<[PathBuf; 2]> {
    let program = build(&RECOMMENDER, progress)?.join("recommender");
    let module = source(&RECOMMENDER, "k8s.io/autoscaler/vertical-pod-autoscaler")?;
    Ok([program, module.join("deploy/vpa-v1-crd-gen.yaml")])
}

/// Returns cert-manager's controllers (`clients/cert-manager`) and the directory of its CRD manifests; builds them if
/// necessary.
pub fn cert_manager(progress: &Progress) -> Result<[PathBuf; 2]> {
    let program = build(&CERT_MANAGER, progress)?.join("cert-manager");
    let module = source(&CERT_MANAGER, "github.com/cert-manager/cert-manager")?;
    Ok([program, module.join("deploy/crds")])
}

/// Returns the directory in which Go keeps the source of a module.
fn source(program: &GoProgram, module: &str) -> Result<PathBuf> {
    let go = find_go()?;
    // The program may come from the cache while the module's source was deleted.
    command::output(Command::new(&go).args(["mod", "download", module]).current_dir(directory(program)))?;
    let mut list = Command::new(go);
    list.args(["list", "-m", "-f", "{{.Dir}}", module]);
    let directory = command::output(list.current_dir(directory(program)))?;
    Ok(PathBuf::from(directory.trim()))
}

/// Returns the path of metrics-server; builds it if necessary.
pub fn metrics_server(progress: &Progress) -> Result<PathBuf> {
    build(&METRICS_SERVER, progress).map(|directory| directory.join("metrics-server"))
}

/// Returns the path of a program that prints how kstatus and Argo CD judge an object (`kstatus/main.go`); builds it if
/// necessary.
pub fn kstatus(progress: &Progress) -> Result<PathBuf> {
    build(&KSTATUS, progress).map(|directory| directory.join("kstatus"))
}

/// Returns the program that makes certificates and verifies them with crypto/x509 (`certificates`); builds it if
/// necessary.
pub fn certificates(progress: &Progress) -> Result<PathBuf> {
    build(&CERTIFICATES, progress).map(|directory| directory.join("certificates"))
}

/// Returns the directory of caches: `$XDG_CACHE_HOME/metrics-pipeline` or `~/.cache/metrics-pipeline`.
#[must_use]
pub fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.unwrap_or_else(|| "/var/cache".into()).join("metrics-pipeline")
}

fn build(program: &GoProgram, progress: &Progress) -> Result<PathBuf> {
    let module = directory(program);
    let go = find_go()?;
    let version = command::output(Command::new(&go).arg("version").current_dir(&module))?;
    let key = cache_key(&module, version.trim(), program)?;
    let cache = cache().join("go");
    let entry = cache.join(format!("{}-{}", program.name, &key[..16]));
    if entry.is_dir() {
        return Ok(entry);
    }

    fs::create_dir_all(&cache).doing(|| format!("create {}", cache.display()))?;
    let lock_path = cache.join(format!("{}.lock", program.name));
    let lock = File::create(&lock_path).doing(|| format!("create {}", lock_path.display()))?;
    progress.clone().quiet().step(&format!("waiting for another build of {}", program.title), |_| {
        lock.lock().doing(|| format!("lock {}", lock_path.display()))
    })?;
    if entry.is_dir() {
        return Ok(entry);
    }
    // Left by a build that was killed; its compiler may still write there.
    let unfinished = format!("{}.building-", program.name);
    for entry in fs::read_dir(&cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&unfinished) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let temporary = cache.join(format!("{unfinished}{}", std::process::id()));
    fs::create_dir_all(&temporary).doing(|| format!("create {}", temporary.display()))?;
    let title = format!(
        "build {} from its Go module (about {} minutes the first time on two cores)",
        program.title, program.minutes
    );
    progress.say(format!("{title} …"));
    progress.step(&title, |step| {
        let mut go = Command::new(&go);
        go.current_dir(&module)
            .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", program.ldflags, "-o"])
            .arg(temporary.join(program.name))
            .arg(program.package);
        if !program.cgo {
            go.env("CGO_ENABLED", "0");
        }
        command::logged(&mut go, &cache.join(format!("{}.log", program.name)), step)
    })?;
    for link in program.links {
        std::os::unix::fs::symlink(program.name, temporary.join(link))
            .doing(|| format!("link {link} to {}", program.name))?;
    }
    fs::rename(&temporary, &entry).doing(|| format!("move the build to {}", entry.display()))?;
    Ok(entry)
}

fn directory(program: &GoProgram) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(program.module)
}

fn find_go() -> Result<PathBuf> {
    let usual = || Some(PathBuf::from("/usr/local/go/bin/go")).filter(|path| path.is_file());
    requirements::find("go").or_else(usual).ok_or_else(|| {
        Error::Missing(format!(
            "Go {GO} or newer is missing (Kubernetes and Helm are built from their Go modules): unpack it from \
             https://go.dev/dl/ to /usr/local/go, or put `go` into PATH"
        ))
    })
}

/// Returns a digest of everything that determines the binary: the module's own files as far as it uses them, the
/// compiler and the linker's flags.
fn cache_key(module: &Path, go_version: &str, program: &GoProgram) -> Result<String> {
    let mut digest = Sha256::default().part(go_version.as_bytes()).part(program.ldflags.as_bytes());
    let mut names = vec!["go.mod".to_owned(), "go.sum".to_owned()];
    if let Some(package) = program.package.strip_prefix('.') {
        let package = package.trim_start_matches('/');
        let directory = module.join(package);
        let entries = fs::read_dir(&directory).doing(|| format!("read {}", directory.display()))?;
        let files = entries.flatten().map(|entry| Path::new(package).join(entry.file_name()));
        let sources = files.filter(|file| file.extension().is_some_and(|extension| extension == "go"));
        names.extend(sources.map(|file| file.display().to_string()));
        names[2..].sort();
    }
    for name in &names {
        let path = module.join(name);
        match fs::read(&path) {
            Ok(bytes) => digest = digest.part(name.as_bytes()).part(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { what: format!("read {}", path.display()), source }),
        }
    }
    Ok(digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_key_depends_on_the_content() {
        let module = std::env::temp_dir().join(format!("cache-key-{}", std::process::id()));
        fs::create_dir_all(&module).unwrap();
        let key = |go: &str, ldflags| cache_key(&module, go, &GoProgram { ldflags, ..CLIENTS }).unwrap();
        let tool = || cache_key(&module, "go1", &RECOMMENDER).unwrap();
        fs::write(module.join("go.mod"), "module a").unwrap();
        let (first, of_tool) = (key("go1", "-s"), tool());
        assert_eq!(first, key("go1", "-s"));
        assert_ne!(first, key("go2", "-s"));
        assert_ne!(first, key("go1", "-w"));
        fs::create_dir_all(module.join("cert-manager")).unwrap();
        let beside = || cache_key(&module, "go1", &CERT_MANAGER).unwrap();
        let of_package = beside();
        fs::write(module.join("main.go"), "package main").unwrap();
        assert_eq!(of_package, beside(), "a package is made of its own files");
        fs::write(module.join("cert-manager/main.go"), "package main").unwrap();
        assert_ne!(of_package, beside());
        let second = key("go1", "-s");
        assert_ne!(first, second);
        assert_eq!(of_tool, tool(), "a tool of the module is not made of its files");
        fs::rename(module.join("main.go"), module.join("go.sum")).unwrap();
        assert_ne!(second, key("go1", "-s"));
        fs::remove_dir_all(&module).unwrap();
    }

    #[test]
    fn linker_flags_have_the_version_of_the_module() {
        let go_mod =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/go.mod")).unwrap();
        let line = go_mod.lines().find(|line| line.trim().starts_with("k8s.io/kubernetes ")).unwrap();
        let version = line.split_whitespace().nth(1).unwrap();
        assert!(KUBERNETES.ldflags.contains(&format!("gitVersion={version} ")), "{version}");
        let go_mod =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go.mod")).unwrap();
        let line = go_mod.lines().find(|line| line.trim().starts_with("helm.sh/helm/v4 ")).unwrap();
        let version = line.split_whitespace().nth(1).unwrap();
        assert!(HELM.ldflags.ends_with(&format!("version={version}")), "{version}");
        let line = go_mod.lines().find(|line| line.trim().starts_with("k8s.io/kubectl v0.")).unwrap();
        let version = line.trim().trim_start_matches("k8s.io/kubectl v0.");
        assert!(CLIENTS.ldflags.contains(&format!("gitVersion=v1.{version} ")), "{version}");
        assert!(go_mod.contains(&format!(
            "vertical-pod-autoscaler {} ",
            RECOMMENDER.title.rsplit(' ').next().unwrap()
        )));
        assert!(go_mod.contains(&format!(
            "cert-manager/cert-manager {}\n",
            CERT_MANAGER.title.rsplit(' ').next().unwrap()
        )));
        let go_mod =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("metrics-server/go.mod")).unwrap();
        let line = go_mod.lines().find(|line| line.contains("sigs.k8s.io/metrics-server v")).unwrap();
        let version = line.split_whitespace().find(|word| word.starts_with('v')).unwrap();
        assert!(METRICS_SERVER.ldflags.ends_with(&format!("Version={version}")), "{version}");
    }
}
