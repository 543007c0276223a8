//! Each fault is named by its cause and cleared, on clusters of their own: the list is in `e2e::faults`. Whether within
//! 30 s each is in the table, and `cargo run -p e2e --bin faults` holds them to it.
//!
//! Those of kube-apiserver's flags, which restart it, run beside the others on a second cluster. A short run takes
//! some of the list.

use e2e::{Client, Plugin, Result, check, images, pipeline, wait};
use serde_json::Value;

use super::plugin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use e2e::cluster::KUBELET_HTTP_PORT;
use e2e::faults::{self, Bench, FRONT_PROXY, Fault, KUBELETS, PATH, Table};
use e2e::scenario::{Group, Needs, Stand, Suite, failed};

/// How long a fault is watched that nothing changes about: kube-apiserver looks at an APIService every 30 s.
const LASTS: Duration = Duration::from_secs(70);

/// Longer than a cause must be gone until it is told to be over (20 s, and a look at the cluster).
const SETTLES: Duration = Duration::from_secs(35);

/// A Node that no kubelet stands behind, and that no other scenario has.
const SPECTRE: &str = "spectre";

/// `bare` has no pipeline.
pub fn add(suite: &mut Suite, bare: &Arc<Group>) {
    let flags = suite.group_with("faults-flags", faults::flags(), Some(prepare));
    suite.add(&flags, "of_the_front_proxy_are_named", Needs::Alone, |stand| all(stand, FRONT_PROXY));
    let rest = suite.group_with("faults", faults::flags(), Some(prepare));
    suite.add(&rest, "of_kubelets_are_named", Needs::Alone, |stand| all(stand, KUBELETS));
    suite.add(&rest, "on_the_way_to_the_pods_are_named", Needs::Alone, |stand| all(stand, PATH));
    suite.add(&rest, "that_last_are_written_once", Needs::Alone, that_last_are_written_once);
    plugin::add(suite, bare, &rest, &flags);
}

fn prepare(stand: &Stand) -> Result<()> {
    let built = images::for_scenarios(&stand.progress)?;
    faults::prepare(&stand.client, stand.ours()?, &built, &stand.progress)
}

fn all(stand: &Stand, list: &[Fault]) -> Result<()> {
    let bench = Bench {
        client: stand.client.clone(),
        cluster: stand.ours()?,
        plugin: Plugin::build(&stand.progress)?,
        progress: stand.progress.clone(),
    };
    let mut table = Table::default();
    for fault in list.iter().filter(|fault| fault.short || stand.long) {
        table.add(fault, fault.run(&bench));
    }
    stand.progress.say(table.to_string());
    if table.is_right() { Ok(()) } else { Err(failed(table.to_string())) }
}

/// A fault that lasts is written to the status once, however its evidence is worded, and told by one event when it
/// appears and one when it is over.
fn that_last_are_written_once(stand: &Stand) -> Result<()> {
    let (client, cluster) = (&stand.client, stand.ours()?);
    faults::settled(client)?;
    // A cause that another scenario had brought about and that is not told to be over would go on in ours.
    all_told(client)?;
    let bench = Bench {
        client: client.clone(),
        cluster,
        plugin: Plugin::build(&stand.progress)?,
        progress: stand.progress.clone(),
    };
    let fault = PATH.iter().find(|fault| fault.reason == "Unreachable");
    let fault = fault.ok_or_else(|| failed("no such fault".into()))?;
    let address = cluster.node().address.to_string();
    cluster.add_node(SPECTRE, &[("InternalIP", &address)], KUBELET_HTTP_PORT)?;
    (fault.inject)(&bench)?;
    let lasted = lasts(stand, fault.reason);
    (fault.heal)(&bench)?;
    cluster.remove_node(SPECTRE)?;
    lasted?;
    faults::settled(client)?;
    wait::until(Duration::from_secs(60), "an event tells that the kubelet's cause is over", || {
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

fn lasts(stand: &Stand, reason: &str) -> Result<()> {
    let client = &stand.client;
    let read = || client.get(&["mpl", pipeline::NAME]);
    wait::until(Duration::from_secs(60), "both faults are named", || {
        let object = read()?;
        let reasons: Vec<_> =
            pipeline::conditions(&object).into_iter().map(|[_, _, reason, _]| reason).collect();
        let named = |reason: &str| reasons.iter().any(|one| one == reason);
        if named(reason) && named("KubeletPlainHTTP") { Ok(()) } else { Err(reasons.join(" ").into()) }
    })?;
    // What follows from it settles, the size for one node more too.
    let told = all_told(client)?;
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
    check!(after == told, "told again: {told:?}\n{after:?}");
    // Before its kubelet is asked the Node has no address for a moment, which is told too.
    let is_of_node =
        |event: &&Value| event["reason"] == "KubeletPlainHTTP" && event["related"]["name"] == SPECTRE;
    let of_node: Vec<_> = told.iter().filter(is_of_node).collect();
    let right = of_node.iter().all(|event| {
        event["type"] == "Warning"
            && event["related"]["kind"] == "Node"
            && event["involvedObject"]["name"] == pipeline::NAME
    });
    check!(of_node.len() == 1 && right, "not one event for the node: {told:?}");
    check!(told.iter().any(|event| event["reason"] == reason), "no event for {reason}: {told:?}");
    Ok(())
}

/// The events once there are no more.
fn all_told(client: &Client) -> Result<Vec<Value>> {
    let mut last = None;
    wait::every(SETTLES, SETTLES * 5, "nothing more is told", || {
        let now = events(client)?;
        let count = now.len();
        if last.as_ref() == Some(&now) {
            return Ok(now);
        }
        last = Some(now);
        Err(format!("{count} events").into())
    })
}

/// The events about the MetricsPipeline, which is in no namespace.
fn events(client: &Client) -> Result<Vec<Value>> {
    let list = client.get(&["-n", "default", "events"])?;
    let about = |event: &&Value| event["involvedObject"]["kind"] == "MetricsPipeline";
    Ok(list["items"].as_array().into_iter().flatten().filter(about).cloned().collect())
}
