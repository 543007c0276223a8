//! The operator's process: it observes, plans with the real [`Planner`], and writes as the apply step does.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{CertificateSource, FINALIZER, MetricsPipelineStatus, Reason};
use futures::FutureExt as _;
use jiff::Timestamp;
use serde_json::Value;

use super::store::{Key, Refused, key};
use super::world::{Done, World};
use crate::apply::{Outcome, Resized};
use crate::common::{ManagedObject, OptionalPermissions, Problem};
use crate::nanny::resize::{
    RejectionKind, ResizeRejection, ResizeState, is_active, resize_state, spec_resources,
};
use crate::observe::{
    ExpectedCertificate, Found, KubeletCa, Observed, PreviousNamespace, Proof, Replica, Seen, ServingSource,
    moves_from,
};
use crate::pki::Rollover;
use crate::plan::{Action, Desired, MaintainPlan, Plan, Planner, Removal, differences};
use crate::settings::Settings;

/// Why a round ended early.
pub(super) enum Stop {
    /// The plan must be made again.
    Outdated,
    /// kube-apiserver is lost.
    Unreachable,
    /// The process ended.
    Crash,
    /// A rule was broken.
    Violation(String),
}

/// The process.
pub(super) struct Operator {
    pub namespace: &'static str,
    planner: Planner,
    pub observed: Observed,
    /// The version of the store that was observed.
    seen: u64,
    announced: BTreeMap<ManagedObject, (Value, i64)>,
    /// When each resize was rejected.
    rejected: BTreeMap<String, i64>,
    pub rollover: Option<Rollover>,
    pub plan: Option<Plan>,
    /// When the next round is due, by the true clock.
    pub wake: i64,
    pub pause: i64,
}

/// What a round did.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Objects, pods and status that were written.
    pub writes: Vec<String>,
    /// Whether nothing failed.
    pub complete: bool,
    /// Whether the next round has more to do, or to wait for.
    pub waits: bool,
}

impl Operator {
    pub(super) fn start(namespace: &'static str, now: i64) -> Self {
        let settings = Settings {
            namespace: namespace.to_owned(),
            image: Some("metrics-core:0".to_owned()),
            permissions: OptionalPermissions { front_proxy: true, csr_approval: true, cert_manager: true },
            ..Settings::default()
        };
        let objects = ManagedObject::ALL.map(|object| (object, Found::Absent)).into();
        Self {
            namespace,
            planner: Planner::new(settings),
            observed: Observed { objects, ..Observed::default() },
            seen: 0,
            announced: BTreeMap::new(),
            rejected: BTreeMap::new(),
            rollover: None,
            plan: None,
            wake: now,
            pause: 1,
        }
    }

    /// Runs one round.
    pub(super) fn round(&mut self, world: &mut World) -> Result<Round, Stop> {
        let mut round = Round { complete: true, ..Round::default() };
        self.observe(world);
        let now = world.clock();
        let plan =
            self.planner.plan(&self.observed, now).now_or_never().expect("no slow key").expect("a plan");
        let result = match &plan.action {
            Action::Idle => Ok(()),
            Action::AddFinalizer => Self::set_finalizer(world, true, &mut round),
            Action::RemoveFinalizer => Self::set_finalizer(world, false, &mut round),
            Action::Orphan(_) => Err(Stop::Violation("nobody orphans the MetricsPipeline".to_owned())),
            Action::TearDown(plan) => {
                let mut problems = Outcome::default();
                Self::remove(world, self.namespace, &plan.removals, &mut problems, &mut round)
            }
            Action::Maintain(maintain) => {
                self.rollover = maintain.certificates.as_ref().map(|plan| plan.rollover);
                self.maintain(world, maintain, now, &mut round)
            }
        };
        let due = self.due(&plan, now, world.now);
        self.wake = due.unwrap_or(i64::MAX);
        self.plan = Some(plan);
        result.map(|()| round)
    }

