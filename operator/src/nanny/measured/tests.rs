use super::*;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

const LEAST: Size = Size { cpu: 20, memory: 64 << 20 };

fn want(learned: &Learned, nodes: u64, usage: Option<Usage>, recorded: Option<(Size, u64)>) -> Option<Size> {
    learned.want(Population::Nodes(nodes), usage, recorded, LEAST)
}

/// A cluster that really costs `factor` thousandths of the prior, watched for a while.
fn after_learning(nodes: u64, factor: u64) -> Learned {
    let mut learned = Learned::default();
    for second in (0..=600).step_by(15) {
        let usage = Usage {
            cpu: CPU.at(Population::Nodes(nodes)) * factor / 1000,
            memory: MEMORY.at(Population::Nodes(nodes)) * factor / 1000,
            sampled: at(second),
        };
        learned.look(Population::Nodes(nodes), Some(usage), at(second));
    }
    learned
}

#[test]
fn without_measurements_the_prior_has_room_for_what_was_measured_elsewhere() {
    // docs/performance.md: RSS and CPU at 1,000 and at 5,000 nodes.
    for (nodes, memory, cpu) in [(1000, 63_000_000, 8), (5000, 250_000_000, 38)] {
        let size = want(&Learned::default(), nodes, None, None).expect("a size");
        assert!(size.memory > memory * 5 / 4 && size.memory < memory * 3, "{nodes}: {size}");
        assert!(size.cpu > cpu * 5 / 4 && size.cpu < cpu * 4, "{nodes}: {size}");
    }
}

#[test]
fn what_a_node_costs_is_learned_and_carried_to_another_number_of_nodes() {
    let dense = after_learning(1000, 3000);
    let (prior, seen) = (want(&Learned::default(), 5000, None, None), want(&dense, 5000, None, None));
    let (prior, seen) = (prior.expect("a size"), seen.expect("a size"));
    assert!(seen.memory > prior.memory * 29 / 10 && seen.memory < prior.memory * 31 / 10, "{prior} {seen}");
    assert!(seen.cpu > prior.cpu * 28 / 10, "{prior} {seen}");
    let sparse = want(&after_learning(5000, 400), 5000, None, None).expect("a size");
    assert!(sparse.memory < prior.memory / 2, "{sparse}");
}

#[test]
fn use_of_the_old_number_of_nodes_is_not_taken_for_that_of_the_new_one() {
    let mut learned = after_learning(5, 1000);
    let before = want(&learned, 5000, None, None);
    // 5,000 nodes come; for two minutes metrics-core still shows what five took.
    for second in (600..720).step_by(15) {
        let usage = Usage { cpu: 2_000_000, memory: 12 << 20, sampled: at(second) };
        learned.look(Population::Nodes(5000), Some(usage), at(second));
    }
    assert_eq!(want(&learned, 5000, None, None), before);
}

#[test]
fn a_restarted_operator_keeps_what_was_learned_before() {
    let learned = Learned::default();
    let size = Size { cpu: 40, memory: 300 << 20 };
    assert_eq!(want(&learned, 1010, None, Some((size, 1000))), None, "nothing to change");
    let usage = Usage { cpu: 0, memory: 290 << 20, sampled: at(0) };
    assert!(
        want(&learned, 1000, Some(usage), Some((size, 1000))).is_some_and(|want| want.memory > size.memory)
    );
    // Three times the prior's size at 1,000 nodes is three times at 2,000.
    let doubled = want(&learned, 2000, None, Some((size, 1000))).expect("a size");
    assert!(doubled.memory > 500 << 20, "{doubled}");
    // The least says nothing about a factor.
    let from_least = want(&learned, 1000, None, Some((LEAST, 1))).expect("a size");
    assert_eq!(Some(from_least), want(&learned, 1000, None, None));
}

#[test]
fn what_is_in_use_fits_whatever_the_forecast_says() {
    let usage = Usage { cpu: 1, memory: 900 << 20, sampled: at(0) };
    let size = want(&Learned::default(), 10, Some(usage), None).expect("a size");
    assert!(size.memory >= (900 << 20) * 5 / 4);
}

#[test]
fn steps_are_a_quarter() {
    assert_eq!([0, 5, 6, 7, 20].map(cpu_step), [5, 5, 7, 7, 24]);
    assert_eq!(memory_step(1), 16 << 20);
    assert_eq!(memory_step((64 << 20) + 1), 79 << 20);
    assert_eq!(memory_step(u64::MAX), MAX_MEMORY);
    assert_eq!(cpu_step(u64::MAX), MAX_CPU);
}

proptest! {
    #[test]
    fn sizes_are_finite_positive_and_monotone(
        nodes in any::<u64>(), more in any::<u64>(), cpu in any::<u64>(), memory in any::<u64>(),
        learned_nodes in 0..1_000_000_u64, factor in 0..100_000_u64, is_learned in any::<bool>(),
    ) {
        let learned = if is_learned { after_learning(learned_nodes, factor) } else { Learned::default() };
        let usage = Some(Usage { cpu, memory, sampled: at(0) });
        let small = want(&learned, nodes, usage, None).expect("a size");
        let large = want(&learned, nodes.saturating_add(more), usage, None).expect("a size");
        prop_assert!(small.cpu >= 1 && small.memory >= 1);
        prop_assert!(small.cpu <= large.cpu && small.memory <= large.memory);
        prop_assert!(large.cpu <= MAX_CPU && large.memory <= MAX_MEMORY);
        let larger = Some(Usage { cpu, memory: memory.saturating_add(more), sampled: at(0) });
        prop_assert!(want(&learned, nodes, larger, None).expect("a size").memory >= small.memory);
    }

    #[test]
    fn a_step_is_the_next_and_no_farther_than_a_quarter(amount in 1..1_u64 << 50) {
        let stepped = memory_step(amount);
        prop_assert!(stepped >= amount);
        prop_assert!(stepped <= (amount + (amount >> 2) + (2 << 20)).max(16 << 20));
    }
}
