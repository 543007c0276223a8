//! Each fault in `e2e::faults` is reported with its cause and cleared, on clusters of their own. The times are in the
//! table; `cargo faults` enforces the limits.
//!
//! Faults of kube-apiserver's flags, which restart it, run in parallel on a second cluster. A run without `--long`
//! has only a part of the list.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use e2e::faults::{self, FRONT_PROXY, Fault, FaultEnv, KUBELETS, PATH, SAMPLES, Table};
use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::cluster::KUBELET_HTTP_PORT;
use e2e::testbed::{images, pipeline};
use e2e::{Client, Result, check, wait};
use serde_json::Value;

use super::plugin;

/// The time for which the status must not change while a fault lasts: kube-apiserver checks an APIService every 30 s.
const LASTS: Duration = Duration::from_secs(70);

/// Longer than the time after which a cause is reported as resolved (20 s, and a reconcile).
const SETTLES: Duration = Duration::from_secs(35);

/// A Node without a kubelet, which no other scenario has.
const SPECTRE: &str = "spectre";

/// The cluster of `bare` has no pipeline.
pub(crate) fn add(suite: &mut Suite, bare: &Arc<Group>) {
    let flags = suite.group_with("faults-flags", faults::flags(), Some(prepare));
    suite.add(&flags, "reports_faults_of_the_front_proxy", Needs::Alone, |env| all(env, FRONT_PROXY));
    let rest = suite.group_with("faults", faults::flags(), Some(prepare));
    suite.add(&rest, "reports_faults_of_kubelets", Needs::Alone, |env| all(env, KUBELETS));
    suite.add(&rest, "reports_faults_of_samples", Needs::Alone, |env| all(env, SAMPLES));
    suite.add(&rest, "reports_faults_on_the_path_to_the_pods", Needs::Alone, |env| all(env, PATH));
    suite.add(&rest, "writes_lasting_faults_once", Needs::Alone, writes_lasting_faults_once);
    plugin::add(suite, bare, &rest, &flags);
}

fn prepare(env: &TestEnv) -> Result<()> {
    let built = images::for_scenarios(&env.progress)?;
    faults::prepare(&env.client, env.own_cluster()?, &built, &env.progress)
}

fn all(env: &TestEnv, list: &[Fault]) -> Result<()> {
    let faulty = FaultEnv::new(env.own_cluster()?, &env.progress)?;
    let mut table = Table::default();
    for fault in list.iter().filter(|fault| fault.short || env.long) {
        table.add(fault, fault.run(&faulty));
    }
    env.progress.say(table.to_string());
    if table.is_right() { Ok(()) } else { Err(failed(table.to_string())) }
}

/// A fault that lasts is written to the status once, even if its evidence varies, and has one event when it appears
/// and one when it is resolved.
fn writes_lasting_faults_once(env: &TestEnv) -> Result<()> {
    let (client, cluster) = (&env.client, env.own_cluster()?);
    faults::settled(client)?;
    // A cause of another scenario that was not reported as resolved would continue in this one.
    settled_events(client)?;
    let faulty = FaultEnv::new(cluster, &env.progress)?;
    let fault = PATH.iter().find(|fault| fault.reason == "Unreachable");
    let fault = fault.ok_or_else(|| failed("no such fault".into()))?;
    let address = cluster.node().address.to_string();
    cluster.add_node(SPECTRE, &[("InternalIP", &address)], KUBELET_HTTP_PORT)?;
    (fault.inject)(&faulty)?;
    let result = lasts(env, fault.reason);
    (fault.repair)(&faulty)?;
    cluster.remove_node(SPECTRE)?;
    result?;
    faults::settled(client)?;
    wait::until(Duration::from_secs(60), "an event reports that the kubelet's cause is resolved", || {
        let events = events(client)?;
        let over = |event: &&Value| {
            event["reason"] == "KubeletPlainHTTPResolved" && event["related"]["name"] == SPECTRE
        };
        match events.iter().find(over) {
            Some(event) if event["type"] == "Normal" && event["related"]["kind"] == "Node" => Ok(()),
            _ => Err(format!("{events:?}").into()),
        }
    })
}

fn lasts(env: &TestEnv, reason: &str) -> Result<()> {
    let client = &env.client;
    let read = || client.get(&["mpl", pipeline::NAME]);
    wait::until(Duration::from_secs(60), "both faults are reported", || {
        let object = read()?;
        let reasons: Vec<_> =
            pipeline::conditions(&object).into_iter().map(|[_, _, reason, _]| reason).collect();
        let named = |reason: &str| reasons.iter().any(|one| one == reason);
        if named(reason) && named("KubeletPlainHTTP") { Ok(()) } else { Err(reasons.join(" ").into()) }
    })?;
    // What follows from it settles, also the size for one more node.
    let reported = settled_events(client)?;
    let (before, began) = (read()?, Instant::now());
    while began.elapsed() < LASTS {
        thread::sleep(Duration::from_secs(2));
        let now = read()?;
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        check!(
            version(&now) == version(&before),
            "written again after {:.0?}:\n{}\n{}",
            began.elapsed(),
            before["status"],
            now["status"]
        );
    }
    let after = events(client)?;
    check!(after == reported, "reported again: {reported:?}\n{after:?}");
    // The Node has no address for a moment before its kubelet is scraped, which is reported too.
    let is_of_node =
        |event: &&Value| event["reason"] == "KubeletPlainHTTP" && event["related"]["name"] == SPECTRE;
    let of_node: Vec<_> = reported.iter().filter(is_of_node).collect();
    let matches = of_node.iter().all(|event| {
        event["type"] == "Warning"
            && event["related"]["kind"] == "Node"
            && event["involvedObject"]["name"] == pipeline::NAME
    });
    check!(of_node.len() == 1 && matches, "not one event for the node: {reported:?}");
    check!(reported.iter().any(|event| event["reason"] == reason), "no event for {reason}: {reported:?}");
    Ok(())
}

/// Returns the events once no more are added.
fn settled_events(client: &Client) -> Result<Vec<Value>> {
    let mut last = None;
    wait::every(SETTLES, SETTLES * 5, "no more events are added", || {
        let now = events(client)?;
        let count = now.len();
        if last.as_ref() == Some(&now) {
            return Ok(now);
        }
        last = Some(now);
        Err(format!("{count} events").into())
    })
}

/// Returns the events about the MetricsPipeline, which has no namespace.
fn events(client: &Client) -> Result<Vec<Value>> {
    let list = client.get(&["-n", "default", "events"])?;
    let about = |event: &&Value| event["involvedObject"]["kind"] == "MetricsPipeline";
    Ok(list["items"].as_array().into_iter().flatten().filter(about).cloned().collect())
}
