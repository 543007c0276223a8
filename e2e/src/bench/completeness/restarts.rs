//! Containers that use CPU, end and are started again, hundreds of times: no list may have an implausible value.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lister::{Limits, Lister};
use super::{Completeness, LOAD};
use crate::error::Result;
use crate::progress::Progress;
use crate::testbed::cluster::Cluster;
use crate::testbed::images::BUSYBOX;
use crate::wait;

/// Containers that restart: pods, and containers of each.
const PODS: u32 = 4;
const CONTAINERS: u32 = 5;
/// The CPU limit of each container.
const MILLICORES: u64 = 40;
/// A container may use its limit, twice as much in a window that begins with a throttled period's rest.
const LIMITS: Limits = Limits { nanocores: 2 * 100 * 1_000_000, bytes: 64 << 20 };
/// The longest pause of the kubelet before it starts a container again.
const RESTART_PERIOD: &str = "2s";

/// Measures with one replica.
pub(super) fn measure(
    cluster: &Cluster,
    count: u32,
    found: &mut Completeness,
    progress: &Progress,
) -> Result<()> {
    let client = cluster.client();
    let quiet = progress.clone().quiet();
    cluster.restart_kubelet_with(
        &json!({"crashLoopBackOff": {"maxContainerRestartPeriod": RESTART_PERIOD}}),
        &quiet,
    )?;
    let lister = Lister::start(cluster, LIMITS)?;
    client.apply(&workload().to_string())?;
    let began = Instant::now();
    let timeout = Duration::from_secs(60) * (5 + count / 10);
    let mut said = 0;
    let restarts = wait::every(Duration::from_secs(5), timeout, "the containers have restarted", || {
        let pods = client.get(&["-n", LOAD, "pods", "-l", "app=restarting"])?;
        let statuses = pods["items"].as_array().into_iter().flatten();
        let statuses =
            statuses.flat_map(|pod| pod["status"]["containerStatuses"].as_array().into_iter().flatten());
        let restarts: u64 = statuses.filter_map(|status| status["restartCount"].as_u64()).sum();
        if restarts / 100 > said {
            said = restarts / 100;
            progress
                .say(format!("{restarts} restarts of {count} after {:.0} s", began.elapsed().as_secs_f64()));
        }
        if restarts >= u64::from(count) { Ok(restarts) } else { Err(format!("{restarts} of {count}").into()) }
    })?;
    let seen = lister.stop()?;
    client.delete(&["-n", LOAD, "deployment", "restarting"])?;
    cluster.restart_kubelet_with(&json!({}), &quiet)?;
    let title = format!("{restarts} restarts of containers under load");
    // A kubelet whose containers restart all the time may not respond in time. Then lists lack its pods.
    for line in seen.incomplete.iter().chain(&seen.failed).step_by(100) {
        progress.say(format!("incomplete or failed {line}"));
    }
    found.add(&title, &seen, format!("{} implausible values", seen.implausible.len()));
    found
        .problems
        .extend(seen.implausible.iter().take(5).map(|line| format!("{title}: implausible: {line}")));
    Ok(())
}

/// Each container uses its limit for 5 to 45 s and ends, so that some live for several samples and some for none.
fn workload() -> Value {
    let script = |number: u32| {
        format!(
            "end=$(( $(date +%s) + 5 + ($$ * 7 + {number} * 13 + $(date +%s)) % 41 )); while [ $(date +%s) -lt $end ]; do \
                 i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done"
        )
    };
    let containers: Vec<_> = (0..CONTAINERS)
        .map(|number| {
            json!({
                "name": format!("c{number}"), "image": BUSYBOX, "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", script(number)],
                "resources": {"requests": {"cpu": "1m"}, "limits": {"cpu": format!("{MILLICORES}m"), "memory": "32Mi"}},
            })
        })
        .collect();
    let labels = json!({"app": "restarting"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "restarting", "namespace": LOAD},
        "spec": {"replicas": PODS, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": containers}}},
    })
}
