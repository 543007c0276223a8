//! What must hold at every moment, whatever happens.

use std::collections::BTreeSet;

use crds::{Adoption, CertificateSource};
use jiff::SignedDuration;
use serde_json::Value;

use super::operator::{Operator, api_services, blocked};
use super::store::{Key, is_labelled, key};
use super::world::{Registration, World};
use crate::common::ManagedObject;
use crate::nanny::resize::includes;
use crate::pki::{BACKDATE, Rollover};
use crate::plan::{Action, Desired, differences};

/// The clocks that certificates tolerate, in seconds.
pub(super) const TOLERATED: i64 = 300;

type Checked = Result<(), String>;

fn require(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}

/// Checks an object before it is applied.
pub(super) fn may_apply(world: &World, key: Key, desired: &Desired) -> Checked {
    let is_registration = ManagedObject::API_SERVICES.contains(&key.1);
    let adopts = world.spec.api_service.adoption == Adoption::Adopt;
    require(!world.store.is_foreign(key) || (is_registration && adopts), || {
        format!("a foreign object is changed: {}", key.1)
    })?;
    if is_registration {
        has_endpoints(world, key, desired)?;
        announces_what_is_served(world, desired)?;
    }
    if key.1 == ManagedObject::CaSecret {
        needs_new_ca(world, key, desired)?;
    }
    Ok(())
}

/// An APIService gets no Service without ready endpoints that it did not have before.
fn has_endpoints(world: &World, key: Key, desired: &Desired) -> Checked {
    let to = desired.body["spec"]["service"]["namespace"].as_str().unwrap_or_default();
    let before = world.registration(key).filter(|before| before.ours);
    let same = before.is_some_and(|before| before.namespace == to);
    require(same || world.endpoints(to) > 0, || {
        format!("{} references namespace {to}, which has no ready endpoint", key.1)
    })
}

/// The `caBundle` has the CA of every certificate that a ready replica serves.
fn announces_what_is_served(world: &World, desired: &Desired) -> Checked {
    let text =
        |pointer: &str| desired.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let registration = Registration {
        namespace: text("/spec/service/namespace"),
        bundle: text("/spec/caBundle"),
        ours: true,
    };
    is_trusted(world, &registration, "the desired caBundle")
}

fn is_trusted(world: &World, registration: &Registration, whose: &str) -> Checked {
    if !world.armed || !registration.ours {
        return Ok(());
    }
    world
        .replicas
        .ready(&registration.namespace)
        .filter_map(|one| Some((one, one.serving.as_ref()?)))
        .try_for_each(|(replica, leaf)| {
            require(world.trusts(&registration.bundle, leaf), || {
                format!("{whose} does not have the CA of the certificate that {} serves", replica.uid)
            })?;
            require(leaf.not_before <= world.time(), || {
                format!("{} serves a certificate of the future", replica.uid)
            })
        })
}

/// A CA is replaced only with need, by an independent calculation.
fn needs_new_ca(world: &World, key: Key, desired: &Desired) -> Checked {
    let Some(stored) = world.stored(key) else { return Ok(()) };
    let new = world.parse(desired.body["data"]["tls.crt"].as_str().unwrap_or_default());
    if new.first() == Some(&stored) {
        return Ok(());
    }
    let clock = world.clock();
    let spec = std::time::Duration::from(world.spec.certificates.ca_validity);
    let validity = stored.not_after.as_second() - stored.issued().as_second();
    // A third is left, and a twentieth of jitter.
    let due = stored.not_after.as_second() - validity / 3 - validity / 20 - 2;
    let allowed = u64::try_from(validity).unwrap_or_default() > (spec + BACKDATE).as_secs();
    let is_needed = allowed || clock.as_second() >= due || clock < stored.not_before || !stored.is_ca;
    require(is_needed, || "the CA is replaced without need".to_owned())
}

/// Checks an object before it is deleted.
pub(super) fn may_delete(world: &World, key: Key, uid: &str) -> Checked {
    let Some(found) = world.store.get(key) else { return Ok(()) };
    require(found.metadata.uid.as_deref() != Some(uid) || !world.store.is_foreign(key), || {
        format!("a foreign object is deleted: {}", key.1)
    })?;
    let needed = [
        ManagedObject::ServiceAccount,
        ManagedObject::Role,
        ManagedObject::RoleBinding,
        ManagedObject::ServingSecret,
        ManagedObject::Service,
        ManagedObject::Deployment,
    ];
    if key.0.is_empty() || !needed.contains(&key.1) {
        return Ok(());
    }
    let serves = |registration: &Registration| registration.ours && registration.namespace == key.0;
    let stored = api_services().into_iter().filter_map(|one| world.registration(one)).any(|one| serves(&one));
    require(!stored, || format!("{} is deleted while an APIService references {}", key.1, key.0))?;
    let is_move = world.pipeline.as_ref().is_some_and(|pipeline| !pipeline.deleting);
    // A moment after the APIServices, a deletion continues; a move waits for every kube-apiserver.
    let known = world.servers.iter().flat_map(|server| server.known.values()).any(serves);
    require(!is_move || !known, || format!("{} is deleted while a kube-apiserver uses {}", key.1, key.0))
}

