//! The recommended size, and when it changes: not for a node that comes and goes, once for a burst of nodes, at once
//! when memory is about to run out, and down only after a long delay.

use std::cmp::Ordering;

use crds::ScalingMode;
use jiff::Timestamp;

use super::Population;
use super::addon_resizer::compare;
use super::measured::{Usage, UsageModel, cpu_step, memory_step, required_by_usage};
use super::policy::{Policy, SizeEstimator};
use super::reason::SizeReason;
use super::scale_target::{Direction, ScaleTarget};
use super::size::Size;

/// The observations at one moment.
#[derive(Clone, Copy, Debug)]
pub struct NannyInput {
    /// The number of nodes or containers, as the scaling mode counts them; `None` if unknown.
    pub population: Option<u64>,
    /// The usage of the replicas; `None` if unknown.
    pub usage: Option<Usage>,
    /// The largest memory request among the running containers, in bytes.
    pub current_memory: Option<u64>,
    /// When a current container was last OOM-killed.
    pub last_oom_kill: Option<Timestamp>,
    /// The time of the observations.
    pub now: Timestamp,
}

/// A recommended size and what it is based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecommendedSize {
    /// The requests.
    pub size: Size,
    /// The number of nodes or containers at the time of the decision.
    pub population: u64,
    /// Why the size was chosen.
    pub reason: SizeReason,
    /// When the size last changed; `None` for the initial size.
    pub changed: Option<Timestamp>,
}

/// The result of [`Nanny::recommend`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// The size; `None` while the cluster size is unknown.
    pub recommended: Option<RecommendedSize>,
    /// When to call [`Nanny::recommend`] again at the latest.
    pub next: Option<Timestamp>,
}

/// Recommends a size over time.
#[derive(Clone, Debug, Default)]
pub struct Nanny {
    policy: Option<Policy>,
    recommended: Option<RecommendedSize>,
    /// The scaling mode of the recommended size: a number of nodes is not comparable with one of containers.
    recommended_for: Option<ScalingMode>,
    usage_model: UsageModel,
    cpu: ScaleTarget,
    memory: ScaleTarget,
    /// The number of nodes or containers, and since when it has not changed.
    population: Option<(u64, Timestamp)>,
    /// Whether the user changed the policy, which applies without a delay.
    at_once: bool,
    /// The last OOM kill that raised the size.
    handled_oom_kill: Option<Timestamp>,
}

impl Nanny {
    /// Evaluates the observations and returns the recommended size. `recorded` is the size in the status of the
    /// MetricsPipeline; it is used after a restart of the operator.
    pub fn recommend(
        &mut self,
        policy: Policy,
        recorded: Option<RecommendedSize>,
        input: &NannyInput,
    ) -> Advice {
        if self.policy.is_some_and(|before| before != policy) {
            self.at_once = true;
            (self.cpu, self.memory) = (ScaleTarget::default(), ScaleTarget::default());
            if self.policy.is_some_and(|before| before.scaling_mode != policy.scaling_mode) {
                (self.usage_model, self.population) = (UsageModel::default(), None);
            }
        }
        self.policy = Some(policy);
        self.usage_model.bound_times(input.now);
        let population = input.population.map(|number| Population::new(policy.scaling_mode, number));
        if let Some(population) = population {
            self.usage_model.update(population, input.usage, input.now);
        }
        if self.recommended.is_none() {
            self.recommended = recorded.or_else(|| initial(policy, &self.usage_model, population, input));
            self.recommended_for = Some(policy.scaling_mode);
        }
        self.bound_times(input.now);
        let next = self.advance(policy, population, input);
        Advice { recommended: self.recommended.clone(), next }
    }

    /// Moves times in the future to now: the clock was moved back, or another clock recorded them. Delays that began then would
    /// otherwise last until the clock is there again.
    fn bound_times(&mut self, now: Timestamp) {
        if let Some((_, since)) = &mut self.population {
            *since = now.min(*since);
        }
        if let Some(changed) = self.recommended.as_mut().and_then(|recommended| recommended.changed.as_mut())
        {
            *changed = now.min(*changed);
        }
        self.cpu.bound_times(now);
        self.memory.bound_times(now);
    }

