//! The pods of one fake kubelet and their current samples.

use super::super::population::{CONTAINERS, MAX_MILLICORES, Pod, Population};
use super::anomaly::{Anomaly, Injected, STORM_MS};
use super::sampling::{BUSY_MS, IDLE_MS, NODE_MS, SampleTimes, hash};
use crate::testbed::cluster::KubeletKind;

/// The age of the containers when the fleet starts.
const AGE_MS: u64 = 24 * 3_600_000;
/// The time from the boot of a node to its kubelet's start.
const BOOT_MS: u64 = 60_000;
/// The maximum time from a container's start to cAdvisor's first sample.
const FIRST_SAMPLE_MS: u64 = 1000;
/// The CPU time that a container uses to start.
const START_CPU_US: u64 = 1000;

/// A kubelet: its pods, and when each container is sampled.
pub(super) struct KubeletState {
    kind: KubeletKind,
    node: u32,
    booted_ms: u64,
    millicores: u64,
    /// In the order of the body.
    pods: Vec<PodState>,
    injected: Option<Injected>,
}

struct PodState {
    pod: Pod,
    /// The labels that identify it.
    labels: String,
    started_ms: u64,
    containers: [ContainerState; CONTAINERS.len()],
    times: SampleTimes,
    /// The time of its current sample.
    sampled_ms: u64,
}

struct ContainerState {
    started_ms: u64,
    times: SampleTimes,
    /// The time of its current sample; later than now if it has not started.
    sampled_ms: u64,
    restarts: u32,
}

/// What a response contains.
pub(super) struct Samples<'a> {
    pub(super) containers: Vec<ContainerSample<'a>>,
    pub(super) pods: Vec<PodSample<'a>>,
    pub(super) node: NodeSample,
    pub(super) scrape_error: bool,
}

/// A container's sample.
#[derive(Clone, Copy)]
pub(super) struct ContainerSample<'a> {
    pub(super) pod: Pod,
    pub(super) container: usize,
    pub(super) labels: &'a str,
    pub(super) at_ms: u64,
    pub(super) cpu_us: u64,
    pub(super) memory: u64,
    pub(super) start_ms: u64,
}

/// A pod's sample.
pub(super) struct PodSample<'a> {
    pub(super) pod: Pod,
    pub(super) labels: &'a str,
    pub(super) at_ms: u64,
    pub(super) cpu_us: u64,
    pub(super) memory: u64,
}

/// A node's sample.
pub(super) struct NodeSample {
    pub(super) at_ms: u64,
    pub(super) cpu_us: u64,
    pub(super) memory: u64,
}

impl KubeletState {
    /// Returns the kubelet of a node with its pods of the population, which run since a day.
    pub(super) fn new(population: Population, node: u32, kind: KubeletKind, now_ms: u64) -> Self {
        let mut state = Self::booted(population, node, kind, now_ms);
        if node < population.nodes {
            state.booted_ms = now_ms - AGE_MS - BOOT_MS;
            let pods = population.pods_of(node);
            state.pods = pods.map(|pod| PodState::running(pod, now_ms)).collect();
            state.pods.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        state
    }

    /// Returns the kubelet of a node without pods, which has just started.
    pub(super) fn booted(population: Population, node: u32, kind: KubeletKind, now_ms: u64) -> Self {
        let millicores = population.node_millicores();
        Self { kind, node, booted_ms: now_ms - BOOT_MS, millicores, pods: Vec::new(), injected: None }
    }

    /// Lets a container end now and start again at `at_ms`.
    pub(super) fn restart(&mut self, pod: Pod, container: usize, at_ms: u64) {
        let of_pod = self.pods.iter_mut().find(|one| one.pod == pod);
        if let Some(state) = of_pod.and_then(|one| one.containers.get_mut(container)) {
            *state = ContainerState::started(pod, container, at_ms, state.restarts + 1);
        }
    }

    /// Adds a pod that starts at `at_ms`.
    pub(super) fn add(&mut self, pod: Pod, at_ms: u64) {
        let new = PodState::started(pod, at_ms);
        let at = self.pods.partition_point(|one| one.labels < new.labels);
        self.pods.insert(at, new);
    }

    /// Removes a pod.
    pub(super) fn remove(&mut self, pod: Pod) {
        self.pods.retain(|one| one.pod != pod);
    }

    /// Makes the responses anomalous from now on, or normal again.
    pub(super) fn inject(&mut self, anomaly: Option<Anomaly>, now_ms: u64) {
        self.injected = anomaly.map(|anomaly| Injected { anomaly, since_ms: now_ms, responses: 0 });
    }

    /// Returns the content of the response at `now_ms`.
    pub(super) fn samples(&mut self, now_ms: u64) -> Samples<'_> {
        if let Some(injected) = &mut self.injected {
            injected.responses += 1;
            if injected.anomaly == Anomaly::RestartStorm {
                self.storm(now_ms);
            }
        }
        self.sample(now_ms);
        let injected = self.injected;
        let mut samples = self.view(injected.map_or(now_ms, |injected| injected.now(now_ms)));
        if let Some(injected) = injected {
            injected.distort(self.node, Pod(self.node), &mut samples);
        }
        samples
    }

    /// Restarts the containers of the first pod that run longer than the limit.
    fn storm(&mut self, now_ms: u64) {
        for container in 0..CONTAINERS.len() {
            let pod = self.pods.iter().find(|one| one.pod == Pod(self.node));
            let started = pod.map(|one| one.containers[container].started_ms);
            if started.is_some_and(|started| started + STORM_MS <= now_ms) {
                self.restart(Pod(self.node), container, now_ms);
            }
        }
    }

