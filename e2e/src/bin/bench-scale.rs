//! `cargo bench-scale`: the cost of metrics-core with thousands of nodes, compared with metrics-server or with other
//! builds of metrics-core.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Parser, Subcommand};
use e2e::bench::scale::{
    self, Candidate, Conditions, Figures, Injection, Method, Plan, ServerKind, Trial, TrialOutcome, chart,
    env, fleet, medians, report,
};
use e2e::error::Doing as _;
use e2e::testbed::cluster::KubeletKind;
use e2e::testbed::{binaries, process, requirements};
use e2e::{Error, Progress, Result, command};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measures metrics-core on a fleet of fake kubelets with a real etcd and kube-apiserver.
#[derive(Parser)]
#[command(name = "cargo bench-scale")]
#[allow(clippy::struct_excessive_bools, reason = "each is a separate flag")]
struct Arguments {
    /// Number of nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=65_534))]
    nodes: u32,
    /// Number of pods on each node; a pod has two containers.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=500))]
    pods: u32,
    /// Kind of all kubelets: cached container samples, as a stock kubelet returns them, or new ones for each request.
    #[arg(long, value_name = "KIND", default_value_t = KubeletKind::Cached)]
    kubelet: KubeletKind,
    /// Also measure metrics-server v0.9.0.
    #[arg(long)]
    metrics_server: bool,
    /// Also measure with 1 % and 10 % of the nodes failing: one third each drops packets, responds after 9 s, or returns
    /// garbage.
    #[arg(long)]
    faults: bool,
    /// Scrape interval in seconds.
    #[arg(long, default_value_t = 15)]
    scrape_interval: u64,
    /// Number of scrape intervals over which scraping is measured.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Then list all pods a thousand times within this many minutes and report the memory after each minute.
    #[arg(long, value_name = "MINUTES", default_value_t = 0)]
    soak: u32,
    /// Also request the lists of all pods with gzip, as kubectl and client-go do.
    #[arg(long)]
    gzip: bool,
    /// Instead of measuring: run metrics-core for this many minutes while containers restart, Deployments scale, and nodes
    /// come and go. Fails if a report names any cause, a row is not true, or a pod that runs for a minute has no row.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["metrics_server", "inject", "report", "soak", "faults"])]
    healthy: Option<u32>,
    /// Instead of measuring: make the responses of COUNT kubelets wrong. Fails unless the report names the cause in time
    /// and resolves it after the repair, and if a row is not true. Repeat the option for one injection after the other;
    /// an unknown KIND prints all kinds.
    #[arg(long, value_name = "KIND:COUNT", conflicts_with_all = ["metrics_server", "report", "soak", "faults"])]
    inject: Vec<Injection>,
    /// Only write the nodes and pods to the cache of etcd's data, so that the next run starts sooner.
    #[arg(long, conflicts_with_all = ["metrics_server", "core"])]
    prepare: bool,
    /// Measure this build of metrics-core instead of building the source; repeat the option to compare builds.
    #[arg(long, value_name = "PROGRAM")]
    core: Vec<PathBuf>,
    /// Measure the servers in turns (A, B, A, B, …), each this many times in one cluster; print the median of each
    /// figure and the ratio. Pass the same build twice as --core to see the noise of the machine.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,
    /// File for the figures as JSON [default: bench-scale.json in the target directory].
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write scale-NODES.md, .json and .svg to this directory; the committed reports are in docs/performance.
    #[arg(long, value_name = "DIRECTORY")]
    report: Option<PathBuf>,
    /// Name of the environment; concurrent runs need different names.
    #[arg(long, default_value = "bench-scale")]
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
        Some(Inner::Inside { plan }) => inside(plan),
        None => return outside(arguments),
    }
    .map(|()| true)
}

