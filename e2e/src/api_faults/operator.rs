//! The operator as a child process that reaches kube-apiserver through the proxy only, with its own ServiceAccount.

use std::fs::OpenOptions;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::api::write_json;
use super::env::{Env, operator_log, timeout};
use super::proxy::Proxy;
use crate::error::{Doing as _, Result};
use crate::testbed::process::MARK;

/// The ServiceAccount of the chart.
const ACCOUNT: &str = "metrics-pipeline-operator";

/// The audience of the token with which the operator reads the reports of metrics-core.
const REPORT_AUDIENCE: &str = "metrics-core.metrics-pipeline.dev";

/// The image of metrics-core; nothing pulls it.
pub(super) const IMAGE: &str = "registry.example/metrics-core:1";

/// How long a new leader reads before the journey begins.
const SETTLES: Duration = Duration::from_millis(600);

/// An operator; it is killed when this is dropped.
pub(super) struct Operator {
    child: Child,
    number: usize,
    proxy: Proxy,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.proxy.set_process(self.number, None);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Operator {
    /// Starts an operator; returns when it leads, or, beside another one, when it runs.
    pub(super) async fn start(env: &Env, number: usize) -> Result<Self> {
        let namespace = env.namespace;
        let address = env.proxy.listen(number).await?;
        let token = env.api.token(namespace, ACCOUNT, None).await?;
        let report = env.api.token(namespace, ACCOUNT, Some(REPORT_AUDIENCE)).await?;
        let file = |name: &str| env.layout.run.join(format!("operator-{number}-{name}"));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "operator", "user": {"token": token}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        });
        write_json(&file("kubeconfig"), &kubeconfig)?;
        std::fs::write(file("token"), report).doing(|| "write the operator's token".to_owned())?;
        let path = operator_log(&env.layout, number);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.doing(|| format!("open {}", path.display()))?;
        let earlier = env.proxy.writes().len();
        let child = Command::new(&env.programs.operator)
            .arg(format!("--namespace={namespace}"))
            .arg(format!("--metrics-core-image={IMAGE}"))
            .arg(format!("--report-token-file={}", file("token").display()))
            .args(["--bind-address=127.0.0.1:0", "--ca-trust-settles=1"])
            .env_clear()
            .env("KUBECONFIG", file("kubeconfig"))
            .env("POD_NAME", format!("operator-{number}"))
            .env(MARK, &env.layout.run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .doing(|| format!("start {}", env.programs.operator.display()))?;
        env.proxy.set_process(number, Some(child.id()));
        let mut operator = Self { child, number, proxy: env.proxy.clone() };
        let began = Instant::now();
        let leads = || {
            let writes = env.proxy.writes();
            writes
                .iter()
                .skip(earlier)
                .any(|one| one.operator == number && one.call.target.is_election() && one.status < 300)
        };
        // A fault may kill it before it leads.
        while env.operators.is_empty() && !leads() && operator.is_running() {
            timeout(began, "the operator acquires the Lease")?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(SETTLES).await;
        Ok(operator)
    }

    /// Returns its number.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Whether the process runs; a stopped one does.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Continues the process after a stop.
    pub(super) fn resume(&self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::CONT);
    }
}