    /// Takes the samples that are due.
    fn sample(&mut self, now_ms: u64) {
        let (injected, node) = (self.injected, self.node);
        let of_kind = |kind, times: &mut SampleTimes, now_ms| match kind {
            KubeletKind::Cached => times.last_at(now_ms),
            KubeletKind::OnDemand => now_ms,
        };
        for pod in &mut self.pods {
            let now_of = |is_first| injected.map_or(now_ms, |injected| injected.now_of(is_first, now_ms));
            pod.sampled_ms = of_kind(self.kind, &mut pod.times, now_of(false));
            for (at, container) in pod.containers.iter_mut().enumerate() {
                let now_ms = now_of(pod.pod == Pod(node) && at == 0);
                let sampled = of_kind(self.kind, &mut container.times, now_ms);
                // A container that has not started has no sample.
                container.sampled_ms = sampled.max(container.started_ms);
            }
        }
    }

    fn view(&self, now_ms: u64) -> Samples<'_> {
        let containers =
            (0..CONTAINERS.len()).flat_map(|at| self.pods.iter().map(move |pod| pod.sample_of(at)));
        let pods = self.pods.iter().filter(|pod| pod.sampled_ms <= now_ms).map(PodState::sample);
        let at_ms = (now_ms - (now_ms + u64::from(self.node) * 997) % NODE_MS).max(self.booted_ms + BOOT_MS);
        let node = NodeSample {
            at_ms,
            cpu_us: self.millicores * (at_ms - self.booted_ms),
            memory: 8_000_000_000 + u64::from(self.node) * 4096 + at_ms % 100_000 * 4096,
        };
        Samples {
            containers: containers.filter(|sample| sample.at_ms <= now_ms).collect(),
            pods: pods.collect(),
            node,
            scrape_error: false,
        }
    }
}

impl PodState {
    fn running(pod: Pod, now_ms: u64) -> Self {
        let mut state = Self::started(pod, now_ms - AGE_MS - u64::from(pod.0 % 1000));
        state.times = SampleTimes::running(now_ms, BUSY_MS, seed(pod, CONTAINERS.len(), 0));
        for (at, container) in state.containers.iter_mut().enumerate() {
            container.times = SampleTimes::running(now_ms, period_ms(pod, at), seed(pod, at, 0));
        }
        state
    }

    fn started(pod: Pod, at_ms: u64) -> Self {
        let seed = seed(pod, CONTAINERS.len(), 0);
        let times = SampleTimes::from(first_sample(at_ms, seed), BUSY_MS, seed);
        Self {
            pod,
            labels: format!("namespace=\"{}\",pod=\"{}\"", pod.namespace(), pod.name()),
            started_ms: at_ms,
            containers: std::array::from_fn(|at| ContainerState::started(pod, at, at_ms, 0)),
            times,
            sampled_ms: at_ms,
        }
    }

    fn sample_of(&self, container: usize) -> ContainerSample<'_> {
        let state = &self.containers[container];
        let (pod, at_ms) = (self.pod, state.sampled_ms);
        let cpu_us = START_CPU_US + millicores(pod, container) * (at_ms - state.started_ms);
        let memory = working_set(pod, container, at_ms);
        ContainerSample {
            pod,
            container,
            labels: &self.labels,
            at_ms,
            cpu_us,
            memory,
            start_ms: state.started_ms,
        }
    }

    fn sample(&self) -> PodSample<'_> {
        let (pod, at_ms) = (self.pod, self.sampled_ms);
        let all = || 0..CONTAINERS.len();
        let millicores: u64 = all().map(|at| millicores(pod, at)).sum();
        PodSample {
            pod,
            labels: &self.labels,
            at_ms,
            cpu_us: START_CPU_US + millicores * at_ms.saturating_sub(self.started_ms),
            memory: all().map(|at| working_set(pod, at, at_ms)).sum(),
        }
    }
}

impl ContainerState {
    fn started(pod: Pod, container: usize, at_ms: u64, restarts: u32) -> Self {
        let seed = seed(pod, container, restarts);
        let times = SampleTimes::from(first_sample(at_ms, seed), period_ms(pod, container), seed);
        Self { started_ms: at_ms, times, sampled_ms: u64::MAX, restarts }
    }
}

fn seed(pod: Pod, container: usize, restarts: u32) -> u64 {
    u64::from(pod.0) << 24 | u64::from(restarts) << 2 | container as u64
}

fn first_sample(started_ms: u64, seed: u64) -> u64 {
    started_ms + 100 + hash(seed) % (FIRST_SAMPLE_MS - 100)
}

fn period_ms(pod: Pod, container: usize) -> u32 {
    if is_idle(pod, container) { IDLE_MS } else { BUSY_MS }
}

/// Returns whether the usage of a container never changes: true for a quarter of them.
fn is_idle(pod: Pod, container: usize) -> bool {
    hash(u64::from(pod.0) << 2 | container as u64).is_multiple_of(4)
}

/// Returns the CPU that a container uses, in millicores: its true rate, at any time.
pub(in super::super) fn millicores(pod: Pod, container: usize) -> u64 {
    if is_idle(pod, container) {
        return 0;
    }
    1 + u64::from(pod.0.wrapping_mul(7919).wrapping_add(if container == 0 { 0 } else { 31 })) % MAX_MILLICORES
}

/// The most memory of a container.
pub(in super::super) const MAX_MEMORY: u64 = 128 << 20;

/// Returns the memory of a container, which varies a little unless it is idle.
fn working_set(pod: Pod, container: usize, at_ms: u64) -> u64 {
    let varies = if is_idle(pod, container) { 0 } else { at_ms / 1000 * u64::from(pod.0 % 17) % 512 };
    (u64::from(4_000 + pod.0.wrapping_mul(104_729) % 20_000) + container as u64 * 777 + varies) * 4096
}

#[cfg(test)]
mod tests;