    /// Changes the recommended size if that is due. Returns when to evaluate again.
    fn advance(
        &mut self,
        policy: Policy,
        population: Option<Population>,
        input: &NannyInput,
    ) -> Option<Timestamp> {
        let before = self.recommended.clone()?;
        let now = input.now;
        let target = self.target(policy, &before, population, input);
        self.cpu.update(before.size.cpu, target.cpu, now);
        self.memory.update(before.size.memory, target.memory, now);
        let stable_since = match (self.population, input.population) {
            (Some((known, since)), Some(number)) if known == number => since,
            (_, Some(number)) => {
                self.population = Some((number, now));
                now
            }
            (_, None) => Timestamp::MIN,
        };
        let is_urgent =
            target.memory > before.size.memory && is_urgent(&before, input, self.handled_oom_kill);
        let is_due = |target: &ScaleTarget| {
            let due = target.due(&policy, before.changed, stable_since);
            due.is_some_and(|due| {
                due <= now || self.at_once || (is_urgent && target.direction() == Some(Direction::Up))
            })
        };
        let (cpu_is_due, memory_is_due) = (is_due(&self.cpu), is_due(&self.memory));
        // If both change in the same direction, they change together, to save a resize: up as soon as one is due,
        // down when both are.
        let together = self.cpu.direction() == self.memory.direction();
        let waits =
            together && self.cpu.direction() == Some(Direction::Down) && !(cpu_is_due && memory_is_due);
        if waits || !(cpu_is_due || memory_is_due) {
            self.at_once = false;
            let due =
                [&self.cpu, &self.memory].map(|target| target.due(&policy, before.changed, stable_since));
            let due = due.into_iter().flatten();
            return if waits { due.max() } else { due.min() };
        }
        let take = |target: &mut ScaleTarget, is_due: bool, current: u64| {
            if target.direction().is_some() && (is_due || together) {
                target.amount(&policy, now)
            } else {
                current
            }
        };
        let size = Size {
            cpu: take(&mut self.cpu, cpu_is_due, before.size.cpu),
            memory: take(&mut self.memory, memory_is_due, before.size.memory),
        };
        if input.last_oom_kill.is_some() {
            self.handled_oom_kill = input.last_oom_kill;
        }
        let number = population.map_or(before.population, Population::number);
        let population = Population::new(policy.scaling_mode, number);
        let reason = if std::mem::take(&mut self.at_once) {
            SizeReason::PolicyChanged
        } else if self.recommended_for != Some(policy.scaling_mode) {
            SizeReason::Population(population)
        } else {
            change_reason(policy, &before, size, population, input)
        };
        self.recommended = Some(RecommendedSize { size, population: number, reason, changed: Some(now) });
        self.recommended_for = Some(policy.scaling_mode);
        (self.cpu, self.memory) = (ScaleTarget::default(), ScaleTarget::default());
        None
    }

    /// Returns the size for the current observations. An amount that is unknown or near enough stays as it is.
    fn target(
        &self,
        policy: Policy,
        recommended: &RecommendedSize,
        population: Option<Population>,
        input: &NannyInput,
    ) -> Size {
        let current = recommended.size;
        let mut target = match (population, policy.estimator) {
            (None, _) => current,
            (Some(population), SizeEstimator::Measured) => {
                let is_comparable = self.recommended_for == Some(policy.scaling_mode);
                let recorded = is_comparable.then_some((current, recommended.population));
                match self.usage_model.estimate(population, input.usage, recorded, policy.min) {
                    None => current,
                    Some(estimate) => Size {
                        cpu: stepped(current.cpu, estimate.cpu, cpu_step, policy.min.cpu, policy.max.cpu),
                        memory: stepped(
                            current.memory,
                            estimate.memory,
                            memory_step,
                            policy.min.memory,
                            policy.max.memory,
                        ),
                    },
                }
            }
            (Some(population), SizeEstimator::Linear(_) | SizeEstimator::Exponential(..)) => {
                let expected = policy.by_formula(population.number()).unwrap_or(current);
                let keep_if_near =
                    |current: u64, expected: u64| match compare(current, expected, policy.threshold) {
                        Ordering::Equal => current,
                        Ordering::Less | Ordering::Greater => expected,
                    };
                Size {
                    cpu: keep_if_near(current.cpu, expected.cpu),
                    memory: keep_if_near(current.memory, expected.memory),
                }
            }
        };
        if policy.estimator == SizeEstimator::Measured
            && is_unhandled(input.last_oom_kill, recommended, self.handled_oom_kill)
        {
            let more = current.memory.saturating_add(current.memory / 2);
            target.memory = target.memory.max(memory_step(more));
        }
        target = target.clamp(policy.min, policy.max);
        if target.memory < current.memory {
            // Memory shrinks only if the usage is known, and not while a current container was OOM-killed.
            target.memory = match input.usage {
                Some(usage) if input.last_oom_kill.is_none() => {
                    target.memory.max(memory_step(required_by_usage(&usage).memory)).min(current.memory)
                }
                _ => current.memory,
            };
        }
        target
    }
}

