//! The changes of a healthy cluster: containers restart, Deployments scale, nodes come and go.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::env::FleetProcess;
use super::super::fleet::{Change, SPARE_NODES, hash};
use super::super::population::{CONTAINERS, EXTRA_PODS, Pod, Population, uid};
use super::super::seed::Etcd;
use crate::error::Result;

/// A container restarts this often.
const RESTARTS: Duration = Duration::from_secs(3);
/// Deployments scale up, and down again, this often.
const SCALES: Duration = Duration::from_secs(10);
/// The number of pods that a scale-up adds.
const SCALED: u32 = 5;
/// The number of added pods from which on the oldest ones are removed.
const MAX_EXTRA: usize = 200;
/// A node is removed, and another one added, this often.
const NODES: Duration = Duration::from_secs(60);
/// The time from the end of a pod's containers to the deletion of its object.
const DELETED_AFTER: Duration = Duration::from_secs(1);

/// The state of the cluster that changes.
pub(super) struct Churn {
    population: Population,
    /// The pods whose objects exist, each with its node and the time since which all its containers run.
    pods: HashMap<Pod, Placed>,
    /// The numbers of the nodes that exist.
    nodes: Vec<u32>,
    /// Pods beside those of the population, oldest first.
    extra: VecDeque<Pod>,
    /// Changes of objects that wait for their time.
    pending: Vec<(Instant, Object)>,
    /// Removed nodes, oldest first.
    removed: VecDeque<u32>,
    next_pod: u32,
    next_node: u32,
    random: u64,
    /// When each kind of change is next: restarts, scaling, nodes.
    next: [Instant; 3],
    /// What happened so far.
    pub(super) counts: Counts,
}

/// The number of changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) restarts: u32,
    pub(super) pods_added: u32,
    pub(super) pods_removed: u32,
    pub(super) nodes_added: u32,
    pub(super) nodes_removed: u32,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    node: u32,
    running_since: Instant,
}

/// A change of an object.
#[derive(Clone, Copy, Debug)]
enum Object {
    Put(Pod),
    Delete(Pod),
}

impl Churn {
    /// Returns the state of a cluster that has just been started.
    pub(super) fn new(population: Population, now: Instant) -> Self {
        let since = now.checked_sub(Duration::from_secs(3600)).unwrap_or(now);
        let placed = |pod| Placed { node: population.node_of(pod), running_since: since };
        Self {
            population,
            pods: (0..population.pods()).map(Pod).map(|pod| (pod, placed(pod))).collect(),
            nodes: (0..population.nodes).collect(),
            extra: VecDeque::new(),
            pending: Vec::new(),
            removed: VecDeque::new(),
            next_pod: population.pods(),
            next_node: population.nodes,
            random: 1,
            next: [now + RESTARTS, now + SCALES, now + NODES],
            counts: Counts::default(),
        }
    }

    /// Returns the pods that run on an existing node, undisturbed for this time.
    pub(super) fn running_for(&self, time: Duration, now: Instant) -> impl Iterator<Item = Pod> {
        let long = move |placed: &Placed| placed.running_since + time <= now;
        self.pods.iter().filter(move |(_, placed)| long(placed)).map(|(pod, _)| *pod)
    }

    /// Returns the node of a pod.
    pub(super) fn node_of(&self, pod: Pod) -> Option<u32> {
        self.pods.get(&pod).map(|placed| placed.node)
    }

    /// Returns the number of nodes.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Makes the changes that are due.
    pub(super) async fn tick(&mut self, fleet: &mut FleetProcess, etcd: &mut Etcd) -> Result<()> {
        let now = Instant::now();
        let due: Vec<Object> =
            self.pending.extract_if(.., |(at, _)| *at <= now).map(|(_, object)| object).collect();
        for object in due {
            self.apply(object, etcd).await?;
        }
        if self.is_due(0, RESTARTS, now) {
            self.restart(fleet, now)?;
        }
        if self.is_due(1, SCALES, now) {
            for _ in 0..SCALED {
                let node = self.pick_node();
                if self
                    .extra
                    .iter()
                    .filter(|pod| self.pods.get(pod).is_some_and(|one| one.node == node))
                    .count()
                    < EXTRA_PODS as usize
                {
                    let after_ms = self.up_to(1500);
                    let pod = self.add_pod(node, after_ms, fleet, now)?;
                    self.extra.push_back(pod);
                }
            }
            while self.extra.len() > MAX_EXTRA {
                let Some(pod) = self.extra.pop_front() else { break };
                self.end_pod(pod, fleet, now)?;
            }
        }
        if self.is_due(2, NODES, now) {
            self.change_nodes(fleet, etcd, now).await?;
        }
        Ok(())
    }

