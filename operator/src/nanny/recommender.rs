//! The size that is recommended, and when it changes: not for a node that comes and goes, once for a burst, at once when
//! memory is about to run out, and down only after a long while.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crds::ScalingMode;
use jiff::{SignedDuration, Timestamp};

use super::addon_resizer::compare;
use super::measured::{Learned, Population, Usage, cpu_step, in_use, memory_step};
use super::policy::{Policy, Rule};
use super::size::Size;

/// A burst that goes on is waited for so many times the delay at most.
const PATIENCE: i32 = 6;

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct NannyInput {
    /// How many nodes or containers there are.
    pub population: Option<u64>,
    /// What the replicas use.
    pub usage: Option<Usage>,
    /// The most memory that a container of ours has now, in bytes.
    pub present: Option<u64>,
    /// When a container was last killed as its memory ran out, of the containers that are there.
    pub killed: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// The size that is recommended, and what it was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecommendedSize {
    /// The size.
    pub size: Size,
    /// How many nodes or containers there were.
    pub population: u64,
    /// Why it is what it is.
    pub reason: String,
    /// When it was last changed, where that is known.
    pub changed: Option<Timestamp>,
}

/// What is advised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// The size; `None` while nothing is known.
    pub recommended: Option<RecommendedSize>,
    /// When to look again at the latest.
    pub next: Option<Timestamp>,
}

/// Keeps the size.
#[derive(Clone, Debug, Default)]
pub struct Nanny {
    policy: Option<Policy>,
    recommended: Option<RecommendedSize>,
    /// What was counted when the size was decided on: a number of nodes tells nothing of containers.
    recommended_for: Option<ScalingMode>,
    learned: Learned,
    cpu: ScaleTarget,
    memory: ScaleTarget,
    /// The number of nodes or containers, and since when: while it changes, a burst goes on.
    counted: Option<(u64, Timestamp)>,
    /// The policy was changed by the user, who wants to see it act.
    at_once: bool,
    /// The last kill that was answered.
    killed: Option<Timestamp>,
}

