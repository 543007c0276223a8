//! metrics-core's report names the cause of a kubelet's failure, and clears it after the repair; the log has the
//! times.

use std::time::{Duration, Instant};

use e2e::suite::{Needs, Suite, TestEnv, failed};
use e2e::testbed::cluster::{KUBELET_HTTP_PORT, KUBELET_PORT, KubeletCertificate as Certificate};
use e2e::testbed::http::Request;
use e2e::testbed::pipeline;
use e2e::testbed::pki::{Identity, Subject};
use e2e::{Result, check, wait};
use serde_json::{Value, json};

use super::{MINUTE, TIMEOUT, metrics_core, prepare, ready};

/// The timeout for reporting a fault and for clearing it: half a minute, doubled for a busy machine.
const SOON: Duration = Duration::from_secs(60);

pub(super) fn add(suite: &mut Suite) {
    let group = suite.group_with("kubelets", Vec::new(), Some(prepare));
    suite.add(
        &group,
        "reports_the_cause_of_each_certificate_error",
        Needs::Alone,
        reports_the_cause_of_each_certificate_error,
    );
    suite.add(
        &group,
        "reports_the_cause_of_each_connection_error",
        Needs::Alone,
        reports_the_cause_of_each_connection_error,
    );
    suite.add(&group, "reports_nodes_without_a_kubelet", Needs::Alone, reports_nodes_without_a_kubelet);
    suite.add(&group, "accepts_only_the_pinned_key", Needs::Alone, accepts_only_the_pinned_key);
}

/// A user who may read the report.
struct Reader<'a> {
    env: &'a TestEnv,
    identity: Identity,
}

impl<'a> Reader<'a> {
    fn new(env: &'a TestEnv) -> Result<Self> {
        let root = Subject::user("reader", Some("system:masters"));
        Ok(Self { env, identity: env.own_cluster()?.cluster_authority()?.issue(&root)? })
    }

    fn report(&self) -> Result<Value> {
        let [_, address, _] = metrics_core(&self.env.client)?;
        self.report_of(&address)
    }

    /// Returns the reports of all replicas: during a rollout the old replica is still running.
    fn reports(&self) -> Result<Vec<Value>> {
        let pods = self.env.client.get(&[
            "-n",
            pipeline::NAMESPACE,
            "pods",
            "-l",
            "app.kubernetes.io/name=metrics-core",
            "--field-selector=status.phase=Running",
        ])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let lives = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        lives
            .filter_map(|pod| pod["status"]["podIP"].as_str())
            .map(|address| self.report_of(address))
            .collect()
    }

    /// Waits until only one replica is left.
    fn alone(&self) -> Result<()> {
        wait::until(TIMEOUT, "one replica of metrics-core", || match self.reports()?.len() {
            1 => Ok(()),
            count => Err(format!("{count} of them").into()),
        })
    }

    fn report_of(&self, address: &str) -> Result<Value> {
        let request = Request::get(format!("https://{address}:4443/report")).identity(&self.identity);
        let response = self.env.own_cluster()?.send(&request)?;
        check!(response.status == 200, "/report: {} {}", response.status, response.text());
        serde_json::from_slice(&response.body)
            .map_err(|error| failed(format!("{error}: {}", response.text())))
    }

    /// Waits until `node` fails with `cause`; returns the message and the time.
    fn failing(&self, node: &str, cause: &str) -> Result<(String, Duration)> {
        let began = Instant::now();
        let message = wait::until(SOON, &format!("{node} fails with {cause}"), || {
            let reports = self.reports()?;
            let scrapes = reports.iter().filter_map(|report| report["scrapes"].as_array()).flatten();
            let found = scrapes.clone().find_map(|failed| {
                let example =
                    failed["examples"].as_array()?.iter().find(|example| example["node"] == node)?;
                (failed["cause"] == cause).then(|| example["message"].as_str().unwrap_or_default().to_owned())
            });
            found.ok_or_else(|| scrapes.cloned().collect::<Value>().to_string().into())
        })?;
        Ok((message, began.elapsed()))
    }

    /// Waits until no node fails and returns the time.
    fn recovered(&self) -> Result<Duration> {
        let began = Instant::now();
        wait::until(SOON, "no node fails", || {
            let report = self.report()?;
            let nodes = &report["nodes"];
            if nodes["failing"] == 0 && nodes["covered"] == nodes["known"] {
                return Ok(());
            }
            Err(report.to_string().into())
        })?;
        Ok(began.elapsed())
    }

    fn say(&self, fault: &str, cause: &str, (message, named): &(String, Duration)) {
        let seconds = named.as_secs_f64();
        self.env.progress.say(format!("{fault}: {cause} after {seconds:.1} s: {message}"));
    }
}

