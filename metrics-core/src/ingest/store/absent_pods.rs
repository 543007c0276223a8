//! Running pods that a node reported before and that no node reports now.

use std::time::Duration;

use super::{Store, StoreConfig, Ticket};

/// The maximum number of pods that are remembered per node.
const MAX_PODS: usize = 256;

const MIN_MISSING: Duration = Duration::from_secs(120);

/// The pods that a node reported before.
#[derive(Debug, Default)]
pub(super) struct AbsentPods(Vec<AbsentPod>);

#[derive(Debug)]
struct AbsentPod {
    namespace: Box<str>,
    name: Box<str>,
    since_ms: u64,
}

impl AbsentPods {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, (namespace, name): (&str, &str), since_ms: u64) {
        if self.0.len() < MAX_PODS {
            self.0.push(AbsentPod { namespace: namespace.into(), name: name.into(), since_ms });
        }
    }
}

/// Returns the time after which a pod is missing.
fn missing_after(config: &StoreConfig) -> Duration {
    (config.scrape_interval * 4).max(MIN_MISSING)
}

impl Store {
    /// Adds the pods that a node no longer reports, and removes those that are reported again, by any node, or no
    /// longer Running. Returns how many are left, and how many of them are missing.
    pub(super) fn update_absent<'a>(
        &self,
        ticket: Ticket,
        gone: impl Iterator<Item = (&'a str, &'a str)>,
        now_ms: u64,
    ) -> Option<(u32, u32)> {
        let pods = self.directory.pods();
        let mut state = self.state.write();
        state.valid(ticket)?;
        let mut absent = std::mem::take(&mut state.slots[ticket.slot as usize].absent);
        for key in gone {
            absent.add(key, now_ms);
        }
        absent.0.retain(|AbsentPod { namespace, name, since_ms }| {
            // A pod that was recreated since is another one.
            pods.get(namespace, name).is_some_and(|pod| pod.since_ms <= *since_ms)
                && state.locate(namespace, name).is_none()
        });
        let missing_ms = u64::try_from(missing_after(&self.config).as_millis()).unwrap_or(u64::MAX);
        let missing = absent.0.iter().filter(|pod| now_ms.saturating_sub(pod.since_ms) >= missing_ms).count();
        let counts = (u32::try_from(absent.0.len()).ok()?, u32::try_from(missing).ok()?);
        state.slots[ticket.slot as usize].absent = absent;
        Some(counts)
    }
}