    fn observe(&mut self, world: &World) {
        let namespace = self.namespace;
        for object in ManagedObject::ALL {
            let key = key(object, namespace);
            let is_known = matches!(self.observed.objects.get(&object), Some(Found::Present(_)));
            match world.store.get(key) {
                Some(_) if is_known && world.store.changed(key) <= self.seen => {}
                Some(found) => {
                    _ = self.observed.objects.insert(object, Found::Present(Box::new(found.clone())));
                }
                None => _ = self.observed.objects.insert(object, Found::Absent),
            }
            self.announce(object, world.now);
        }
        self.seen = world.store.version();
        self.observed.announced_for = self
            .announced
            .iter()
            .map(|(object, (_, since))| {
                (*object, Duration::from_secs(u64::try_from(world.now - since).expect("monotonic")))
            })
            .collect();
        self.observed.pipelines = world.pipeline.iter().cloned().collect();
        let from = world.pipeline.as_ref().and_then(|pipeline| {
            let from = moves_from(pipeline, &self.observed, namespace)?;
            super::NAMESPACES.into_iter().find(|known| *known == from)
        });
        self.observed.previous_namespace = from.map(|from| {
            let moving = ManagedObject::ALL.into_iter().filter(|object| object.is_in_operator_namespace());
            let found = |object| match world.store.get(key(object, from)) {
                Some(found) => Found::Present(Box::new(found.clone())),
                None => Found::Absent,
            };
            PreviousNamespace {
                namespace: from.to_owned(),
                objects: moving.map(|object| (object, found(object))).collect(),
            }
        });
        self.observed.pods = world.replicas.of(namespace).map(super::replicas::Replica::pod).collect();
        self.observed.ready_endpoints = Some(world.endpoints(namespace));
        self.observed.kubelet_ca = KubeletCa::Found(include_str!("../plan/testdata/ca.pem").to_owned());
        self.observed.serving_source = self.serving_source(world);
        self.observed.nodes = Some(usize::try_from(world.nodes).expect("small"));
        self.observed.usage = world.usage(namespace);
        // A rejected resize is requested again after a minute.
        self.rejected.retain(|_, since| world.now - *since < 60);
        let rejected = &self.rejected;
        self.observed.resize_rejections.retain(|uid, _| rejected.contains_key(uid));
    }

    fn announce(&mut self, object: ManagedObject, now: i64) {
        if !ManagedObject::API_SERVICES.contains(&object) {
            return;
        }
        let Some(found) = self.observed.object(object) else {
            self.announced.remove(&object);
            return;
        };
        let announcement = serde_json::json!([found.data["spec"]["service"], found.data["spec"]["caBundle"]]);
        if self.announced.get(&object).is_none_or(|(known, _)| *known != announcement) {
            self.announced.insert(object, (announcement, now));
        }
    }

    fn serving_source(&self, world: &World) -> ServingSource {
        let spec = world.pipeline.as_ref().and_then(|pipeline| pipeline.spec.as_ref().ok());
        let found = || {
            let source = world.source.as_ref().filter(|(namespace, _)| *namespace == self.namespace);
            source.map_or(ServingSource::Missing, |(_, source)| ServingSource::Found(source.clone()))
        };
        match spec.map(|spec| spec.certificates.source) {
            Some(CertificateSource::Secret) => found(),
            Some(CertificateSource::CertManager) if world.is_issued(self.namespace) => found(),
            Some(CertificateSource::CertManager) => ServingSource::Missing,
            _ => ServingSource::Unused,
        }
    }

