//! Plays one history: events, time and the operator's rounds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::event::Event;
use super::operator::{Operator, Stop};
use super::replicas::Resizing;
use super::rules;
use super::store::{Store, key};
use super::world::World;
use crate::common::ManagedObject;
use crate::pki::seeded_keys;

/// The maximum count of rounds in one wait; later ones are further apart.
const ROUNDS: usize = 12;

/// How often one reconcile repeats a round that wrote something.
const MAX_ROUNDS: usize = 8;

/// What a history cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub rounds: u64,
    pub writes: u64,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub why: String,
    pub trace: Vec<String>,
}

struct History {
    world: World,
    operator: Option<Operator>,
    namespace: &'static str,
    /// Namespaces that the operator left before its objects had moved there: nothing records them.
    abandoned: Vec<&'static str>,
    /// When the process starts again.
    restart: i64,
    /// What the operator had noticed in its last round.
    noticed: (u64, u64, u64),
    counts: Counts,
}

/// Plays events, then heals the cluster and waits until the operator is settled.
pub(super) fn play(seed: u64, events: &[Event], verbose: bool) -> Result<Counts, Failure> {
    seeded_keys::seed(Some(seed));
    let mut history = History {
        world: World::new(seed, verbose),
        operator: None,
        namespace: super::NAMESPACES[0],
        abandoned: Vec::new(),
        restart: 0,
        noticed: (0, 0, 0),
        counts: Counts::default(),
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        events.iter().try_for_each(|event| history.happen(event))?;
        history.settle()
    }));
    seeded_keys::seed(None);
    let why = match result {
        Ok(Ok(())) => return Ok(history.counts),
        Ok(Err(why)) => why,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
        }
    };
    Err(Failure { why, trace: history.world.trace.take().unwrap_or_default() })
}

impl History {
    fn happen(&mut self, event: &Event) -> Result<(), String> {
        self.world.note(|| format!("{event:?}"));
        let namespace = self.namespace;
        let world = &mut self.world;
        world.changes += 1;
        match event {
            Event::Wait(seconds) => return self.wait(*seconds).map(drop),
            Event::Nodes(nodes) => world.nodes = *nodes,
            Event::Usage(permille) => world.usage_permille = *permille,
            Event::Fault { number, fault } => world.fault = Some((*number, *fault)),
            Event::Down(seconds) => (self.operator, self.restart) = (None, world.now + seconds),
            Event::Clock(ahead) => {
                world.ahead = *ahead;
                world.armed &= ahead.abs() <= rules::TOLERATED;
            }
            Event::Lag { server, seconds } => world.servers[*server].lag = *seconds,
            Event::Kill(number) => self.change_pod(*number, |pod, now| pod.ends = Some(now + 5)),
            Event::Fail(number) => {
                self.change_pod(*number, |pod, _| (pod.failing, pod.ready) = (true, false));
            }
            Event::FailAll => {
                for pod in &mut world.replicas.all {
                    (pod.failing, pod.ready) = (true, false);
                }
                world.replicas.version += 1;
            }
            Event::Freeze(number) => self.change_pod(*number, |pod, _| pod.frozen = true),
            Event::Thaw => self.thaw(),
            Event::Delete(object) => {
                self.destroy(*object);
                let now = self.world.time();
                _ = self.world.store.delete(key(*object, namespace), None, now);
            }
            Event::Garble(object) => {
                self.destroy(*object);
                self.world.store.edit(key(*object, namespace), |found| {
                    let path = if ManagedObject::API_SERVICES.contains(object) {
                        ["spec", "caBundle"]
                    } else {
                        ["data", "tls.crt"]
                    };
                    found[path[0]][path[1]] = json!(STANDARD.encode("nonsense"));
                    Store::disown(found, &path);
                });
                self.world.armed &= !ManagedObject::API_SERVICES.contains(object);
            }
            Event::Relabel(object) => world.store.edit(key(*object, namespace), |found| {
                found["metadata"]["labels"] = json!({ "team": "other" });
                Store::disown(found, &["metadata", "labels"]);
            }),
            Event::Foreign(object) => {
                let service = json!({ "service": { "name": "metrics-server", "namespace": "kube-system" },
                    "insecureSkipTLSVerify": true });
                world.store.replace_by_foreign(key(*object, namespace), &service);
            }
            Event::Withdraw => self.withdraw(),
            Event::Spec(change) => {
                change.apply(&mut world.spec);
                if let Some(pipeline) = &mut world.pipeline {
                    pipeline.generation += 1;
                    pipeline.spec = Ok(world.spec.clone());
                }
            }
            Event::Renew { new_ca } => world.renew_source(namespace, *new_ca),
            Event::Move(number) => self.move_to(super::NAMESPACES[*number]),
            Event::Autoscaler(exists) => {
                world.replicas.autoscaler = *exists;
                if *exists {
                    // It evicts pods of another size.
                    let ends = Some(world.now + 5);
                    for pod in world.replicas.all.iter_mut().filter(|pod| !pod.autoscaled) {
                        pod.ends = ends;
                    }
                }
            }
            Event::Full(full) => world.replicas.full = *full,
            Event::Resizing(resizing) => world.replicas.resizing = *resizing,
            Event::Recreate => {
                world.recreate = true;
                if let Some(pipeline) = &mut world.pipeline {
                    pipeline.deleting = true;
                }
            }
        }
        self.world.publish();
        Ok(())
    }

