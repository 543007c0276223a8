//! The control plane, the chart's permissions, and the state from which a journey starts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::api::{Api, documents};
use super::fault::Fault;
use super::kubelet::Kubelet;
use super::operator::Operator;
use super::proxy::Proxy;
use super::replica::{Replica, Serving};
use super::{NAMESPACES, NODE, PIPELINE};
use crate::command;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::control_plane::{self, Authorities};
use crate::testbed::cluster::{FlagChange, Layout};
use crate::testbed::isolated::Process;
use crate::testbed::pipeline;
use crate::testbed::pki::{Identity, Subject};
use crate::testbed::tls;

const TIMEOUT: Duration = Duration::from_secs(120);

/// The controllers of kube-controller-manager that the operator's objects need.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,deployment-controller,disruption-controller,\
    endpointslice-controller,garbage-collector-controller,namespace-controller,replicaset-controller,\
    root-ca-certificate-publisher-controller,serviceaccount-controller";

/// The templates of the chart without its Deployment: the operator is a child of this process.
const TEMPLATES: [&str; 7] = [
    "crd",
    "clusterrole",
    "role",
    "role-events",
    "role-kube-system",
    "role-previous-namespace",
    "serviceaccount",
];

/// The DNS names of metrics-core's Service in each namespace.
const NAMES: [&str; 4] = [
    "metrics-core.metrics-pipeline.svc",
    "metrics-core.metrics-pipeline-2.svc",
    "metrics-core.metrics-pipeline",
    "metrics-core.metrics-pipeline-2",
];

/// The Secret for the certificate source `Secret`.
pub(super) const EXTERNAL_SECRET: &str = "external-serving";

/// Programs that run in the environment.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The directory of etcd, kube-apiserver and kube-controller-manager.
    pub kubernetes: PathBuf,
    /// Helm, which renders the chart.
    pub helm: PathBuf,
    /// The operator.
    pub operator: PathBuf,
}

/// The environment of the runs.
pub(super) struct Env {
    pub(super) api: Arc<Api>,
    pub(super) authorities: Authorities,
    pub(super) layout: Layout,
    pub(super) proxy: Proxy,
    pub(super) programs: Programs,
    /// The operators, by number. Usually there is one.
    pub(super) operators: Vec<Operator>,
    /// The operator's namespace.
    pub(super) namespace: &'static str,
    /// The certificate of the source `Secret`.
    pub(super) external: Identity,
    /// The last error of the stand-in for the kubelet.
    pub(super) kubelet_error: Arc<Mutex<String>>,
    /// A connection of its own for the sampling of the APIServices.
    pub(super) sampling_api: Arc<Api>,
    _foreign_server: Replica,
    processes: Vec<Process>,
}

