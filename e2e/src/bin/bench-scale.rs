//! `cargo bench-scale`: what metrics-core costs with thousands of nodes, beside metrics-server.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use e2e::bench::scale::{
    self, Candidate, Conditions, Figures, Kind, Method, Plan, Population, chart, env, fleet, report,
};
use e2e::error::Doing as _;
use e2e::testbed::{binaries, process, requirements};
use e2e::{Error, Progress, Result, command};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measures metrics-core on a fleet of fake kubelets with a real etcd and kube-apiserver.
#[derive(Parser)]
#[command(name = "cargo bench-scale")]
struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=65_534))]
    nodes: u32,
    /// How many pods on each, of two containers.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=500))]
    pods: u32,
    /// Measure metrics-server v0.9.0 too.
    #[arg(long)]
    metrics_server: bool,
    /// Also with 1 and 10 % of the nodes failing: a third black-holed, slow (9 s), answering noise each.
    #[arg(long)]
    faults: bool,
    /// Seconds between two scrapes.
    #[arg(long, default_value_t = 15)]
    resolution: u64,
    /// The rounds over which scraping is measured.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Then ask for all pods a thousand times in so many minutes and tell the memory at each.
    #[arg(long, value_name = "MINUTES", default_value_t = 0)]
    soak: u32,
    /// Only fill the cache with so many nodes and pods, so that the next run starts at once.
    #[arg(long, conflicts_with_all = ["metrics_server", "core"])]
    prepare: bool,
    /// Measure this build of metrics-core instead of the source's; can be repeated, to compare.
    #[arg(long, value_name = "PROGRAM")]
    core: Vec<PathBuf>,
    /// Where the figures go as JSON [default: bench-scale.json in the target directory].
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write scale-NODES.md, .json and .svg into this directory, which is docs/performance for what is kept.
    #[arg(long, value_name = "DIRECTORY")]
    report: Option<PathBuf>,
    /// The name of the stand; runs beside each other need different ones.
    #[arg(long, default_value = "bench-scale")]
    stand: String,
    #[command(subcommand)]
    inner: Option<Inner>,
}

/// Parts of a run; started by it.
#[derive(Subcommand)]
enum Inner {
    #[command(hide = true)]
    Fleet { nodes: u32, pods: u32, pki: PathBuf },
    #[command(hide = true)]
    Inside { plan: String },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(e2e::alias::arguments());
    let done = match &arguments.inner {
        Some(Inner::Fleet { nodes, pods, pki }) => {
            fleet::run(Population { nodes: *nodes, pods_per_node: *pods }, pki)
        }
        Some(Inner::Inside { plan }) => inside(plan),
        None => outside(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds what is needed and goes into the network.
fn outside(arguments: &Arguments) -> Result<()> {
    let progress = Progress::default();
    let conditions = Conditions::now(workspace());
    requirements::check(&progress)?;
    let binaries = binaries::kubernetes(&progress)?;
    let target = target_directory()?;
    let core = |name: String, program: PathBuf| Candidate { name, kind: Kind::MetricsCore, program };
    let mut candidates = Vec::new();
    for (at, program) in (1..).zip(&arguments.core) {
        let program = program.canonicalize().doing(|| format!("find {}", program.display()))?;
        let name =
            if arguments.core.len() == 1 { "metrics-core".into() } else { format!("metrics-core-{at}") };
        candidates.push(core(name, program));
    }
    if candidates.is_empty() && !arguments.prepare {
        progress.step("metrics-core built as a release", |step| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.current_dir(workspace()).args(["build", "--locked", "--profile", "measured"]);
            cargo.args(["--package", "metrics-core", "--bin", "metrics-core"]);
            command::logged(&mut cargo, &target.join("build.log"), step)
        })?;
        candidates.push(core("metrics-core".into(), target.join("metrics-core")));
    }
    if arguments.metrics_server {
        let program = binaries::metrics_server(&progress)?;
        candidates.push(Candidate { name: "metrics-server".into(), kind: Kind::MetricsServer, program });
    }
    // A connection for each node.
    let limit = getrlimit(Resource::Nofile);
    let limit = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    limit.doing(|| "raise the limit of open files".into())?;

    let plan = Plan {
        // Another one, as a cache may be filled beside a run.
        stand: if arguments.prepare { "bench-scale-prepare" } else { arguments.stand.as_str() }.into(),
        method: Method {
            nodes: arguments.nodes,
            pods_per_node: arguments.pods,
            resolution_s: arguments.resolution,
            rounds: arguments.rounds,
            faults: if arguments.faults { vec![1, 10] } else { Vec::new() },
            soak_minutes: arguments.soak,
        },
        candidates,
        binaries,
    };
    let text = serde_json::to_string(&plan).doing(|| "encode the plan".into())?;
    let me = std::env::current_exe().doing(|| "find this program".into())?;
    let (layout, network) = env::prepare(&plan.stand)?;
    let mut inner = network.command(me);
    let figures =
        inner.arg("inside").arg(text).env(process::MARK, &layout.run).stdin(std::process::Stdio::null());
    let figures = figures.stderr(std::process::Stdio::inherit()).output();
    let figures = figures.doing(|| "enter the network".into());
    env::remove(&layout);
    let figures = figures?;
    if !figures.status.success() {
        return Err(Error::Invalid(format!("no figures; logs are in {}", layout.logs().display())));
    }
    if arguments.prepare {
        return Ok(());
    }
    let all: Vec<Figures> = serde_json::from_slice(&figures.stdout).doing(|| "read the figures".into())?;
    let json = arguments.json.clone().unwrap_or_else(|| target.join("bench-scale.json"));
    let whole = serde_json::json!({"conditions": conditions, "method": plan.method, "figures": all});
    let whole = format!("{whole:#}\n");
    write(&json, &whole)?;
    let _ = writeln!(io::stdout(), "{}", report::tables(&all));
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
    Ok(())
}

fn inside(plan: &str) -> Result<()> {
    let plan: Plan = serde_json::from_str(plan).doing(|| "read the plan".into())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.doing(|| "start the runtime".into())?;
    let figures = runtime.block_on(scale::run(&plan, &Progress::default()))?;
    let text = serde_json::to_string(&figures).doing(|| "encode the figures".into())?;
    let _ = writeln!(io::stdout(), "{text}");
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).doing(|| format!("write {}", path.display()))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The directory of this very program, where the same profile leaves metrics-core too.
fn target_directory() -> Result<PathBuf> {
    let me = std::env::current_exe().doing(|| "find this program".into())?;
    Ok(me.parent().map(Path::to_owned).unwrap_or_default())
}