    fn change_pod(&mut self, number: usize, change: impl FnOnce(&mut super::replicas::Replica, i64)) {
        let now = self.world.now;
        let namespace = self.namespace;
        let mut pods =
            self.world.replicas.all.iter_mut().filter(|pod| pod.namespace == namespace && pod.ends.is_none());
        if let Some(pod) = pods.nth(number) {
            change(pod, now);
        }
        self.world.replicas.version += 1;
    }

    fn thaw(&mut self) {
        for pod in &mut self.world.replicas.all {
            (pod.frozen, pod.failing) = (false, false);
        }
    }

    /// Disarms the rules on connections where a destruction is one that no operator could bridge: all but that of one object
    /// while everything works.
    fn destroy(&mut self, object: ManagedObject) {
        let matters = [ManagedObject::CaSecret, ManagedObject::ServingSecret].contains(&object)
            || ManagedObject::API_SERVICES.contains(&object);
        let healthy = self.operator.as_ref().is_some_and(|operator| rules::is_healthy(&self.world, operator));
        self.world.armed &= !matters || healthy;
    }

    fn withdraw(&mut self) {
        let foreign: Vec<_> = self.world.store.foreign().copied().collect();
        for key in foreign {
            self.world.store.remove(key);
        }
    }

    fn move_to(&mut self, namespace: &'static str) {
        if self.namespace != namespace {
            let pipeline = self.world.pipeline.as_ref();
            let recorded = pipeline.and_then(|pipeline| pipeline.status.namespace.as_deref());
            if recorded != Some(self.namespace) {
                self.abandoned.push(self.namespace);
            }
            self.abandoned.retain(|known| *known != namespace);
            self.namespace = namespace;
            (self.operator, self.restart) = (None, self.world.now + 2);
        }
    }

    /// Lets time pass. Returns what was written.
    fn wait(&mut self, seconds: i64) -> Result<Vec<String>, String> {
        let end = self.world.now + seconds;
        let (mut writes, mut rounds) = (Vec::new(), 0);
        loop {
            self.world.step(self.namespace);
            self.check()?;
            if self.operator.is_none() && self.world.now >= self.restart {
                self.operator = Some(Operator::start(self.namespace, self.world.now));
            }
            let is_due = self.operator.as_ref().is_some_and(|operator| operator.wake <= self.world.now);
            if is_due || (self.operator.is_some() && self.noticed != self.world.fingerprint()) {
                let written = self.reconcile()?;
                rounds += 1;
                writes.extend(written);
                self.world.step(self.namespace);
                self.check()?;
            }
            if self.world.now >= end {
                return Ok(writes);
            }
            let wake = self.operator.as_ref().map_or(self.restart, |operator| operator.wake);
            let next = self.world.next().unwrap_or(end).min(wake).min(end);
            let spread = if rounds < ROUNDS { 1 } else { (end - self.world.now) / 5 };
            self.world.now = next.max(self.world.now + spread.max(1)).min(end);
        }
    }

