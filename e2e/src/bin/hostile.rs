//! `cargo hostile`: metrics-core under attack and outage.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::available_parallelism;

use clap::{Parser, Subcommand};
use e2e::bench::hostile::{self, HostileOutcome, HostilePlan, Phase};
use e2e::bench::scale::{Conditions, Population, env, fleet};
use e2e::error::Doing as _;
use e2e::testbed::{binaries, process, requirements};
use e2e::{Error, Progress, Result, command};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Attacks metrics-core in a cgroup with the nanny's limit: hostile clients, kubelets and outages of kube-apiserver, one
/// after the other and then all together. Fails if a well-behaved client notices, or the container is killed.
#[derive(Parser)]
#[command(name = "cargo hostile")]
struct Arguments {
    /// Number of nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    nodes: u32,
    /// Number of pods on each node; a pod has two containers.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=500))]
    pods: u32,
    /// Duration of the run, which all phases share. An outage takes at least 75 s, any other phase 25 s.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Run these phases only.
    #[arg(long, value_delimiter = ',')]
    phases: Vec<Phase>,
    /// Memory limit of metrics-core in MiB [default: what the nanny chooses].
    #[arg(long, value_name = "MIB")]
    memory_limit: Option<u64>,
    /// This build of metrics-core instead of the source.
    #[arg(long, value_name = "PROGRAM")]
    core: Option<PathBuf>,
    /// Write hostile.md, .json and .svg to this directory; the committed report is in docs/performance.
    #[arg(long, value_name = "DIRECTORY")]
    report: Option<PathBuf>,
    /// Name of the environment; concurrent runs need different names.
    #[arg(long, default_value = "hostile")]
    name: String,
    #[command(subcommand)]
    inner: Option<Inner>,
}

/// Parts of a run, started by it as processes of their own.
#[derive(Subcommand)]
enum Inner {
    #[command(hide = true)]
    Fleet { spec: String },
    #[command(hide = true)]
    Attack { spec: String },
    #[command(hide = true)]
    Inside { plan: String },
}

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    match &arguments.inner {
        Some(Inner::Fleet { spec }) => {
            serde_json::from_str(spec).doing(|| "decode the fleet".into()).and_then(fleet::run)
        }
        Some(Inner::Attack { spec }) => serde_json::from_str(spec)
            .doing(|| "decode the attacks".into())
            .and_then(|spec| hostile::attack::attack(&spec)),
        Some(Inner::Inside { plan }) => inside(plan),
        None => return outside(arguments),
    }
    .map(|()| true)
}

/// Builds the programs, runs the plan inside the network and reports the figures; returns whether all phases passed.
fn outside(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let conditions = Conditions::now(workspace, "hostile");
    requirements::check(&progress)?;
    let binaries = binaries::kubernetes(&progress)?;
    let program = match &arguments.core {
        Some(program) => program.canonicalize().doing(|| format!("find {}", program.display()))?,
        None => build(workspace, &progress)?,
    };
    let population = Population { nodes: arguments.nodes, pods_per_node: arguments.pods };
    let cpus = available_parallelism().map_or(1, usize::from);
    let plan = HostilePlan {
        name: arguments.name.clone(),
        nodes: arguments.nodes,
        pods_per_node: arguments.pods,
        minutes: arguments.minutes,
        phases: if arguments.phases.is_empty() { Phase::all() } else { arguments.phases.clone() },
        limit: arguments.memory_limit.map_or_else(|| hostile::nanny_limit(population), |mib| mib << 20),
        cpu: (cpus > 1).then(|| cpus - 1),
        program,
        binaries,
    };
    // The attackers and the fleet have thousands of connections.
    let limit = getrlimit(Resource::Nofile);
    let limit = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    limit.doing(|| "raise the limit of open files".into())?;
    let output = run_inside(&plan)?;
    let outcome: HostileOutcome = serde_json::from_slice(&output).doing(|| "decode the outcome".into())?;
    let _ = writeln!(io::stdout(), "{}\n{}", conditions.list(), hostile::table(&plan, &outcome));
    if let Some(directory) = &arguments.report {
        std::fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
        let page = hostile::page(&plan, &conditions, &outcome, "hostile.svg");
        write(&directory.join("hostile.md"), &page)?;
        let json = serde_json::json!({"conditions": conditions, "limit_bytes": plan.limit, "phases": outcome.phases});
        write(&directory.join("hostile.json"), &format!("{json:#}\n"))?;
        write(&directory.join("hostile.svg"), &hostile::svg(&plan, &conditions, &outcome))?;
    }
    let passed = outcome.phases.iter().all(|phase| phase.problems.is_empty());
    let _ = writeln!(io::stdout(), "{}", if passed { "passed" } else { "failed" });
    Ok(passed)
}

fn build(workspace: &Path, progress: &Progress) -> Result<PathBuf> {
    let me = std::env::current_exe().doing(|| "find this program".into())?;
    // The same profile puts metrics-core beside this program.
    let target = me.parent().map(Path::to_owned).unwrap_or_default();
    progress.step("metrics-core built as a release", |step| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace).args(["build", "--locked", "--profile", "measured"]);
        cargo.args(["--package", "metrics-core", "--bin", "metrics-core"]);
        command::logged(&mut cargo, &target.join("build.log"), step)
    })?;
    Ok(target.join("metrics-core"))
}

/// Runs a plan in a network of its own and returns its output as JSON.
fn run_inside(plan: &HostilePlan) -> Result<Vec<u8>> {
    let text = serde_json::to_string(plan).doing(|| "encode the plan".into())?;
    let me = std::env::current_exe().doing(|| "find this program".into())?;
    let (layout, network) = env::prepare(&plan.name)?;
    let mut inner = network.command(me);
    inner.arg("inside").arg(text).env(process::MARK, &layout.run);
    let output = inner.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.doing(|| "enter the network".into());
    env::remove(&layout);
    let output = output?;
    if !output.status.success() {
        return Err(Error::Invalid(format!("no figures; the logs are in {}", layout.logs().display())));
    }
    Ok(output.stdout)
}

fn inside(plan: &str) -> Result<()> {
    let plan: HostilePlan = serde_json::from_str(plan).doing(|| "decode the plan".into())?;
    if let Some(reserved) = plan.cpu {
        // All processes that are started from here inherit this; metrics-core sets its own.
        let mut others = CpuSet::new();
        (0..reserved).for_each(|cpu| others.set(cpu));
        sched_setaffinity(None, &others).map_err(io::Error::from).doing(|| "reserve a CPU".into())?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.doing(|| "start the runtime".into())?;
    let outcome = runtime.block_on(hostile::run(&plan, &Progress::default()))?;
    let text = serde_json::to_string(&outcome).doing(|| "encode the figures".into())?;
    let _ = writeln!(io::stdout(), "{text}");
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).doing(|| format!("write {}", path.display()))
}
