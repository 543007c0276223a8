//! The pods of metrics-core: the Deployment controller, the scheduler and the kubelets.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::store::Store;
use crate::common::{METRICS_CORE, ManagedObject};
use crate::pki::Certificate;

/// How the cluster handles in-place resizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resizing {
    /// Pods are resized.
    Works,
    /// kube-apiserver does not serve the subresource.
    Unserved,
    /// The nodes are too small.
    Infeasible,
}

/// One pod.
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a separate state")]
pub(super) struct Replica {
    pub namespace: &'static str,
    pub uid: String,
    /// The hash of its template.
    pub set: u64,
    pub again: bool,
    /// Requests and limits in its spec, and those that the kubelet actuated.
    pub spec: ResourceRequirements,
    pub actual: ResourceRequirements,
    pub created: i64,
    /// Since when the scheduler has no place for it.
    pub unplaced: Option<i64>,
    /// Since when the kubelet defers its resize.
    pub deferred: Option<i64>,
    /// Whether a VerticalPodAutoscaler set its resources at creation.
    pub autoscaled: bool,
    /// The certificate that it serves, and the version of the Secret that it last read.
    pub serving: Option<Arc<Certificate>>,
    pub loaded: u64,
    /// When it reads the Secret that changed.
    pub reload: Option<i64>,
    /// It does not read the Secret again.
    pub frozen: bool,
    /// Its probe fails.
    pub failing: bool,
    /// When it is gone.
    pub ends: Option<i64>,
    pub ready: bool,
}

impl Replica {
    /// Returns the pod as kube-apiserver shows it.
    pub(super) fn pod(&self) -> Pod {
        let updates = "Pod resources updated by core-vpa: container 0: cpu request, memory request";
        let annotations = [
            self.again.then_some((crate::plan::objects::resources::AGAIN, "true")),
            self.autoscaled.then_some(("vpaUpdates", updates)),
        ];
        let annotations: BTreeMap<_, _> = annotations.into_iter().flatten().collect();
        let time = |second: i64| Timestamp::from_second(second).expect("a time").to_string();
        let mut conditions =
            vec![json!({ "type": "Ready", "status": if self.ready { "True" } else { "False" } })];
        if let Some(since) = self.unplaced {
            conditions
                .push(json!({ "type": "PodScheduled", "status": "False", "lastTransitionTime": time(since),
                "message": "0/3 nodes are available: 3 Insufficient memory." }));
        }
        if let Some(since) = self.deferred {
            conditions.push(json!({ "type": "PodResizePending", "status": "True", "reason": "Deferred",
                "message": "no room", "lastTransitionTime": time(since) }));
        }
        let mut metadata = json!({ "name": self.uid, "uid": self.uid, "namespace": self.namespace,
            "annotations": annotations, "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": format!("set-{}", self.set) }] });
        if self.ends.is_some() {
            metadata["deletionTimestamp"] = json!(time(self.created));
        }
        let phase = if self.unplaced.is_some() { "Pending" } else { "Running" };
        let statuses = self.unplaced.is_none().then(|| {
            json!([{ "name": METRICS_CORE, "image": "i", "imageID": "", "ready": self.ready, "restartCount": 0,
                "resources": self.actual }])
        });
        serde_json::from_value(json!({
            "metadata": metadata,
            "spec": { "containers": [{ "name": METRICS_CORE, "resources": self.spec,
                "ports": [{ "name": "https", "containerPort": 10250 }] }] },
            "status": { "phase": phase, "podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": statuses },
        }))
        .expect("a pod")
    }

    /// Sets the amounts of a resize.
    pub(super) fn resize(&mut self, wanted: &ResourceRequirements) {
        let merge = |base: &mut Option<BTreeMap<String, Quantity>>,
                     patch: &Option<BTreeMap<String, Quantity>>| {
            base.get_or_insert_default().extend(patch.clone().unwrap_or_default());
        };
        merge(&mut self.spec.requests, &wanted.requests);
        merge(&mut self.spec.limits, &wanted.limits);
    }
}

/// The pods and what happens to them.
pub(super) struct Replicas {
    pub all: Vec<Replica>,
    pub seed: u64,
    count: u64,
    /// No node has room for more.
    pub full: bool,
    pub resizing: Resizing,
    pub autoscaler: bool,
    /// Changes with each change of a pod.
    pub version: u64,
}