    /// Runs rounds until there is nothing more to do now.
    fn reconcile(&mut self) -> Result<Vec<String>, String> {
        let mut writes = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let Some(operator) = &mut self.operator else { break };
            self.noticed = self.world.fingerprint();
            self.counts.rounds += 1;
            let round = match operator.round(&mut self.world) {
                Ok(round) => round,
                Err(Stop::Violation(why)) => return Err(why),
                Err(Stop::Outdated) => continue,
                Err(Stop::Unreachable) => {
                    operator.wake = self.world.now + 5;
                    break;
                }
                Err(Stop::Crash) => {
                    (self.operator, self.restart) = (None, self.world.now + 3);
                    break;
                }
            };
            self.counts.writes += round.writes.len() as u64;
            if round.complete {
                rules::after_round(&self.world, operator)?;
            }
            let moves = self.world.replicas.all.iter().any(|pod| !pod.ready || pod.deferred.is_some());
            let wrote = !round.writes.is_empty();
            operator.pause = if wrote { 2 } else { (operator.pause * 2).min(120) };
            if round.waits || !round.complete || moves || wrote {
                operator.wake = operator.wake.min(self.world.now + operator.pause);
            }
            writes.extend(round.writes);
            // The operator notices its own writes in the responses.
            self.noticed = self.world.fingerprint();
            if !wrote {
                break;
            }
        }
        Ok(writes)
    }

    fn check(&mut self) -> Result<(), String> {
        let now = self.world.time();
        let ended =
            |pod: &super::replicas::Replica| pod.serving.as_ref().is_some_and(|leaf| leaf.not_after <= now);
        if self.world.replicas.all.iter().any(|pod| pod.ready && ended(pod)) {
            // Nothing is served any more; how it gets better is a matter of the rules at the end.
            self.world.armed = false;
        }
        if !self.world.armed
            && let Some(operator) = &self.operator
        {
            self.world.armed = rules::is_healthy(&self.world, operator);
        }
        rules::after_write(&self.world)
    }

    /// Ends all disturbances, and checks that the desired state is reached and then nothing is written.
    fn settle(&mut self) -> Result<(), String> {
        self.world.note(|| "the disturbances end".to_owned());
        self.world.fault = None;
        self.world.ahead = 0;
        self.world.replicas.autoscaler = false;
        self.world.replicas.full = false;
        self.world.replicas.resizing = Resizing::Works;
        self.thaw();
        self.withdraw();
        let ends = Some(self.world.now + 5);
        for pod in self.world.replicas.all.iter_mut().filter(|pod| pod.autoscaled) {
            pod.ends = ends;
        }
        self.restart = self.restart.min(self.world.now + 3);
        self.world.changes += 1;
        self.world.publish();
        let mut quiet = 0;
        let mut writes = Vec::new();
        for _ in 0..40 {
            writes = self.wait(300)?;
            quiet = if writes.is_empty() { quiet + 1 } else { 0 };
            let due = self.operator.as_ref().and_then(|operator| operator.plan.as_ref()?.nanny_due);
            if quiet >= 2 && due.is_none() {
                break;
            }
        }
        let operator = self.operator.as_ref().ok_or("in the end, the operator does not run")?;
        rules::is_as_desired(&self.world, operator, &self.abandoned)?;
        if quiet < 2 {
            return Err(format!("the operator writes without end: {writes:?}"));
        }
        // Rounds that nothing calls for, as the operator runs every few seconds.
        for _ in 0..3 {
            self.world.now += 5;
            self.world.step(self.namespace);
            let operator = self.operator.as_mut().ok_or("in the end, the operator does not run")?;
            if operator.wake <= self.world.now {
                break;
            }
            let writes = self.reconcile()?;
            if !writes.is_empty() {
                return Err(format!("a settled operator writes: {writes:?}"));
            }
        }
        Ok(())
    }
}