/// Returns the initial size: the requests in the spec, and the estimate for those that the spec leaves out.
fn initial(
    policy: Policy,
    usage_model: &UsageModel,
    population: Option<Population>,
    input: &NannyInput,
) -> Option<RecommendedSize> {
    let estimate = population.and_then(|population| {
        let estimate = policy.by_formula(population.number()).or_else(|| {
            let estimate = usage_model.estimate(population, input.usage, None, policy.min)?;
            Some(Size { cpu: cpu_step(estimate.cpu), memory: memory_step(estimate.memory) })
        })?;
        Some((estimate, population))
    });
    let (size, reason) = match (policy.initial, estimate) {
        ((None, None), Some((estimate, population))) => (estimate, SizeReason::InitialEstimate(population)),
        ((Some(cpu), Some(memory)), _) => (Size { cpu, memory }, SizeReason::InitialFromSpec),
        ((cpu, memory), Some((estimate, _))) => {
            let size = Size { cpu: cpu.unwrap_or(estimate.cpu), memory: memory.unwrap_or(estimate.memory) };
            (size, SizeReason::InitialFromSpec)
        }
        (_, None) => return None,
    };
    let population = population.map_or(0, Population::number);
    // Running containers may use all of their memory, so they shrink only after the usual delay.
    let size = Size { memory: size.memory.max(input.current_memory.unwrap_or(0)), ..size };
    Some(RecommendedSize { size: size.clamp(policy.min, policy.max), population, reason, changed: None })
}

/// Returns a larger step if `required` exceeds the current amount, and a smaller one if `required` plus a quarter
/// fits it. Without that margin, a size that fell by more than a step would soon be too small again.
fn stepped(current: u64, required: u64, step: fn(u64) -> u64, min: u64, max: u64) -> u64 {
    let bounded = |amount: u64| amount.max(min).min(max);
    if bounded(required) > current || current > max {
        return bounded(step(required));
    }
    bounded(step(required.saturating_add(required / 4))).min(current)
}

/// Whether memory may run out before the delay ends.
fn is_urgent(recommended: &RecommendedSize, input: &NannyInput, handled: Option<Timestamp>) -> bool {
    let is_nearly_full = input
        .usage
        .is_some_and(|usage| usage.memory.saturating_mul(10) > recommended.size.memory.saturating_mul(9));
    is_nearly_full || is_unhandled(input.last_oom_kill, recommended, handled)
}

/// Whether an OOM kill happened after the last change of the size.
fn is_unhandled(
    oom_kill: Option<Timestamp>,
    recommended: &RecommendedSize,
    handled: Option<Timestamp>,
) -> bool {
    oom_kill.is_some_and(|killed| {
        handled.is_none_or(|handled| killed > handled)
            && recommended.changed.is_none_or(|changed| killed > changed)
    })
}

fn change_reason(
    policy: Policy,
    before: &RecommendedSize,
    size: Size,
    population: Population,
    input: &NannyInput,
) -> SizeReason {
    let grows = size.memory > before.size.memory;
    if policy.estimator == SizeEstimator::Measured && grows && is_unhandled(input.last_oom_kill, before, None)
    {
        SizeReason::OutOfMemory
    } else if population.number() == before.population {
        SizeReason::Usage(population)
    } else {
        SizeReason::PopulationChanged { population, before: before.population }
    }
}

#[cfg(test)]
mod tests;
