//! The time from the start of an only replica until each pod has metrics.

use std::time::{Duration, Instant};

use super::lister::{Limits, Lister, Seen};
use super::{Completeness, first, ready, serving, summary};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::{Cluster, KubeletKind};
use crate::testbed::kubectl::Client;
use crate::testbed::pipeline;
use crate::wait;

const ANY: Limits = Limits { nanocores: u64::MAX, bytes: u64::MAX };
/// The longest time from a kubelet's start to cAdvisor's second sample of a container.
const SECOND_SAMPLE: Duration = Duration::from_secs(35);
/// The timeout from the old pod's end until all pods have metrics.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Measures starts after the only replica was killed.
pub(super) fn measure(
    cluster: &Cluster,
    count: u32,
    found: &mut Completeness,
    progress: &Progress,
) -> Result<()> {
    let client = cluster.client();
    let kubelet = cluster.kubelet_kind();
    std::thread::sleep(if kubelet == KubeletKind::Cached { SECOND_SAMPLE } else { Duration::ZERO });
    let (mut first_list, mut all) = (Vec::new(), Vec::new());
    let (lister, mut total) = (Lister::start(cluster, ANY)?, Seen::default());
    for number in 1..=count {
        ready(&client)?;
        let old = first(&serving(&client, 1)?)?.to_owned();
        let namespace = ["-n", pipeline::NAMESPACE];
        let delete = ["delete", "pod", &old, "--grace-period=0", "--force"];
        client.run(&[&namespace[..], &delete].concat())?;
        lister.take();
        let started = started(&client, &old)?;
        let (mut lists, mut complete) = (None, None);
        let deadline = Instant::now() + TIMEOUT;
        // A list that began within the last read of the pods is judged one read later.
        while complete.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_secs(1));
            let seen = lister.take();
            let now = jiff::Timestamp::now();
            if seen.lists > 0 {
                lists.get_or_insert(now);
                complete = (seen.incomplete.is_empty() && seen.failed.is_empty()).then_some(now);
            }
            total.add(seen);
        }
        let (Some(lists), Some(complete)) = (lists, complete) else {
            return Err(Error::Invalid(format!(
                "not all pods have metrics {} s after a start",
                TIMEOUT.as_secs()
            )));
        };
        let after = |then: jiff::Timestamp| then.duration_since(started).as_secs_f64();
        first_list.push(after(lists));
        all.push(after(complete));
        progress.say(format!(
            "{kubelet} kubelet, start {number} of {count}: first list {:.0} s, all pods {:.0} s after the container's start",
            after(lists),
            after(complete)
        ));
    }
    lister.stop()?;
    let result = format!("first list: {}; all pods: {}", summary(&first_list), summary(&all));
    found.add(&format!("{count} starts of an only replica, {kubelet} kubelet"), &total, result);
    Ok(())
}

/// Waits until another pod than `old` has started its container; returns when that was, in whole seconds.
fn started(client: &Client, old: &str) -> Result<jiff::Timestamp> {
    wait::every(Duration::from_millis(500), TIMEOUT, "the next pod of metrics-core has started", || {
        let selector = ["-n", pipeline::NAMESPACE, "pods", "-l", super::METRICS_CORE_PODS];
        let pods = client.get(&selector)?;
        let next = pods["items"].as_array().into_iter().flatten().find(|pod| pod["metadata"]["name"] != old);
        let time = next.and_then(|pod| {
            pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].as_str()?.parse().ok()
        });
        time.ok_or_else(|| "none".into())
    })
}
