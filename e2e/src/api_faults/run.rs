//! One run: a journey with one fault, and the rules that must hold afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::Target;
use super::env::Env;
use super::fault::Fault;
use super::inventory::{self, Inventory};
use super::journey::Journey;
use super::proxy::Write;
use super::sampler::Sampler;
use super::{NAMESPACES, foreign};
use crate::error::Result;

/// A journey is over when it is complete and nothing was written for this time.
const QUIET: Duration = Duration::from_millis(1300);

/// What an undisturbed run of a journey did.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    /// The operator's writes, without the renewals of the Lease.
    pub(super) writes: Vec<String>,
    /// All kinds of requests.
    pub(super) requests: BTreeSet<Target>,
    /// The number of CAs that were stored.
    pub(super) cas: usize,
    /// The objects afterwards.
    pub(super) inventory: Inventory,
    /// From the trigger to the last write.
    pub(super) took: Duration,
}

/// What a run with a fault showed.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) journey: Journey,
    pub(super) fault: Fault,
    /// Whether the fault was injected.
    pub(super) reached: bool,
    pub(super) took: Duration,
    /// The rules that were broken.
    pub(super) violations: Vec<String>,
}

/// The state of a run when it ended.
struct End {
    took: Duration,
    reached: bool,
    writes: Vec<Write>,
    inventory: Inventory,
    violations: Vec<String>,
}

/// Runs a journey undisturbed.
pub(super) async fn undisturbed(env: &mut Env, journey: Journey) -> Result<(Baseline, Vec<String>)> {
    let end = run(env, journey, &Fault::Nothing).await?;
    let baseline = Baseline {
        writes: steps(&end.writes).map(|one| one.call.to_string()).collect(),
        requests: env.proxy.seen(),
        cas: cas(&end.writes),
        inventory: end.inventory,
        took: end.took,
    };
    Ok((baseline, end.violations))
}

/// Runs a journey with a fault, and compares it with the undisturbed run.
pub(super) async fn disturbed(
    env: &mut Env,
    journey: Journey,
    fault: &Fault,
    baseline: &Baseline,
) -> Result<Outcome> {
    let mut end = run(env, journey, fault).await?;
    let cas = cas(&end.writes);
    if cas > baseline.cas {
        end.violations.push(format!("{cas} CAs were stored, {} in the undisturbed run", baseline.cas));
    }
    let differences = inventory::differences(&baseline.inventory, &end.inventory);
    end.violations
        .extend(differences.into_iter().map(|what| format!("other objects than undisturbed: {what}")));
    if matches!(fault, Fault::Pause(_)) {
        end.violations.extend(two_writers(&end.writes));
    }
    Ok(Outcome {
        journey,
        fault: fault.clone(),
        reached: end.reached,
        took: end.took,
        violations: end.violations,
    })
}

