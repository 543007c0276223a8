//! What is wrong with a kubelet is named by metrics-core's report, and is over after the fix; the log has the
//! seconds.

use std::time::{Duration, Instant};

use e2e::cluster::{KUBELET_HTTP_PORT, KUBELET_PORT, KubeletCertificate as Certificate};
use e2e::pki::{Identity, Subject};
use e2e::request::Request;
use e2e::scenario::{Needs, Stand, Suite, failed};
use e2e::{Result, check, pipeline, wait};
use serde_json::{Value, json};

use super::{MINUTE, PATIENCE, metrics_core, prepare, ready};

/// How long a fault may take to be named, and to be over: half a minute, and as much again on a busy machine.
const SOON: Duration = Duration::from_secs(60);

pub fn add(suite: &mut Suite) {
    let group = suite.group_with("kubelets", Vec::new(), Some(prepare));
    suite.add(&group, "certificates_are_told_apart", Needs::Alone, certificates_are_told_apart);
    suite.add(&group, "silence_has_a_cause", Needs::Alone, silence_has_a_cause);
    suite.add(&group, "nodes_that_are_not_there_are_named", Needs::Alone, nodes_that_are_not_there_are_named);
    suite.add(&group, "a_pinned_key_is_held_to", Needs::Alone, a_pinned_key_is_held_to);
}

/// One who may read the report.
struct Reader<'a> {
    stand: &'a Stand,
    identity: Identity,
}

impl<'a> Reader<'a> {
    fn new(stand: &'a Stand) -> Result<Self> {
        let root = Subject::user("reader", Some("system:masters"));
        Ok(Self { stand, identity: stand.ours()?.cluster_authority()?.issue(&root)? })
    }

    fn report(&self) -> Result<Value> {
        let [_, address, _] = metrics_core(&self.stand.client)?;
        self.report_of(&address)
    }

