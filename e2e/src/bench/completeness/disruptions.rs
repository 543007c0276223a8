//! Rollouts, kills and evictions of one of two replicas.

use std::time::{Duration, Instant};

use serde_json::json;

use super::lister::{Limits, Lister};
use super::{Completeness, first, ready, replicas, serving, summary};
use crate::error::Result;
use crate::progress::Progress;
use crate::testbed::cluster::Cluster;
use crate::testbed::kubectl::Client;
use crate::testbed::pipeline;

/// The time after a disruption before the next one, in which the lists go on.
const PAUSE: Duration = Duration::from_secs(5);
/// Any usage: the values are not the subject here.
const ANY: Limits = Limits { nanocores: u64::MAX, bytes: u64::MAX };

/// How replicas are replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disruption {
    /// `kubectl rollout restart`: both replicas, one after the other.
    Rollout,
    /// One pod is deleted with grace period 0, as a crash of its node would end it.
    Kill,
    /// One pod is evicted, as `kubectl drain` does.
    Eviction,
}

impl Disruption {
    fn title(self) -> &'static str {
        match self {
            Self::Rollout => "rollouts",
            Self::Kill => "kills",
            Self::Eviction => "evictions",
        }
    }

    fn begin(self, client: &Client, pod: &str) -> Result<()> {
        let namespace = ["-n", pipeline::NAMESPACE];
        match self {
            Self::Rollout => {
                client
                    .run(&[&namespace[..], &["rollout", "restart", "deployment", "metrics-core"]].concat())?;
            }
            Self::Kill => {
                let delete = ["delete", "pod", pod, "--grace-period=0", "--force", "--wait=false"];
                client.run(&[&namespace[..], &delete].concat())?;
            }
            Self::Eviction => {
                let eviction = json!({
                    "apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": {"name": pod, "namespace": pipeline::NAMESPACE},
                });
                let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", pipeline::NAMESPACE);
                client.with_manifest(&["create", "--raw", &path], &eviction.to_string())?;
            }
        }
        Ok(())
    }
}

/// Measures all kinds with two replicas.
pub(super) fn measure(
    cluster: &Cluster,
    count: u32,
    found: &mut Completeness,
    progress: &Progress,
) -> Result<()> {
    let client = cluster.client();
    replicas(&client, 2)?;
    let lister = Lister::start(cluster, ANY)?;
    std::thread::sleep(Duration::from_secs(60));
    lister.take();
    for kind in [Disruption::Rollout, Disruption::Kill, Disruption::Eviction] {
        let mut seconds = Vec::new();
        for number in 1..=count {
            let before = serving(&client, 2)?;
            let began = Instant::now();
            kind.begin(&client, first(&before)?)?;
            client.wait_for("other pods serve", super::READY, |client| {
                let now = serving(client, 2)?;
                let kept = now.iter().filter(|name| before.contains(name)).count();
                let expected = usize::from(kind != Disruption::Rollout);
                if kept == expected { Ok(()) } else { Err(format!("{now:?}").into()) }
            })?;
            seconds.push(began.elapsed().as_secs_f64());
            progress.say(format!(
                "{} {number} of {count}: {:.0} s",
                kind.title(),
                began.elapsed().as_secs_f64()
            ));
            std::thread::sleep(PAUSE);
        }
        ready(&client)?;
        let seen = lister.take();
        for line in seen.failed.iter().take(5) {
            progress.say(format!("failed {line}"));
        }
        let title = format!("{count} {}, two replicas", kind.title());
        found.require_complete(&title, &seen);
        found.add(&title, &seen, format!("two serve again: {}", summary(&seconds)));
    }
    lister.stop().map(drop)
}