async fn run(env: &mut Env, journey: Journey, fault: &Fault) -> Result<End> {
    journey.prepare(env).await?;
    env.restart_operator(fault.clone()).await?;
    if matches!(fault, Fault::Pause(_)) {
        env.start_operator(1).await?;
    }
    let before = journey.before(env).await?;
    let foreign = foreign::versions(&env.api).await?;
    let sampler = Sampler::start(Arc::clone(&env.sampling_api), journey.is_deletion());
    env.proxy.begin();
    let began = Instant::now();
    journey.trigger(env).await?;
    let (mut violations, mut last) = (Vec::new(), String::new());
    loop {
        keep_operators(env, fault).await?;
        match journey.lack(env, &before).await? {
            None if is_quiet(env, began) => break,
            None => {}
            Some(lack) => last = lack,
        }
        if began.elapsed() > fault.limit() {
            violations.push(format!("not complete within {} s: {last}", fault.limit().as_secs()));
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    violations.extend(sampler.violations());
    drop(sampler);
    let writes = env.proxy.writes();
    for (path, version) in foreign::versions(&env.api).await? {
        if foreign.get(&path) != Some(&version) {
            violations.push(format!("the foreign object {path} was changed"));
        }
    }
    let last_write = steps(&writes).map(|one| one.sent).max().unwrap_or(began);
    Ok(End {
        took: if violations.is_empty() { last_write - began } else { began.elapsed() },
        reached: env.proxy.fired(),
        writes,
        inventory: inventory::read(&env.api).await?,
        violations,
    })
}

/// Restarts an operator that ended, as the kubelet does, and continues a stopped one when another one leads.
async fn keep_operators(env: &mut Env, fault: &Fault) -> Result<()> {
    if matches!(fault, Fault::Pause(_)) {
        if env.proxy.fired() && env.proxy.writes().iter().any(is_claim_of_the_second) {
            env.operators.iter().filter(|one| one.number() == 0).for_each(super::operator::Operator::resume);
        }
        return Ok(());
    }
    if env.operators.iter_mut().all(super::operator::Operator::is_running) {
        return Ok(());
    }
    env.operators.clear();
    for namespace in NAMESPACES {
        env.delete_lease(namespace).await?;
    }
    env.start_operator(0).await
}

fn is_quiet(env: &Env, began: Instant) -> bool {
    let last = steps(&env.proxy.writes()).map(|one| one.sent).max();
    last.unwrap_or(began).elapsed() >= QUIET
}

/// Returns the writes without those of the leader election.
fn steps(writes: &[Write]) -> impl Iterator<Item = &Write> {
    writes.iter().filter(|one| !one.call.target.is_election())
}

/// Returns the number of distinct CAs that were stored.
fn cas(writes: &[Write]) -> usize {
    writes.iter().filter_map(|one| one.ca.as_ref()).collect::<BTreeSet<_>>().len()
}

fn is_claim_of_the_second(write: &Write) -> bool {
    write.call.target.is_election() && write.operator == 1 && write.status < 300
}

/// Returns the writes of the first operator after the second one acquired the Lease.
fn two_writers(writes: &[Write]) -> Option<String> {
    let Some(claimed) = writes.iter().find(|one| is_claim_of_the_second(one)).map(|one| one.sent) else {
        return Some("the second operator did not acquire the Lease".to_owned());
    };
    let late: Vec<_> = steps(writes).filter(|one| one.operator == 0 && one.sent > claimed).collect();
    late.first().map(|first| {
        format!("{} writes of an operator without the Lease; the first: {}", late.len(), first.call)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_faults::call::Call;

    fn write(operator: usize, method: &str, path: &str, at: Instant) -> Write {
        Write { call: Call::of(method, path, ""), operator, status: 200, sent: at, ca: None }
    }

    #[test]
    fn a_write_after_another_operator_acquired_the_lease_is_a_violation() {
        const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/a/leases/l";
        const SECRET: &str = "/api/v1/namespaces/a/secrets/s";
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        let before = write(0, "PATCH", SECRET, at(1));
        let claim = write(1, "PUT", LEASE, at(2));
        let refused = Write { status: 409, ..write(0, "PUT", LEASE, at(3)) };
        assert_eq!(two_writers(&[before.clone(), claim.clone(), refused.clone()]), None);
        let late = write(0, "PATCH", SECRET, at(3));
        let found = two_writers(&[before.clone(), claim, refused, late]);
        assert_eq!(
            found.as_deref(),
            Some("1 writes of an operator without the Lease; the first: patch secrets/s")
        );
        assert!(two_writers(&[before]).is_some_and(|text| text.contains("did not acquire")));
    }

    #[test]
    fn counts_each_ca_once() {
        let stored = |ca: &str| Write {
            ca: Some(ca.to_owned()),
            ..write(0, "PATCH", "/api/v1/namespaces/a/secrets/metrics-core-ca", Instant::now())
        };
        assert_eq!(cas(&[stored("a"), stored("b"), stored("a")]), 2);
    }
}