impl Env {
    /// Starts the control plane; runs inside the network.
    pub(super) async fn start(layout: Layout, programs: Programs, progress: &Progress) -> Result<Self> {
        // All pods are on this machine.
        command::output(Command::new("ip").args(["route", "replace", "local", "10.98.0.0/16", "dev", "lo"]))?;
        let authorities = control_plane::prepare(&layout)?;
        let changes = ["audit-policy-file", "audit-log-path", "audit-log-maxsize"].map(FlagChange::remove);
        let etcd = Process::component(&layout, &control_plane::etcd(&layout, &programs.kubernetes))?;
        let apiserver = control_plane::apiserver(&layout, &programs.kubernetes, &changes);
        let mut apiserver = Process::component(&layout, &apiserver)?;
        let api = Arc::new(Api::new(&authorities)?);
        let began = Instant::now();
        while !matches!(api.call("GET", "/readyz", "", &Value::Null).await, Ok((200, _))) {
            apiserver.check()?;
            timeout(began, "kube-apiserver is ready")?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        progress.say("kube-apiserver is ready");
        let external = authorities.cluster.issue(&Subject::server("external", &NAMES, &[]))?;
        let foreign = Serving::default();
        foreign.set(&external.certificate, &external.key)?;
        let foreign_server =
            Replica::start(super::foreign::SERVER.into(), super::foreign::PORT, &foreign).await?;
        let proxy = Proxy::new(tls::client(Some(authorities.cluster.certificate()), None)?);
        let sampling_api = Arc::new(Api::new(&authorities)?);
        let mut env = Self {
            kubelet_error: Kubelet::start(Arc::new(Api::new(&authorities)?)),
            api,
            authorities,
            layout,
            proxy,
            programs,
            operators: Vec::new(),
            namespace: NAMESPACES[0],
            external,
            sampling_api,
            _foreign_server: foreign_server,
            processes: vec![etcd, apiserver],
        };
        env.prepare(progress).await?;
        Ok(env)
    }

    async fn prepare(&mut self, progress: &Progress) -> Result<()> {
        for name in NAMESPACES.into_iter().chain([super::foreign::NAMESPACE]) {
            self.api
                .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
                .await?;
        }
        self.api.apply(&node(NODE)).await?;
        self.install_chart(NAMESPACES[0]).await?;
        self.until("the CRD is served", async |env| {
            let (status, _) = env.api.call("GET", &collection(), "", &Value::Null).await?;
            Ok(status == 200)
        })
        .await?;
        // It discovers the kinds to collect when it starts, and then every 30 s.
        let controllers = [FlagChange::set("controllers", CONTROLLERS)];
        let manager =
            control_plane::controller_manager(&self.layout, &self.programs.kubernetes, &controllers);
        self.processes.push(Process::component(&self.layout, &manager)?);
        self.until("the controllers run", async |env| {
            let mut published = true;
            for name in NAMESPACES {
                let path = format!("/api/v1/namespaces/{name}/configmaps/kube-root-ca.crt");
                published &= env.api.get(&path).await?.is_some();
            }
            Ok(published)
        })
        .await?;
        for namespace in NAMESPACES {
            let base64 = |text: &str| BASE64_STANDARD.encode(text);
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": EXTERNAL_SECRET, "namespace": namespace},
                "data": {
                    "tls.crt": base64(&self.external.certificate), "tls.key": base64(&self.external.key),
                    "ca.crt": base64(self.authorities.cluster.certificate()),
                },
            });
            self.api.apply(&secret).await?;
        }
        progress.say("the control plane is complete");
        Ok(())
    }

    /// Applies the chart's permissions for the operator in a namespace.
    pub(super) async fn install_chart(&mut self, namespace: &'static str) -> Result<()> {
        let previous = if namespace == NAMESPACES[0] { NAMESPACES[1] } else { NAMESPACES[0] };
        let mut helm = Command::new(&self.programs.helm);
        helm.args(["template", "metrics-pipeline"]).arg(pipeline::chart()).args(["--namespace", namespace]);
        helm.arg(format!("--set=previousNamespace={previous},servingSecret={EXTERNAL_SECRET}"));
        helm.env("HOME", &self.layout.run);
        for template in TEMPLATES {
            helm.arg(format!("--show-only=templates/{template}.yaml"));
        }
        for object in documents(&command::output(&mut helm)?)? {
            self.api.apply(&object).await?;
        }
        self.namespace = namespace;
        Ok(())
    }

    /// Waits until a state holds.
    pub(super) async fn until(&self, what: &str, state: impl AsyncFn(&Self) -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !state(self).await? {
            timeout(began, what)?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Returns the MetricsPipeline; `None` if there is none.
    pub(super) async fn pipeline(&self) -> Result<Option<Value>> {
        self.api.get(&pipeline_path()).await
    }

    /// Starts the operator of this number and waits until it leads, or, with a leader, until it stands by.
    pub(super) async fn start_operator(&mut self, number: usize) -> Result<()> {
        let operator = Operator::start(self, number).await?;
        self.operators.push(operator);
        Ok(())
    }

    /// Kills all operators, and deletes the Lease so that the next one need not wait for its expiry.
    pub(super) async fn kill_operators(&mut self) -> Result<()> {
        self.operators.clear();
        for namespace in NAMESPACES {
            self.delete_lease(namespace).await?;
        }
        Ok(())
    }

    /// Deletes the Lease of a killed operator.
    pub(super) async fn delete_lease(&self, namespace: &str) -> Result<()> {
        let path =
            format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/metrics-pipeline-operator");
        self.api.delete(&path, &Value::Null).await
    }

    /// Replaces all operators by a new one, with a fault that is injected when the journey begins.
    pub(super) async fn restart_operator(&mut self, fault: Fault) -> Result<()> {
        self.kill_operators().await?;
        self.proxy.arm(fault);
        self.start_operator(0).await
    }
}

/// Returns the path of the MetricsPipelines.
pub(super) fn collection() -> String {
    "/apis/metrics-pipeline.dev/v1alpha1/metricspipelines".to_owned()
}

/// Returns the path of the MetricsPipeline.
pub(super) fn pipeline_path() -> String {
    format!("{}/{PIPELINE}", collection())
}

/// Returns a Node. It has no kubelet that renews it: the node lifecycle controller is off.
pub(super) fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name}},
    })
}

/// Returns an error after [`TIMEOUT`].
pub(super) fn timeout(began: Instant, what: &str) -> Result<()> {
    if began.elapsed() < TIMEOUT {
        return Ok(());
    }
    Err(Error::Timeout { what: what.to_owned(), after: TIMEOUT, last: "not yet".to_owned() })
}

/// Returns the file of the operator's log.
pub(super) fn operator_log(layout: &Layout, number: usize) -> PathBuf {
    layout.log(&format!("operator-{number}"))
}

/// Returns the last lines of the log of operator 0.
pub(super) fn last_log(layout: &Layout) -> String {
    crate::testbed::cluster::tail(Path::new(&operator_log(layout, 0)), 12)
}