/// Builds the programs, runs the plan inside the network and reports the figures; returns whether a trial passed.
fn outside(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let conditions = Conditions::now(workspace(), "bench-scale");
    requirements::check(&progress)?;
    let binaries = binaries::kubernetes(&progress)?;
    let plan = Plan {
        // The cache may be filled during another run.
        name: if arguments.prepare { "bench-scale-prepare" } else { arguments.name.as_str() }.into(),
        method: Method {
            nodes: arguments.nodes,
            pods_per_node: arguments.pods,
            kubelet: arguments.kubelet,
            scrape_interval_s: arguments.scrape_interval,
            rounds: arguments.rounds,
            faults: if arguments.faults { vec![1, 10] } else { Vec::new() },
            soak_minutes: arguments.soak,
            gzip: arguments.gzip,
            repetitions: arguments.pairs,
        },
        candidates: candidates(arguments, &progress)?,
        binaries,
        trial: match arguments.healthy {
            Some(minutes) => Some(Trial::Healthy(minutes)),
            None if arguments.inject.is_empty() => None,
            None => Some(Trial::Inject(arguments.inject.clone())),
        },
    };
    // The fleet has a connection for each node.
    let limit = getrlimit(Resource::Nofile);
    let limit = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    limit.doing(|| "raise the limit of open files".into())?;
    let output = run_inside(&plan)?;
    if arguments.prepare {
        return Ok(true);
    }
    if plan.trial.is_some() {
        let outcome: TrialOutcome = serde_json::from_slice(&output).doing(|| "decode the outcome".into())?;
        return Ok(show(&conditions, &outcome));
    }
    let runs: Vec<Figures> = serde_json::from_slice(&output).doing(|| "decode the figures".into())?;
    let all = medians(&runs, plan.candidates.len())?;
    let json = match &arguments.json {
        Some(path) => path.clone(),
        None => target_directory()?.join("bench-scale.json"),
    };
    let mut whole = serde_json::json!({"conditions": conditions, "method": plan.method, "figures": all});
    if arguments.pairs > 1 {
        whole["runs"] = serde_json::to_value(&runs).doing(|| "encode the runs".into())?;
    }
    let whole = format!("{whole:#}\n");
    write(&json, &whole)?;
    // Builds that are compared in pairs differ by a few percent.
    let digits = if arguments.pairs > 1 { 3 } else { 1 };
    let _ = writeln!(io::stdout(), "{}", report::tables(&all, digits));
    if let Some(directory) = &arguments.report {
        std::fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
        let name = format!("scale-{}", arguments.nodes);
        let chart = format!("{name}.svg");
        let page = report::page(&plan.method, &conditions, &all, &chart);
        write(&directory.join(format!("{name}.md")), &page)?;
        write(&directory.join(format!("{name}.json")), &whole)?;
        write(&directory.join(&chart), &chart::svg(&plan.method, &conditions, &all))?;
    }
    progress.say(format!("all figures are in {}", json.display()));
    Ok(true)
}

/// Prints the outcome of a trial; returns whether it passed.
fn show(conditions: &Conditions, outcome: &TrialOutcome) -> bool {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{}\n{}", conditions.list(), outcome.table);
    for problem in &outcome.problems {
        let _ = writeln!(out, "{problem}");
    }
    let passed = outcome.problems.is_empty();
    let _ = writeln!(out, "{}", if passed { "passed" } else { "failed" });
    passed
}

/// Returns the servers to measure; builds those that are not given.
fn candidates(arguments: &Arguments, progress: &Progress) -> Result<Vec<Candidate>> {
    let core = |name: String, program: PathBuf| Candidate { name, kind: ServerKind::MetricsCore, program };
    let mut candidates = Vec::new();
    for (at, program) in (1..).zip(&arguments.core) {
        let program = program.canonicalize().doing(|| format!("find {}", program.display()))?;
        let name =
            if arguments.core.len() == 1 { "metrics-core".into() } else { format!("metrics-core-{at}") };
        candidates.push(core(name, program));
    }
    if candidates.is_empty() && !arguments.prepare {
        let target = target_directory()?;
        progress.step("metrics-core built as a release", |step| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.current_dir(workspace()).args(["build", "--locked", "--profile", "measured"]);
            cargo.args(["--package", "metrics-core", "--bin", "metrics-core"]);
            command::logged(&mut cargo, &target.join("build.log"), step)
        })?;
        candidates.push(core("metrics-core".into(), target.join("metrics-core")));
    }
    if arguments.metrics_server {
        let program = binaries::metrics_server(progress)?;
        candidates.push(Candidate {
            name: "metrics-server".into(),
            kind: ServerKind::MetricsServer,
            program,
        });
    }
    Ok(candidates)
}

/// Runs a plan in a network of its own and returns its output as JSON.
fn run_inside(plan: &Plan) -> Result<Vec<u8>> {
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
    let plan: Plan = serde_json::from_str(plan).doing(|| "decode the plan".into())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.doing(|| "start the runtime".into())?;
    let progress = Progress::default();
    let text = match &plan.trial {
        Some(trial) => serde_json::to_string(&runtime.block_on(scale::trial::run(&plan, trial, &progress))?),
        None => serde_json::to_string(&runtime.block_on(scale::run(&plan, &progress))?),
    };
    let text = text.doing(|| "encode the figures".into())?;
    let _ = writeln!(io::stdout(), "{text}");
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).doing(|| format!("write {}", path.display()))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Returns the directory of this program, in which the same profile puts metrics-core too.
fn target_directory() -> Result<PathBuf> {
    let me = std::env::current_exe().doing(|| "find this program".into())?;
    Ok(me.parent().map(Path::to_owned).unwrap_or_default())
}