    fn maintain(
        &mut self,
        world: &mut World,
        plan: &MaintainPlan,
        now: Timestamp,
        round: &mut Round,
    ) -> Result<(), Stop> {
        let mut outcome = Outcome::default();
        for desired in &plan.desired {
            if outcome.problems.contains_key(&desired.object) {
                continue;
            }
            if let Some(problem) = self.blocked(desired.object, plan, &outcome) {
                outcome.problems.insert(desired.object, problem);
                continue;
            }
            self.apply(world, desired, &mut outcome, round)?;
        }
        Self::remove(world, self.namespace, &plan.removals, &mut outcome, round)?;
        if let Some(migration) = &plan.migration {
            let from = super::NAMESPACES.into_iter().find(|known| *known == migration.from).expect("known");
            Self::remove(world, from, &migration.removals, &mut outcome, round)?;
            round.waits = true;
        }
        let resized = self.resize(world, plan, now, round)?;
        if round.writes.is_empty() {
            let proof = plan.expected_certificate.as_ref().map(|expected| self.prove(world, expected));
            round.waits |= proof.is_some();
            self.observed.proof = proof;
        }
        round.complete &= outcome.problems.is_empty();
        round.waits |= !plan.blocked.is_empty() || !outcome.problems.is_empty();
        let pipeline = world.pipeline.as_ref().expect("a pipeline");
        let before = pipeline.status.nanny.as_ref();
        let status = MetricsPipelineStatus {
            namespace: Some(plan.namespace.clone()),
            nanny: crate::report::nanny_status(before, &plan.sizing, &outcome, &resized, now),
            ..MetricsPipelineStatus::default()
        };
        if status != pipeline.status {
            match world.write("status", |world| {
                world.pipeline.as_mut().expect("a pipeline").status = status;
                Ok(())
            })? {
                Done::Yes(_) => round.writes.push("status".to_owned()),
                Done::Failed => round.complete = false,
            }
        }
        Ok(())
    }

    /// Returns why something that the object requires is missing, as the writer does.
    fn blocked(&self, object: ManagedObject, plan: &MaintainPlan, outcome: &Outcome) -> Option<Problem> {
        object.requires().iter().find_map(|required| {
            let problem = plan.blocked.get(required).or_else(|| outcome.problems.get(required))?;
            let by_value = matches!(
                required,
                ManagedObject::CaSecret | ManagedObject::ServingSecret | ManagedObject::FrontProxyCaSecret
            );
            let exists = self.observed.object(*required).is_some();
            (!exists || (by_value && object != ManagedObject::Deployment))
                .then(|| Problem::new(Reason::WaitingForDependency, problem.message.clone()))
        })
    }

    fn apply(
        &mut self,
        world: &mut World,
        desired: &Desired,
        outcome: &mut Outcome,
        round: &mut Round,
    ) -> Result<(), Stop> {
        let differing = match self.observed.object(desired.object) {
            None => vec!["all".to_owned()],
            Some(found) => differences(desired, found),
        };
        if differing.is_empty() {
            return Ok(());
        }
        let key = key(desired.object, self.namespace);
        let note = format!("apply {} {} ({})", key.0, desired.object, differing.join(" "));
        match world.apply(&note, key, desired)? {
            Done::Yes(Ok(())) => {
                let written = world.store.get(key).expect("written").clone();
                self.observed.objects.insert(desired.object, Found::Present(Box::new(written)));
                self.announce(desired.object, world.now);
                round.writes.push(note);
                outcome.applied.push(desired.object);
                Ok(())
            }
            Done::Yes(Err(_)) => Err(Stop::Outdated),
            Done::Failed => {
                let problem = Problem::new(Reason::ApplyFailed, "an error");
                outcome.problems.insert(desired.object, problem);
                Ok(())
            }
        }
    }

    fn remove(
        world: &mut World,
        namespace: &'static str,
        removals: &[Removal],
        outcome: &mut Outcome,
        round: &mut Round,
    ) -> Result<(), Stop> {
        for removal in removals {
            let key = key(removal.object, namespace);
            let note = format!("delete {namespace} {}", removal.object);
            match world.delete(&note, key, &removal.uid)? {
                Done::Yes(_) => {
                    outcome.deleted.push(removal.object);
                    round.writes.push(note);
                }
                Done::Failed => {
                    let problem = Problem::new(Reason::ApplyFailed, "an error");
                    outcome.problems.insert(removal.object, problem);
                }
            }
        }
        Ok(())
    }