    /// The reports of all replicas: beside one that does not become ready the old one goes on.
    fn reports(&self) -> Result<Vec<Value>> {
        let pods = self.stand.client.get(&[
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

    /// Waits until a rollout is over.
    fn alone(&self) -> Result<()> {
        wait::until(PATIENCE, "one replica of metrics-core", || match self.reports()?.len() {
            1 => Ok(()),
            count => Err(format!("{count} of them").into()),
        })
    }

    fn report_of(&self, address: &str) -> Result<Value> {
        let request = Request::get(format!("https://{address}:4443/report")).identity(&self.identity);
        let answer = self.stand.ours()?.https(&request)?;
        check!(answer.status == 200, "/report: {} {}", answer.status, answer.body);
        serde_json::from_str(&answer.body).map_err(|error| failed(format!("{error}: {}", answer.body)))
    }

    /// Waits until `node` fails with `cause`; what is said of it, and how long it took.
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

    /// Waits until no node fails; how long it took.
    fn well(&self) -> Result<Duration> {
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
        self.stand.progress.say(format!("{fault}: {cause} after {seconds:.1} s: {message}"));
    }
}

fn certificates_are_told_apart(stand: &Stand) -> Result<()> {
    let (cluster, reader) = (stand.ours()?, Reader::new(stand)?);
    let node = cluster.node().name.as_str();
    reader.well()?;
    for (certificate, cause, words) in [
        // No cause twice in a row, or the first would be taken for the second.
        (Certificate::SelfSigned, "tls_unknown_ca", "serverTLSBootstrap"),
        (Certificate::Expired, "tls_expired", "expired at 2021-01-01"),
        (Certificate::UnknownAuthority, "tls_unknown_ca", "certificate-authority"),
        (Certificate::WithoutNames, "tls_name_mismatch", "no subject alternative names"),
        (Certificate::SelfSignedExpired, "tls_unknown_ca", "self-signed"),
        (Certificate::OtherNode, "tls_name_mismatch", "node-2"),
    ] {
        cluster.kubelet_certificate(certificate, &stand.progress)?;
        let named = reader.failing(node, cause)?;
        check!(named.0.contains(words), "{certificate:?}: {}", named.0);
        reader.say(&format!("{certificate:?}"), cause, &named);
    }
    // Any of the node's own names will do, whatever was dialled.
    cluster.kubelet_certificate(Certificate::NameOnly, &stand.progress)?;
    let healed = reader.well()?;
    stand
        .progress
        .say(format!("a certificate with the node's name alone is good after {:.1} s", healed.as_secs_f64()));
    cluster.kubelet_certificate(Certificate::Proper, &stand.progress)?;
    reader.well()?;
    ready(&stand.client)
}

/// A kubelet that is down is told from packets that are dropped.
fn silence_has_a_cause(stand: &Stand) -> Result<()> {
    let (cluster, reader) = (stand.ours()?, Reader::new(stand)?);
    let node = cluster.node().name.as_str();
    reader.well()?;
    cluster.stop_kubelet();
    reader.say("the kubelet is down", "connection_refused", &reader.failing(node, "connection_refused")?);
    cluster.start_kubelet(&stand.progress)?;
    reader.well()?;
    cluster.drop_from_pods(KUBELET_PORT)?;
    let named = reader.failing(node, "timeout");
    cluster.drop_nothing()?;
    let named = named?;
    check!(named.0.contains("NetworkPolicy"), "{}", named.0);
    reader.say("packets are dropped", "timeout", &named);
    reader.well()?;
    ready(&stand.client)
}

fn nodes_that_are_not_there_are_named(stand: &Stand) -> Result<()> {
    let (cluster, reader) = (stand.ours()?, Reader::new(stand)?);
    reader.well()?;
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
    reader.well()?;
    // The seed's mistake for all nodes at once.
    let with =
        |kubelet: Value| pipeline::manifest(pipeline::NAME, &json!({"metricsCore": {"kubelet": kubelet}}));
    stand.client.apply(&with(json!({"port": KUBELET_HTTP_PORT})))?;
    let began = Instant::now();
    let (message, _) = wait::until(MINUTE, "the new metrics-core meets the HTTP port", || {
        Ok(reader.failing(&cluster.node().name, "plain_http")?)
    })?;
    reader.say("the wrong port for all", "plain_http", &(message, began.elapsed()));
    stand.client.apply(&with(json!({})))?;
    ready(&stand.client)?;
    reader.alone()?;
    reader.well().map(drop)
}

fn a_pinned_key_is_held_to(stand: &Stand) -> Result<()> {
    let (cluster, reader) = (stand.ours()?, Reader::new(stand)?);
    let node = cluster.node().name.as_str();
    cluster.kubelet_certificate(Certificate::SelfSigned, &stand.progress)?;
    let mode = |mode: &str| {
        let spec = json!({"metricsCore": {"kubelet": {"tls": {"mode": mode}}}});
        stand.client.apply(&pipeline::manifest(pipeline::NAME, &spec))
    };
    mode("Pin")?;
    // Ready it is as well while the old replica still serves.
    wait::until(PATIENCE, "the kubelet's key is pinned", || {
        let reports = reader.reports()?;
        let pinned = reports.iter().any(|report| report["nodes"]["pinned"] == 1);
        if pinned { Ok(()) } else { Err(format!("{} replicas", reports.len()).into()) }
    })?;
    reader.alone()?;
    reader.well()?;
    ready(&stand.client)?;
    cluster.kubelet_certificate(Certificate::SelfSigned, &stand.progress)?;
    let named = reader.failing(node, "tls_pin_mismatch")?;
    reader.say("another key", "tls_pin_mismatch", &named);
    // The CA's word counts more than a pin.
    cluster.kubelet_certificate(Certificate::Proper, &stand.progress)?;
    reader.well()?;
    cluster.kubelet_certificate(Certificate::SelfSigned, &stand.progress)?;
    let named = reader.failing(node, "tls_pin_mismatch")?;
    check!(named.0.contains("one did before"), "{}", named.0);
    cluster.kubelet_certificate(Certificate::Proper, &stand.progress)?;
    mode("Verify")?;
    ready(&stand.client)?;
    reader.alone()?;
    reader.well().map(drop)
}