impl Replicas {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            all: Vec::new(),
            seed,
            count: 0,
            full: false,
            resizing: Resizing::Works,
            autoscaler: false,
            version: 0,
        }
    }

    pub(super) fn of(&self, namespace: &str) -> impl Iterator<Item = &Replica> {
        self.all.iter().filter(move |replica| replica.namespace == namespace)
    }

    pub(super) fn ready(&self, namespace: &str) -> impl Iterator<Item = &Replica> {
        self.of(namespace).filter(|replica| replica.ready && replica.ends.is_none())
    }

    /// Returns a delay of up to `most` seconds that follows from the seed and the pod.
    fn delay(&self, what: &str, most: u64) -> i64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, what).hash(&mut hasher);
        i64::try_from(1 + hasher.finish() % most).expect("small")
    }

    /// Runs the controllers once.
    pub(super) fn step(&mut self, store: &mut Store, secrets: &Secrets<'_>, now: i64) {
        for namespace in super::NAMESPACES {
            self.deployment(store, namespace, now);
        }
        let (full, mut changed) = (self.full, false);
        let delays: Vec<_> = self.all.iter().map(|replica| self.delay(&replica.uid, 40)).collect();
        for (replica, delay) in self.all.iter_mut().zip(delays) {
            let before = (replica.ready, replica.unplaced, replica.deferred, replica.loaded);
            if !full {
                replica.unplaced = None;
            }
            if replica.unplaced.is_none() {
                changed |= actuate(replica, full, now);
                load(replica, secrets, delay, now);
            }
            replica.ready = replica.unplaced.is_none()
                && replica.serving.is_some()
                && !replica.failing
                && now >= replica.created + delay / 2 + 5;
            changed |= before != (replica.ready, replica.unplaced, replica.deferred, replica.loaded);
        }
        let count = self.all.len();
        self.all.retain(|replica| replica.ends.is_none_or(|ends| now < ends));
        self.version += u64::from(changed || count != self.all.len());
    }

    /// Returns when a pod next changes on its own.
    pub(super) fn next(&self, now: i64) -> Option<i64> {
        let of = |replica: &Replica| {
            let start = replica.created + self.delay(&replica.uid, 40) / 2 + 5;
            let start = Some(start).filter(|_| !replica.ready);
            [replica.ends, replica.reload, start].into_iter().flatten().filter(|at| *at > now).min()
        };
        self.all.iter().filter_map(of).min()
    }

    fn deployment(&mut self, store: &mut Store, namespace: &'static str, now: i64) {
        let key = (namespace, ManagedObject::Deployment);
        let active = |replica: &&mut Replica| replica.namespace == namespace && replica.ends.is_none();
        let Some(found) = store.get(key) else {
            // The garbage collector.
            self.all.iter_mut().filter(active).for_each(|replica| replica.ends = Some(now + 5));
            return;
        };
        let generation = found.metadata.generation;
        let spec = &found.data["spec"];
        if found.metadata.deletion_timestamp.is_some() {
            for replica in self.all.iter_mut().filter(active) {
                replica.ends = Some(now + 5);
            }
            if self.of(namespace).next().is_none() {
                store.remove(key);
            }
            return;
        }
        let wanted = usize::try_from(spec["replicas"].as_i64().unwrap_or(1)).expect("positive");
        let set = {
            let mut hasher = DefaultHasher::new();
            spec["template"].to_string().hash(&mut hasher);
            hasher.finish()
        };
        if spec["paused"] != json!(true) {
            let bound = |name: &str, default: usize| {
                let bound = spec.pointer(&format!("/strategy/rollingUpdate/{name}"));
                bound.and_then(Value::as_u64).map_or(default, |bound| usize::try_from(bound).expect("small"))
            };
            let recreate = spec["strategy"]["type"] == "Recreate";
            let (surge, unavailable) =
                if recreate { (0, wanted) } else { (bound("maxSurge", 1), bound("maxUnavailable", 0)) };
            let template = spec["template"].clone();
            self.roll_out(namespace, &template, set, (wanted, surge, unavailable), now);
        }
        let replicas = self.of(namespace).filter(|replica| replica.ends.is_none());
        let (total, updated) =
            replicas.fold((0, 0), |(total, updated), one| (total + 1, updated + u64::from(one.set == set)));
        let status =
            json!({ "observedGeneration": generation, "replicas": total, "updatedReplicas": updated });
        if store.get(key).is_some_and(|found| found.data["status"] != status) {
            store.edit(key, |object| object["status"] = status);
        }
    }

    fn roll_out(
        &mut self,
        namespace: &'static str,
        template: &Value,
        set: u64,
        (wanted, surge, unavailable): (usize, usize, usize),
        now: i64,
    ) {
        let counts = |all: &[Replica]| {
            let active = all.iter().filter(|one| one.namespace == namespace && one.ends.is_none());
            active.fold((0, 0, 0), |(total, new, new_unready), one| {
                let is_new = one.set == set;
                (total + 1, new + usize::from(is_new), new_unready + usize::from(is_new && !one.ready))
            })
        };
        let (mut total, mut new, _) = counts(&self.all);
        while new < wanted && total < wanted + surge {
            self.create(namespace, template, set, now);
            (total, new) = (total + 1, new + 1);
        }
        let (total, new, new_unready) = counts(&self.all);
        let mut cleanup = (total + unavailable).saturating_sub(wanted + new_unready);
        let mut surplus = new.saturating_sub(wanted);
        // Those that are not ready go first.
        for ready in [false, true] {
            for replica in &mut self.all {
                if replica.namespace != namespace || replica.ends.is_some() || replica.ready != ready {
                    continue;
                }
                let left = if replica.set == set { &mut surplus } else { &mut cleanup };
                if *left > 0 {
                    *left -= 1;
                    replica.ends = Some(now + 5);
                    self.version += 1;
                }
            }
        }
    }

    fn create(&mut self, namespace: &'static str, template: &Value, set: u64, now: i64) {
        self.count += 1;
        self.version += 1;
        let resources = template.pointer("/spec/containers/0/resources").cloned().unwrap_or_default();
        let mut spec: ResourceRequirements = serde_json::from_value(resources).unwrap_or_default();
        if self.autoscaler {
            for (amount, value) in [("cpu", "33m"), ("memory", "99Mi")] {
                spec.requests.get_or_insert_default().insert(amount.to_owned(), Quantity(value.to_owned()));
            }
        }
        let again = template
            .pointer("/metadata/annotations")
            .is_some_and(|annotations| annotations.get(crate::plan::objects::resources::AGAIN).is_some());
        self.all.push(Replica {
            namespace,
            uid: format!("pod-{}", self.count),
            set,
            again,
            actual: spec.clone(),
            spec,
            created: now,
            unplaced: self.full.then_some(now),
            deferred: None,
            autoscaled: self.autoscaler,
            serving: None,
            loaded: 0,
            reload: None,
            frozen: false,
            failing: false,
            ends: None,
            ready: false,
        });
    }
}

/// The serving Secrets: version, and certificate if it is usable.
pub(super) type Secrets<'a> = BTreeMap<&'a str, (u64, Option<Arc<Certificate>>)>;

/// Reads the serving Secret some time after it changed. An unusable one changes nothing.
fn load(replica: &mut Replica, secrets: &Secrets<'_>, delay: i64, now: i64) {
    let Some((version, certificate)) = secrets.get(replica.namespace) else { return };
    if replica.frozen || replica.loaded == *version {
        return;
    }
    let due = *replica.reload.get_or_insert(if replica.serving.is_some() { now + delay } else { now });
    if now >= due {
        replica.reload = None;
        replica.loaded = *version;
        if certificate.is_some() {
            replica.serving.clone_from(certificate);
        }
    }
}

/// The kubelet actuates a resize, or defers it while the node has no room.
fn actuate(replica: &mut Replica, full: bool, now: i64) -> bool {
    if replica.actual == replica.spec {
        replica.deferred = None;
        return false;
    }
    if full && crate::nanny::resize::grows(&replica.actual, &replica.spec) {
        replica.deferred.get_or_insert(now);
        return false;
    }
    replica.deferred = None;
    replica.actual = replica.spec.clone();
    true
}