    fn resize(
        &mut self,
        world: &mut World,
        plan: &MaintainPlan,
        now: Timestamp,
        round: &mut Round,
    ) -> Result<Resized, Stop> {
        let mut resized = Resized::default();
        let Some(wanted) = plan.sizing.wanted.as_ref().filter(|_| plan.sizing.template_from.is_none()) else {
            return Ok(resized);
        };
        for pod in self.observed.pods.clone().iter().filter(|pod| is_active(pod)) {
            let rejections = &self.observed.resize_rejections;
            if resize_state(pod, wanted, rejections, now) != ResizeState::NotRequested {
                continue;
            }
            let uid = pod.metadata.uid.clone().expect("a uid");
            let rejection = |message: &str, kind| ResizeRejection {
                wanted: wanted.clone(),
                message: message.to_owned(),
                kind,
            };
            let note = format!("resize {uid}");
            let kind = match world.replicas.resizing {
                super::replicas::Resizing::Works => None,
                super::replicas::Resizing::Unserved => Some(RejectionKind::NotInPlace),
                super::replicas::Resizing::Infeasible => Some(RejectionKind::Infeasible),
            };
            if let Some(kind) = kind {
                self.rejected.insert(uid.clone(), world.now);
                self.observed.resize_rejections.insert(uid, rejection("no", kind));
                round.waits = true;
                continue;
            }
            let done = world.write(&note, |world| {
                world.replicas.version += 1;
                let pod = world.replicas.all.iter_mut().find(|replica| replica.uid == uid);
                pod.map(|replica| replica.resize(wanted)).ok_or(Refused::NotFound)
            })?;
            if matches!(done, Done::Yes(Ok(()))) {
                resized.from.push(spec_resources(pod).cloned().unwrap_or_default());
                round.writes.push(note);
            } else {
                round.complete = false;
            }
        }
        Ok(resized)
    }

    fn prove(&self, world: &World, expected: &ExpectedCertificate) -> Proof {
        let serves = |replica: &super::replicas::Replica| match &replica.serving {
            Some(serving) if **serving == expected.certificate => Seen::Expected,
            Some(_) => Seen::Other,
            None => Seen::Nothing("nothing".to_owned()),
        };
        let replicas =
            world.replicas.of(self.namespace).filter(|one| one.ends.is_none() && one.unplaced.is_none());
        Proof {
            certificate: expected.certificate.clone(),
            replicas: replicas
                .map(|one| Replica {
                    pod: one.uid.clone(),
                    uid: one.uid.clone(),
                    ready: one.ready,
                    seen: serves(one),
                })
                .collect(),
        }
    }

    fn set_finalizer(world: &mut World, wanted: bool, round: &mut Round) -> Result<(), Stop> {
        let done = world.write("finalizer", |world| {
            if wanted {
                world.pipeline.as_mut().expect("one").finalizers.push(FINALIZER.to_owned());
            } else {
                world.pipeline = None;
            }
            Ok(())
        })?;
        match done {
            Done::Yes(_) => round.writes.push("finalizer".to_owned()),
            Done::Failed => round.complete = false,
        }
        Ok(())
    }

    /// Returns when the plan requires the next round, by the true clock.
    fn due(&self, plan: &Plan, clock: Timestamp, now: i64) -> Option<i64> {
        let certificates = match &plan.action {
            Action::Maintain(plan) => plan.certificates.as_ref().map(|plan| plan.next),
            _ => None,
        };
        let until = |at: Timestamp| at.duration_since(clock).as_secs().max(0) + 1;
        let retry = self.rejected.values().map(|since| since + 60 - now).min();
        [certificates.map(until), plan.nanny_due.map(until), retry]
            .into_iter()
            .flatten()
            .min()
            .map(|until| now.saturating_add(until.max(1)))
    }
}

/// Returns what a plan blocks, for messages.
pub(super) fn blocked(plan: Option<&Plan>) -> Vec<String> {
    match plan.map(|plan| &plan.action) {
        Some(Action::Maintain(plan)) => {
            plan.blocked.iter().map(|(object, problem)| format!("{object}: {}", problem.message)).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the key of an APIService.
pub(super) fn api_services() -> [Key; 2] {
    ManagedObject::API_SERVICES.map(|object| key(object, ""))
}
