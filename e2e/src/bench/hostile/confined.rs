//! metrics-core as a container: in a cgroup with the nanny's memory limit, on one CPU, and started again when it ends or
//! when its liveness probe fails, as a kubelet does.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bench::scale::env::BenchEnv;
use crate::bench::scale::usage;
use crate::error::{Doing as _, Result};
use crate::testbed::cgroups::{Cgroup, CgroupMemory};
use crate::testbed::kubeconfig;
use crate::testbed::pki::{Subject, write_private};
use crate::testbed::process::MARK;

/// The port of metrics-core.
pub(super) const PORT: u16 = 10443;
/// How long the liveness probe fails before the kubelet restarts the container: three times, every 10 s.
const LIVENESS: Duration = Duration::from_secs(30);

/// The container.
pub(super) struct Confined {
    cgroup: Cgroup,
    command: ContainerCommand,
    child: Child,
    /// The CPU time of the processes that ended.
    ended_cpu: Duration,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// Why it was started again.
    pub(super) reasons: Vec<String>,
    failing_since: Option<Instant>,
}

struct ContainerCommand {
    program: PathBuf,
    arguments: Vec<String>,
    entries: Vec<PathBuf>,
    cpu: Option<usize>,
    mark: PathBuf,
    log: PathBuf,
}

/// What the container uses at one point in time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContainerUsage {
    pub(super) memory: CgroupMemory,
    pub(super) rss_mb: f64,
    pub(super) cpu: Duration,
}

impl Confined {
    /// Starts metrics-core. It reaches kube-apiserver at `apiserver`, an address that nobody else uses.
    pub(super) fn start(
        env: &BenchEnv,
        program: &Path,
        apiserver: SocketAddr,
        limit: u64,
        cpu: Option<usize>,
    ) -> Result<Self> {
        let pki = env.layout.pki();
        let path = |file: &str| pki.join(file).to_string_lossy().into_owned();
        let authority = &env.authorities.cluster;
        let names = ["localhost", "metrics-core.kube-system.svc"];
        let serving = Subject::server("metrics", &names, &[Ipv4Addr::LOCALHOST.into()]);
        authority.keep_issued(&pki, "metrics", &serving)?;
        let user = authority.issue(&Subject::user("metrics-core", Some("system:masters")))?;
        let kubeconfig = env.layout.config().join("metrics-core.kubeconfig");
        let text = kubeconfig::render(&format!("https://{apiserver}"), authority.certificate(), &user);
        write_private(&kubeconfig, &text)?;
        let flags = [
            ("kubeconfig", kubeconfig.to_string_lossy().into_owned()),
            ("kubelet-preferred-address-types", "InternalIP".into()),
            ("kubelet-certificate-authority", path("ca.crt")),
            ("kubelet-client-certificate", path("kubelet-client.crt")),
            ("kubelet-client-key", path("kubelet-client.key")),
            ("secure-port", PORT.to_string()),
            ("tls-cert-file", path("metrics.crt")),
            ("tls-private-key-file", path("metrics.key")),
            // Watches cost memory only where they are enabled.
            ("max-watches", "256".into()),
        ];
        let cgroup = Cgroup::new(&env.layout.machine_wide_name());
        cgroup.create()?;
        cgroup.limit_memory(limit)?;
        if let Some(cpu) = cpu {
            cgroup.pin(cpu)?;
        }
        let command = ContainerCommand {
            program: program.to_owned(),
            arguments: flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect(),
            entries: cgroup.entries(),
            cpu,
            mark: env.layout.run.clone(),
            log: env.layout.log("metrics-core"),
        };
        let _ = fs::remove_file(&command.log);
        let child = command.spawn()?;
        Ok(Self {
            cgroup,
            command,
            child,
            ended_cpu: Duration::ZERO,
            restarts: 0,
            reasons: Vec::new(),
            failing_since: None,
        })
    }

    /// Returns the current usage, and starts metrics-core again if it has ended.
    pub(super) fn check(&mut self) -> Result<ContainerUsage> {
        let pid = self.child.id();
        let cpu = self.ended_cpu + usage::cpu(pid);
        let used = ContainerUsage { memory: self.cgroup.memory()?, rss_mb: usage::memory(pid).rss_mb, cpu };
        if let Ok(Some(status)) = self.child.try_wait() {
            self.restart(format!("ended: {status}"), cpu)?;
        }
        Ok(used)
    }

    /// Takes the result of a liveness probe.
    pub(super) fn probed(&mut self, alive: bool) -> Result<()> {
        if alive {
            self.failing_since = None;
        } else if self.failing_since.get_or_insert_with(Instant::now).elapsed() > LIVENESS {
            let cpu = self.ended_cpu + usage::cpu(self.child.id());
            self.restart("the liveness probe failed".into(), cpu)?;
        }
        Ok(())
    }

    fn restart(&mut self, reason: String, cpu: Duration) -> Result<()> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        (self.ended_cpu, self.failing_since) = (cpu, None);
        self.restarts += 1;
        self.reasons.push(reason);
        self.child = self.command.spawn()?;
        Ok(())
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.cgroup.remove();
    }
}

impl ContainerCommand {
    fn spawn(&self) -> Result<Child> {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.doing(|| format!("open {}", self.log.display()))?;
        let errors = log.try_clone().doing(|| format!("open {}", self.log.display()))?;
        let mut command = Command::new("sh");
        // The shell enters the cgroups before it becomes metrics-core, so that all of its memory counts.
        command.args([
            "-ec",
            "while [ \"$1\" != -- ]; do echo $$ > \"$1\"; shift; done; shift; exec \"$@\"",
            "sh",
        ]);
        command.args(&self.entries).arg("--");
        if let Some(cpu) = self.cpu {
            command.args(["taskset", "-c", &cpu.to_string()]);
        }
        command.arg(&self.program).args(&self.arguments);
        command.current_dir("/").env(MARK, &self.mark);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        command.spawn().doing(|| format!("start {}", self.program.display()))
    }
}