fn reports_the_cause_of_each_certificate_error(env: &TestEnv) -> Result<()> {
    let (cluster, reader) = (env.own_cluster()?, Reader::new(env)?);
    let node = cluster.node().name.as_str();
    reader.recovered()?;
    for (certificate, cause, words) in [
        // Two cases in a row must have different causes, or the first would be mistaken for the second.
        (Certificate::SelfSigned, "tls_unknown_ca", "serverTLSBootstrap"),
        (Certificate::Expired, "tls_expired", "expired at 2021-01-01"),
        (Certificate::UnknownAuthority, "tls_unknown_ca", "certificate-authority"),
        (Certificate::WithoutNames, "tls_name_mismatch", "no subject alternative names"),
        (Certificate::SelfSignedExpired, "tls_unknown_ca", "self-signed"),
        (Certificate::OtherNode, "tls_name_mismatch", "node-2"),
    ] {
        cluster.kubelet_certificate(certificate, &env.progress)?;
        let named = reader.failing(node, cause)?;
        check!(named.0.contains(words), "{certificate:?}: {}", named.0);
        reader.say(&format!("{certificate:?}"), cause, &named);
    }
    // Any name of the node in the certificate is accepted, whatever address is dialed.
    cluster.kubelet_certificate(Certificate::NameOnly, &env.progress)?;
    let took = reader.recovered()?;
    env.progress.say(format!(
        "a certificate with only the node's name is accepted after {:.1} s",
        took.as_secs_f64()
    ));
    cluster.kubelet_certificate(Certificate::Proper, &env.progress)?;
    reader.recovered()?;
    ready(&env.client)
}

/// A stopped kubelet and dropped packets have different causes.
fn reports_the_cause_of_each_connection_error(env: &TestEnv) -> Result<()> {
    let (cluster, reader) = (env.own_cluster()?, Reader::new(env)?);
    let node = cluster.node().name.as_str();
    reader.recovered()?;
    cluster.stop_kubelet();
    reader.say("the kubelet is down", "connection_refused", &reader.failing(node, "connection_refused")?);
    cluster.start_kubelet(&env.progress)?;
    reader.recovered()?;
    cluster.drop_from_pods(KUBELET_PORT)?;
    let named = reader.failing(node, "timeout");
    cluster.drop_nothing()?;
    let named = named?;
    check!(named.0.contains("NetworkPolicy"), "{}", named.0);
    reader.say("packets are dropped", "timeout", &named);
    reader.recovered()?;
    ready(&env.client)
}

fn reports_nodes_without_a_kubelet(env: &TestEnv) -> Result<()> {
    let (cluster, reader) = (env.own_cluster()?, Reader::new(env)?);
    reader.recovered()?;
    let address = cluster.node().address.to_string();
    cluster.add_node("nameless", &[("Hostname", "nameless.invalid")], KUBELET_PORT)?;
    cluster.add_node("in-plain-text", &[("InternalIP", &address)], KUBELET_HTTP_PORT)?;
    cluster.add_node("shut", &[("InternalIP", &address)], 9)?;
    for (node, cause) in
        [("nameless", "dns"), ("in-plain-text", "plain_http"), ("shut", "connection_refused")]
    {
        reader.say(node, cause, &reader.failing(node, cause)?);
    }
    let report = reader.report()?;
    check!(report["nodes"]["known"] == 4 && report["nodes"]["covered"] == 1, "{}", report["nodes"]);
    for node in ["nameless", "in-plain-text", "shut"] {
        cluster.remove_node(node)?;
    }
    reader.recovered()?;
    // The fault that the project began with, on all nodes.
    let with =
        |kubelet: Value| pipeline::manifest(pipeline::NAME, &json!({"metricsCore": {"kubelet": kubelet}}));
    env.client.apply(&with(json!({"port": KUBELET_HTTP_PORT})))?;
    let began = Instant::now();
    let (message, _) = wait::until(MINUTE, "the new metrics-core meets the HTTP port", || {
        Ok(reader.failing(&cluster.node().name, "plain_http")?)
    })?;
    reader.say("the wrong port for all", "plain_http", &(message, began.elapsed()));
    env.client.apply(&with(json!({})))?;
    ready(&env.client)?;
    reader.alone()?;
    reader.recovered().map(drop)
}

fn accepts_only_the_pinned_key(env: &TestEnv) -> Result<()> {
    let (cluster, reader) = (env.own_cluster()?, Reader::new(env)?);
    let node = cluster.node().name.as_str();
    cluster.kubelet_certificate(Certificate::SelfSigned, &env.progress)?;
    let mode = |mode: &str| {
        let spec = json!({"metricsCore": {"kubelet": {"tls": {"mode": mode}}}});
        env.client.apply(&pipeline::manifest(pipeline::NAME, &spec))
    };
    mode("Pin")?;
    // The condition is also Ready while the old replica still serves.
    wait::until(TIMEOUT, "the kubelet's key is pinned", || {
        let reports = reader.reports()?;
        let pinned = reports.iter().any(|report| report["nodes"]["pinned"] == 1);
        if pinned { Ok(()) } else { Err(format!("{} replicas", reports.len()).into()) }
    })?;
    reader.alone()?;
    reader.recovered()?;
    ready(&env.client)?;
    cluster.kubelet_certificate(Certificate::SelfSigned, &env.progress)?;
    let named = reader.failing(node, "tls_pin_mismatch")?;
    reader.say("another key", "tls_pin_mismatch", &named);
    // A certificate signed by the CA is accepted before the pin is checked.
    cluster.kubelet_certificate(Certificate::Proper, &env.progress)?;
    reader.recovered()?;
    cluster.kubelet_certificate(Certificate::SelfSigned, &env.progress)?;
    let named = reader.failing(node, "tls_pin_mismatch")?;
    check!(named.0.contains("although an earlier certificate was"), "{}", named.0);
    cluster.kubelet_certificate(Certificate::Proper, &env.progress)?;
    mode("Verify")?;
    ready(&env.client)?;
    reader.alone()?;
    reader.recovered().map(drop)
}