    fn is_due(&mut self, kind: usize, interval: Duration, now: Instant) -> bool {
        let due = self.next[kind] <= now;
        if due {
            self.next[kind] += interval;
        }
        due
    }

    fn restart(&mut self, fleet: &mut FleetProcess, now: Instant) -> Result<()> {
        let node = self.pick_node();
        let mut pods: Vec<Pod> = self
            .pods
            .iter()
            .filter(|(_, placed)| placed.node == node && placed.running_since < now)
            .map(|(pod, _)| *pod)
            .collect();
        pods.sort_by_key(|pod| pod.0);
        if pods.is_empty() {
            return Ok(());
        }
        let pod = pods[self.place_in(pods.len())];
        let (container, after_ms) = (self.place_in(CONTAINERS.len()), 500 + self.up_to(2000));
        fleet.change(node, &Change::Restart { pod, container, after_ms })?;
        if let Some(placed) = self.pods.get_mut(&pod) {
            placed.running_since = now + Duration::from_millis(after_ms);
        }
        self.counts.restarts += 1;
        Ok(())
    }

    /// Lets a pod start on a node; its object follows, Running.
    fn add_pod(&mut self, node: u32, after_ms: u64, fleet: &mut FleetProcess, now: Instant) -> Result<Pod> {
        let pod = Pod(self.next_pod);
        self.next_pod += 1;
        fleet.change(node, &Change::AddPod { pod, after_ms })?;
        let running_since = now + Duration::from_millis(after_ms);
        self.pods.insert(pod, Placed { node, running_since });
        self.pending.push((running_since, Object::Put(pod)));
        self.counts.pods_added += 1;
        Ok(pod)
    }

    /// Lets a pod end; the deletion of its object follows.
    fn end_pod(&mut self, pod: Pod, fleet: &mut FleetProcess, now: Instant) -> Result<()> {
        if let Some(placed) = self.pods.remove(&pod) {
            fleet.change(placed.node, &Change::RemovePod { pod })?;
            self.pending.push((now + DELETED_AFTER, Object::Delete(pod)));
            self.counts.pods_removed += 1;
        }
        Ok(())
    }

    /// Removes a node with its pods, and adds one: the node that was removed before, rebooted, or a new one.
    async fn change_nodes(&mut self, fleet: &mut FleetProcess, etcd: &mut Etcd, now: Instant) -> Result<()> {
        let at = self.place_in(self.nodes.len());
        let gone = self.nodes.swap_remove(at);
        etcd.delete(&Etcd::node_key(gone)).await?;
        let mut pods: Vec<Pod> =
            self.pods.iter().filter(|(_, placed)| placed.node == gone).map(|(pod, _)| *pod).collect();
        pods.sort_by_key(|pod| pod.0);
        self.pending.retain(|(_, object)| !matches!(object, Object::Put(pod) if pods.contains(pod)));
        for pod in pods {
            self.pods.remove(&pod);
            etcd.delete(&Etcd::pod_key(pod)).await?;
            self.counts.pods_removed += 1;
        }
        self.counts.nodes_removed += 1;
        let reboots = self.counts.nodes_removed.is_multiple_of(2) && !self.removed.is_empty();
        let new = if reboots || self.next_node == self.population.nodes + SPARE_NODES {
            self.removed.pop_front().unwrap_or(gone)
        } else {
            self.next_node += 1;
            self.next_node - 1
        };
        self.removed.push_back(gone);
        fleet.change(new, &Change::Boot)?;
        let mut node = self.population.node_object(new);
        node["metadata"]["uid"] = Value::from(uid(5, self.counts.nodes_added));
        etcd.put(&Etcd::node_key(new), &node).await?;
        self.nodes.push(new);
        self.counts.nodes_added += 1;
        for _ in 0..self.population.pods_per_node {
            let after_ms = 5000 + self.up_to(15_000);
            self.add_pod(new, after_ms, fleet, now)?;
        }
        Ok(())
    }

    async fn apply(&mut self, object: Object, etcd: &mut Etcd) -> Result<()> {
        match object {
            Object::Put(pod) => match self.pods.get(&pod) {
                Some(placed) => {
                    etcd.put(&Etcd::pod_key(pod), &self.population.pod_object_on(pod, placed.node)).await
                }
                None => Ok(()),
            },
            Object::Delete(pod) => etcd.delete(&Etcd::pod_key(pod)).await,
        }
    }

    fn pick_node(&mut self) -> u32 {
        let at = self.place_in(self.nodes.len());
        self.nodes[at]
    }

    #[allow(clippy::cast_possible_truncation, reason = "below a length")]
    fn place_in(&mut self, length: usize) -> usize {
        self.up_to(length as u64) as usize
    }

    /// Returns a number below `limit`; the sequence is the same in each run.
    fn up_to(&mut self, limit: u64) -> u64 {
        self.random = hash(self.random);
        self.random % limit
    }
}