/// What one resource should become, and for how long it should.
#[derive(Clone, Debug, Default)]
struct ScaleTarget {
    target: u64,
    direction: Option<Direction>,
    /// Since when it points there.
    since: Timestamp,
    /// Since when the target is the same.
    unchanged: Timestamp,
    /// On the way down: targets and when each was last wanted, larger ones first.
    larger: VecDeque<(Timestamp, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl ScaleTarget {
    /// Takes what is wanted now.
    fn see(&mut self, recommended: u64, target: u64, now: Timestamp) {
        let direction = match target.cmp(&recommended) {
            Ordering::Equal => None,
            Ordering::Greater => Some(Direction::Up),
            Ordering::Less => Some(Direction::Down),
        };
        if direction != self.direction {
            *self = Self { target, direction, since: now, unchanged: now, larger: VecDeque::new() };
        } else if target != self.target {
            self.target = target;
            self.unchanged = now;
        }
        if direction == Some(Direction::Down) {
            while self.larger.back().is_some_and(|(_, other)| *other <= target) {
                self.larger.pop_back();
            }
            self.larger.push_back((now, target));
        }
    }

    /// What to change to: on the way down the most that was wanted within the delay.
    fn settled(&mut self, policy: &Policy, now: Timestamp) -> u64 {
        if self.direction == Some(Direction::Down) {
            while self.larger.len() > 1
                && self.larger.front().is_some_and(|(last, _)| now.duration_since(*last) >= policy.down_delay)
            {
                self.larger.pop_front();
            }
            return self.larger.front().map_or(self.target, |(_, target)| *target);
        }
        self.target
    }

    /// When it is due, given when the size was last changed, and since when the cluster is as it is.
    fn due(&self, policy: &Policy, changed: Option<Timestamp>, quiet: Timestamp) -> Option<Timestamp> {
        let after =
            |from: Timestamp, delay: SignedDuration| from.saturating_add(delay).unwrap_or(Timestamp::MAX);
        let (own, delay) = match self.direction? {
            Direction::Up => {
                let delay = policy.up_delay;
                let longest = after(self.since, delay.saturating_mul(PATIENCE));
                (after(self.unchanged.max(quiet), delay).min(longest), delay)
            }
            // One that goes on falling is followed every second delay.
            Direction::Down => {
                let delay = policy.down_delay;
                (after(self.unchanged, delay).min(after(self.since, delay.saturating_mul(2))), delay)
            }
        };
        Some(changed.map_or(own, |changed| own.max(after(changed, delay))))
    }
}

impl Nanny {
    /// Looks, and says which size is right now. `recorded` is what status says was recommended before this process
    /// began; it is used when nothing is recommended yet.
    pub fn step(&mut self, policy: Policy, recorded: Option<RecommendedSize>, sight: &NannyInput) -> Advice {
        if self.policy.is_some_and(|before| before != policy) {
            self.at_once = true;
            (self.cpu, self.memory) = (ScaleTarget::default(), ScaleTarget::default());
            if self.policy.is_some_and(|before| before.counts != policy.counts) {
                (self.learned, self.counted) = (Learned::default(), None);
            }
        }
        self.policy = Some(policy);
        let population = sight.population.map(|number| counted(policy, number));
        if let Some(population) = population {
            self.learned.look(population, sight.usage, sight.now);
        }
        if self.recommended.is_none() {
            self.recommended = recorded.or_else(|| first(policy, &self.learned, population, sight));
            self.recommended_for = Some(policy.counts);
        }
        let next = self.advance(policy, population, sight);
        Advice { recommended: self.recommended.clone(), next }
    }

    fn advance(
        &mut self,
        policy: Policy,
        population: Option<Population>,
        sight: &NannyInput,
    ) -> Option<Timestamp> {
        let recommended = self.recommended.clone()?;
        let now = sight.now;
        let target = self.target(policy, &recommended, population, sight);
        self.cpu.see(recommended.size.cpu, target.cpu, now);
        self.memory.see(recommended.size.memory, target.memory, now);
        let quiet = match (self.counted, sight.population) {
            (Some((before, since)), Some(number)) if before == number => since,
            (_, Some(number)) => {
                self.counted = Some((number, now));
                now
            }
            (_, None) => Timestamp::MIN,
        };
        let is_urgent =
            target.memory > recommended.size.memory && is_urgent(&recommended, sight, self.killed);
        let is_due = |wish: &ScaleTarget| {
            let due = wish.due(&policy, recommended.changed, quiet);
            due.is_some_and(|due| {
                due <= now || self.at_once || (is_urgent && wish.direction == Some(Direction::Up))
            })
        };
        let (cpu, memory) = (is_due(&self.cpu), is_due(&self.memory));
        // Both together where they go the same way: one change instead of two. Up with the first, down with the last.
        let together = self.cpu.direction == self.memory.direction;
        let waits = together && self.cpu.direction == Some(Direction::Down) && !(cpu && memory);
        if waits || !(cpu || memory) {
            self.at_once = false;
            let due = [&self.cpu, &self.memory].map(|wish| wish.due(&policy, recommended.changed, quiet));
            let due = due.into_iter().flatten();
            return if waits { due.max() } else { due.min() };
        }
        let take = |wish: &mut ScaleTarget, due: bool, recommended: u64| {
            if wish.direction.is_some() && (due || together) {
                wish.settled(&policy, now)
            } else {
                recommended
            }
        };
        let size = Size {
            cpu: take(&mut self.cpu, cpu, recommended.size.cpu),
            memory: take(&mut self.memory, memory, recommended.size.memory),
        };
        if sight.killed.is_some() {
            self.killed = sight.killed;
        }
        let number = population.map_or(recommended.population, Population::number);
        let reason = if std::mem::take(&mut self.at_once) {
            "spec.nanny was changed".to_owned()
        } else if self.recommended_for != Some(policy.counts) {
            counted(policy, number).words(number)
        } else {
            reason(policy, &recommended, size, number, sight)
        };
        self.recommended = Some(RecommendedSize { size, population: number, reason, changed: Some(now) });
        self.recommended_for = Some(policy.counts);
        (self.cpu, self.memory) = (ScaleTarget::default(), ScaleTarget::default());
        None
    }

    /// What the size should be now; what is not known, or near enough, stays as it is.
    fn target(
        &self,
        policy: Policy,
        recommended: &RecommendedSize,
        population: Option<Population>,
        sight: &NannyInput,
    ) -> Size {
        let current = recommended.size;
        let mut target = match (population, policy.rule) {
            (None, _) => current,
            (Some(population), Rule::Measured) => {
                let is_alike = self.recommended_for == Some(policy.counts);
                let recorded = is_alike.then_some((current, recommended.population));
                match self.learned.want(population, sight.usage, recorded, policy.least) {
                    None => current,
                    Some(want) => Size {
                        cpu: stepped(current.cpu, want.cpu, cpu_step, policy.least.cpu, policy.most.cpu),
                        memory: stepped(
                            current.memory,
                            want.memory,
                            memory_step,
                            policy.least.memory,
                            policy.most.memory,
                        ),
                    },
                }
            }
            (Some(population), Rule::Linear(_) | Rule::Exponential(..)) => {
                let expected = policy.by_formula(population.number()).unwrap_or(current);
                let near = |set: u64, expected: u64| match compare(set, expected, policy.threshold) {
                    Ordering::Equal => set,
                    Ordering::Less | Ordering::Greater => expected,
                };
                Size { cpu: near(current.cpu, expected.cpu), memory: near(current.memory, expected.memory) }
            }
        };
        if policy.rule == Rule::Measured && news(sight.killed, recommended, self.killed) {
            let more = current.memory.saturating_add(current.memory / 2);
            target.memory = target.memory.max(memory_step(more));
        }
        target = target.within(policy.least, policy.most);
        if target.memory < current.memory {
            // Memory is never taken away without knowing that it is not used, nor from a container that was killed
            // for want of it.
            target.memory = match sight.usage {
                Some(usage) if sight.killed.is_none() => {
                    target.memory.max(memory_step(in_use(&usage).memory)).min(current.memory)
                }
                _ => current.memory,
            };
        }
        target
    }
}

fn counted(policy: Policy, number: u64) -> Population {
    match policy.counts {
        ScalingMode::NodeProportional => Population::Nodes(number),
        ScalingMode::ContainerProportional => Population::Containers(number),
    }
}

/// What is recommended from the beginning: what the spec names as the start, and the estimate for the rest.
fn first(
    policy: Policy,
    learned: &Learned,
    population: Option<Population>,
    sight: &NannyInput,
) -> Option<RecommendedSize> {
    let estimate = population.and_then(|population| {
        policy.by_formula(population.number()).or_else(|| {
            let want = learned.want(population, sight.usage, None, policy.least)?;
            Some(Size { cpu: cpu_step(want.cpu), memory: memory_step(want.memory) })
        })
    });
    let size = match (policy.start, estimate) {
        ((Some(cpu), Some(memory)), _) => Size { cpu, memory },
        ((cpu, memory), Some(estimate)) => {
            Size { cpu: cpu.unwrap_or(estimate.cpu), memory: memory.unwrap_or(estimate.memory) }
        }
        (_, None) => return None,
    };
    let reason = if policy.start == (None, None) {
        format!("{} at the start", population.map_or_else(String::new, |of| of.words(of.number())))
    } else {
        "spec.metricsCore.resources is the start".to_owned()
    };
    let population = population.map_or(0, Population::number);
    // Containers that are there already may use what they have: they shrink like all others, late.
    let size = Size { memory: size.memory.max(sight.present.unwrap_or(0)), ..size };
    Some(RecommendedSize { size: size.within(policy.least, policy.most), population, reason, changed: None })
}

/// A larger step when more is wanted than there is; a smaller one when a quarter more than is wanted would fit it.
fn stepped(recommended: u64, want: u64, step: fn(u64) -> u64, least: u64, most: u64) -> u64 {
    let bounded = |amount: u64| amount.max(least).min(most);
    if bounded(want) > recommended || recommended > most {
        return bounded(step(want));
    }
    let roomy = bounded(step(want.saturating_add(want / 4)));
    if roomy < recommended { bounded(step(want)) } else { recommended }
}

/// Whether memory runs out sooner than a delay is over.
fn is_urgent(recommended: &RecommendedSize, sight: &NannyInput, answered: Option<Timestamp>) -> bool {
    let nearly_full = sight
        .usage
        .is_some_and(|usage| usage.memory.saturating_mul(10) > recommended.size.memory.saturating_mul(9));
    nearly_full || news(sight.killed, recommended, answered)
}

/// Whether a container was killed after the size was last changed.
fn news(killed: Option<Timestamp>, recommended: &RecommendedSize, answered: Option<Timestamp>) -> bool {
    killed.is_some_and(|killed| {
        answered.is_none_or(|answered| killed > answered)
            && recommended.changed.is_none_or(|changed| killed > changed)
    })
}

impl Population {
    fn words(self, number: u64) -> String {
        let one = if number == 1 { "" } else { "s" };
        match self {
            Self::Nodes(_) => format!("{number} node{one}"),
            Self::Containers(_) => format!("{number} container{one}"),
        }
    }
}

fn reason(
    policy: Policy,
    recommended: &RecommendedSize,
    size: Size,
    number: u64,
    sight: &NannyInput,
) -> String {
    if policy.rule == Rule::Measured
        && size.memory > recommended.size.memory
        && news(sight.killed, recommended, None)
    {
        return "its memory ran out".to_owned();
    }
    let of = counted(policy, number);
    if number == recommended.population {
        format!("{} and what it uses", of.words(number))
    } else {
        format!("{} instead of {}", of.words(number), recommended.population)
    }
}

#[cfg(test)]
mod tests;