/// Checks the state after each write of the operator, and whenever time passes.
pub(super) fn after_write(world: &World) -> Checked {
    world.servers.iter().enumerate().try_for_each(|(number, server)| {
        server
            .known
            .values()
            .try_for_each(|known| is_trusted(world, known, &format!("what kube-apiserver {number} knows")))
    })
}

/// Checks the stored certificate after a round without a fault: it is renewed in time.
pub(super) fn after_round(world: &World, operator: &Operator) -> Checked {
    let external = world.spec.certificates.source != CertificateSource::SelfSigned;
    let is_settled = matches!(operator.rollover, Some(Rollover::Settled | Rollover::Retiring));
    if external || !is_settled || world.ahead.abs() > TOLERATED || !blocked(operator.plan.as_ref()).is_empty()
    {
        return Ok(());
    }
    let Some(leaf) = world.stored(key(ManagedObject::ServingSecret, operator.namespace)) else {
        return Ok(());
    };
    let third = SignedDuration::try_from(leaf.validity() / 3).expect("a duration");
    let latest = leaf.not_after - third + SignedDuration::from_secs(2);
    require(world.clock() <= latest, || {
        format!("the serving certificate was due at {latest} and is not renewed")
    })
}

/// Whether everything works, so that from now on nothing may break it.
pub(super) fn is_healthy(world: &World, operator: &Operator) -> bool {
    let registered: Vec<_> = api_services().into_iter().filter_map(|key| world.registration(key)).collect();
    let now = world.time();
    world.ahead.abs() <= TOLERATED
        && registered.len() == 2
        && registered.iter().all(|one| one.ours && one.namespace == operator.namespace)
        && operator.rollover == Some(Rollover::Settled)
        && world.servers.iter().all(|server| server.known.values().eq(registered.iter()))
        && world.replicas.ready(operator.namespace).count() > 0
        && world.replicas.ready(operator.namespace).all(|replica| {
            let Some(leaf) = &replica.serving else { return false };
            leaf.valid_at(now)
                && registered.iter().all(|one| {
                    world.trusts(&one.bundle, leaf)
                        && world.parse(&one.bundle).iter().all(|ca| ca.valid_at(now))
                })
        })
        && [ManagedObject::CaSecret, ManagedObject::ServingSecret].into_iter().all(|secret| {
            let external = world.spec.certificates.source != CertificateSource::SelfSigned;
            (external && secret == ManagedObject::CaSecret)
                || world.stored(key(secret, operator.namespace)).is_some()
        })
}

/// Checks that the desired state is reached. In `abandoned` namespaces something may be left.
pub(super) fn is_as_desired(world: &World, operator: &Operator, abandoned: &[&str]) -> Checked {
    let problems = blocked(operator.plan.as_ref());
    require(problems.is_empty(), || format!("in the end, objects are blocked: {problems:?}"))?;
    let Some(Action::Maintain(plan)) = operator.plan.as_ref().map(|plan| &plan.action) else {
        return Err(format!("in the end, the plan is {:?}", operator.plan.as_ref().map(|plan| &plan.action)));
    };
    require(operator.rollover == Some(Rollover::Settled), || format!("in the end: {:?}", operator.rollover))?;
    require(plan.migration.is_none(), || format!("in the end, a move is incomplete: {:?}", plan.migration))?;
    require(is_healthy(world, operator), || "in the end, not everything works".to_owned())?;
    for desired in &plan.desired {
        let found = world.store.get(key(desired.object, operator.namespace));
        let differing = found.map(|found| differences(desired, found));
        require(differing.as_ref().is_some_and(Vec::is_empty), || {
            format!("in the end: {desired:?}: {differing:?}")
        })?;
    }
    let wanted: BTreeSet<_> =
        plan.desired.iter().map(|desired| key(desired.object, operator.namespace)).collect();
    let left: Vec<_> = world
        .store
        .keys()
        .filter(|key| !wanted.contains(key) && world.store.get(**key).is_some_and(is_labelled))
        .filter(|key| !world.store.is_foreign(**key) && !abandoned.contains(&key.0))
        .collect();
    require(left.is_empty(), || format!("in the end, objects are left: {left:?}"))?;
    let pods: Vec<_> = world.replicas.of(operator.namespace).collect();
    let replicas = usize::try_from(world.spec.metrics_core.replicas).expect("positive");
    let all = world.replicas.all.iter().filter(|pod| !abandoned.contains(&pod.namespace)).count();
    require(pods.len() == replicas && all == replicas, || {
        format!("in the end, {} pods of {replicas} here, {} in all", pods.len(), all)
    })?;
    require(pods.iter().all(|pod| pod.ready && pod.set == pods[0].set), || {
        "in the end, a rollout hangs".to_owned()
    })?;
    let sized = |pod: &&super::replicas::Replica| {
        plan.sizing.wanted.as_ref().is_none_or(|wanted| includes(&pod.actual, wanted))
    };
    require(pods.iter().all(sized), || {
        let has: Vec<_> = pods.iter().map(|pod| &pod.actual).collect();
        format!("in the end, a pod has another size than {:?}: {has:?}", plan.sizing.wanted)
    })
}
