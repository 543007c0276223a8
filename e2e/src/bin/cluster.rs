//! `cargo cluster`: a real Kubernetes on this machine.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use e2e::testbed::cluster::{COMPONENTS, FlagChange, Layout};
use e2e::testbed::{binaries, images};
use e2e::{Cluster, ClusterSpec, Error, Progress, Result};

/// Runs a real Kubernetes on this machine: etcd, API server, controllers, scheduler, containerd, kubelet and
/// kube-proxy, in a network of their own.
#[derive(Parser)]
#[command(name = "cargo cluster")]
struct Arguments {
    /// Name of the cluster; several can run in parallel.
    #[arg(long, global = true, default_value = "default")]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring the cluster up, or repair it.
    Up {
        /// Change kube-apiserver's command line: key=value sets a flag, key- removes it, a text that starts with --
        /// is one more argument, passed unchanged. The changes are kept until the next `up` with this option.
        #[arg(long, value_name = "CHANGE", allow_hyphen_values = true)]
        apiserver_flag: Vec<FlagChange>,
    },
    /// Take the cluster down and remove all of it.
    Down {
        /// All clusters of this machine.
        #[arg(long)]
        all: bool,
    },
    /// Show each component and the node.
    Status,
    /// Print the names of the clusters on this machine.
    List,
    /// Run kubectl as administrator.
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run Helm as administrator.
    Helm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a program (default: a shell) inside the cluster's network, with KUBECONFIG set.
    Exec {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Show the end of a component's log, or of all logs; `audit` is the API server's audit log.
    Logs {
        component: Option<String>,
        /// Continue to print as the log grows.
        #[arg(short, long)]
        follow: bool,
        /// Number of lines.
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: u32,
    },
    /// Print a kubeconfig of another user, for `cargo cluster exec`.
    Kubeconfig {
        /// Name of the user.
        #[arg(long)]
        user: String,
        /// Group of the user.
        #[arg(long)]
        group: Option<String>,
    },
    /// Load OCI archives into the node and print the names of all images.
    Load { archives: Vec<PathBuf> },
    /// Build the project's images as OCI archives in target/images and print their names; load them if the cluster is
    /// up.
    Images,
}

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let name = arguments.name.as_str();
    let progress = Progress::default();
    match &arguments.action {
        Action::Up { apiserver_flag } => {
            let mut spec = ClusterSpec::new(name);
            spec.apiserver_flags = Some(apiserver_flag.clone()).filter(|changes| !changes.is_empty());
            Cluster::up(&spec, &progress)?;
            let option = if name == "default" { String::new() } else { format!("--name {name} ") };
            progress.say(format!(
                "cluster {name} is up; try `cargo cluster {option}kubectl get pods -A`, stop it with `cargo \
                 cluster {option}down`"
            ));
        }
        Action::Down { all } => {
            let names = if *all { Layout::known() } else { vec![name.to_owned()] };
            for name in names {
                Cluster::down(&name, &progress)?;
            }
        }
        Action::Status => return status(&Cluster::open(name, &progress)?),
        Action::List => return print(&Layout::known().join("\n")),
        Action::Kubectl { arguments } => {
            return become_command(Cluster::open(name, &progress)?.client().kubectl().args(arguments));
        }
        Action::Helm { arguments } => {
            let helm = binaries::helm(&progress)?;
            return become_command(Cluster::open(name, &progress)?.command(helm).args(arguments));
        }
        Action::Exec { command } => {
            let shell = || std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
            let program = command.first().cloned().unwrap_or_else(shell);
            let cluster = Cluster::open(name, &progress)?;
            return become_command(cluster.command(program).args(command.iter().skip(1)));
        }
        Action::Logs { component, follow, lines } => {
            return logs(name, component.as_deref(), *follow, *lines);
        }
        Action::Kubeconfig { user, group } => {
            return print(&Cluster::open(name, &progress)?.kubeconfig_for(user, group.as_deref())?);
        }
        Action::Load { archives } => {
            let cluster = Cluster::open(name, &progress)?;
            for archive in archives {
                progress.step(&format!("{} loaded", archive.display()), |_| {
                    cluster.node().load_archive(archive)
                })?;
            }
            return become_command(cluster.node().ctr().args(["images", "list", "--quiet"]));
        }
        Action::Images => {
            let built = images::project(&progress)?;
            let cluster = Cluster::open(name, &progress).ok();
            for image in [built.metrics_core, built.operator] {
                print(&format!("{}\n{}\n  {}", image.reference, image.versioned, image.archive.display()))?;
                if let Some(cluster) = &cluster {
                    progress.step(&format!("loaded into {name}"), |_| cluster.load(&image))?;
                }
            }
        }
    }
    Ok(true)
}

fn status(cluster: &Cluster) -> Result<bool> {
    let status = cluster.status();
    let show = |state: &std::result::Result<(), String>| match state {
        Ok(()) => "ready".to_owned(),
        Err(why) => format!("not ready: {why}"),
    };
    let mut rows: Vec<(&str, String)> = Vec::new();
    for (name, pid) in &status.components {
        rows.push((name, pid.map_or("not running".to_owned(), |pid| format!("running (pid {pid})"))));
    }
    rows.push(("API", show(&status.api)));
    rows.push((&cluster.node().name, show(&status.node)));
    let text = rows.iter().map(|(name, state)| format!("{name:<24} {state}")).collect::<Vec<_>>().join("\n");
    print(&text)?;
    Ok(status.is_healthy())
}

fn logs(name: &str, component: Option<&str>, follow: bool, lines: u32) -> Result<bool> {
    let layout = Layout::new(name)?;
    let files = match component {
        Some("audit") => vec![layout.audit_log()],
        Some(component) if COMPONENTS.contains(&component) => vec![layout.log(component)],
        Some(other) => {
            let known = COMPONENTS.join(", ");
            return Err(Error::Invalid(format!(
                "unknown component {other:?}; the components are {known} and audit"
            )));
        }
        None => COMPONENTS.iter().map(|component| layout.log(component)).collect(),
    };
    let mut tail = Command::new("tail");
    tail.arg("-n").arg(lines.to_string()).args(follow.then_some("-F"));
    become_command(tail.args(files))
}

/// Replaces this process by the command, which so has the terminal and receives signals.
fn become_command(command: &mut Command) -> Result<bool> {
    let source = command.exec();
    Err(Error::Io { what: format!("run {}", command.get_program().to_string_lossy()), source })
}

fn print(text: &str) -> Result<bool> {
    match writeln!(io::stdout(), "{text}") {
        // The reader has closed the pipe.
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Io { what: "print".into(), source })
        }
        _ => Ok(true),
    }
}
