use super::*;
use crds::memory::base_bytes;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

const MIN: Size = Size { cpu: 20, memory: 64 << 20 };

fn estimate(
    model: &UsageModel,
    nodes: u64,
    usage: Option<Usage>,
    recorded: Option<(Size, u64)>,
) -> Option<Size> {
    model.estimate(Population::Nodes(nodes), usage, recorded, MIN)
}

/// Returns a model after ten minutes in a cluster whose usage is `factor` thousandths of the prior.
fn after_learning(nodes: u64, factor: u64) -> UsageModel {
    let mut model = UsageModel::default();
    for second in (0..=600).step_by(15) {
        let usage = Usage {
            cpu: CPU.at(Population::Nodes(nodes)) * factor / 1000,
            memory: MEMORY.at(Population::Nodes(nodes)) * factor / 1000,
            sampled: at(second),
        };
        model.update(Population::Nodes(nodes), Some(usage), at(second));
    }
    model
}

#[test]
fn prior_has_headroom_over_the_documented_usage() {
    // docs/performance.md: RSS and CPU at 1,000 and at 5,000 nodes.
    for (nodes, memory, cpu) in [(1000, 63_000_000, 8), (5000, 250_000_000, 38)] {
        let size = estimate(&UsageModel::default(), nodes, None, None).expect("a size");
        assert!(size.memory > memory * 5 / 4 && size.memory < memory * 3, "{nodes}: {size}");
        assert!(size.cpu > cpu * 5 / 4 && size.cpu < cpu * 4, "{nodes}: {size}");
    }
}

/// Returns the smallest size that the nanny chooses for `nodes` nodes of 30 pods of two containers: after it has
/// learned that the usage is what the model says.
fn learned_size(nodes: u64) -> u64 {
    let used = base_bytes(nodes, nodes * 30, nodes * 60);
    let prior = MEMORY.at(Population::Nodes(nodes));
    let model = after_learning(nodes, (used * 1000).div_ceil(prior));
    let estimate = estimate(&model, nodes, None, None).expect("a size");
    memory_step(estimate.memory).max(MIN.memory)
}

#[test]
fn size_leaves_the_reserve_above_the_data() {
    for nodes in (1..100).chain((100..20_000).step_by(97)) {
        let data = base_bytes(nodes, nodes * 30, nodes * 60);
        let size = learned_size(nodes);
        // metrics-core keeps a sixteenth of the limit, and the rest above the data is its budget.
        let budget = size.saturating_sub(data + size / 16);
        assert!(budget >= RESERVE_BYTES, "{nodes}: {data} {size} {budget}");
    }
}

#[test]
fn documented_sizes_are_those_of_the_nanny() {
    let text = include_str!("../../../../docs/limits.md");
    for nodes in [1, 100, 1000, 5000] {
        let row = text.lines().find(|line| line.starts_with(&format!("| {nodes} |"))).expect("a row");
        let expected = format!("| {} MiB |", learned_size(nodes) >> 20);
        assert!(row.contains(&expected), "{expected} in {row}");
    }
}

#[test]
fn measured_factor_applies_to_other_numbers_of_nodes() {
    let dense = after_learning(1000, 3000);
    let (prior, seen) =
        (estimate(&UsageModel::default(), 5000, None, None), estimate(&dense, 5000, None, None));
    let (prior, seen) = (prior.expect("a size"), seen.expect("a size"));
    // The reserve does not depend on the factor.
    let data = |size: Size| size.memory - RESERVE_BYTES;
    assert!(data(seen) > data(prior) * 29 / 10 && data(seen) < data(prior) * 31 / 10, "{prior} {seen}");
    assert!(seen.cpu > prior.cpu * 28 / 10, "{prior} {seen}");
    let sparse = estimate(&after_learning(5000, 400), 5000, None, None).expect("a size");
    assert!(sparse.memory < prior.memory / 2, "{sparse}");
}

#[test]
fn ignores_usage_right_after_the_population_changed() {
    let mut model = after_learning(5, 1000);
    let before = estimate(&model, 5000, None, None);
    // 5,000 nodes join. For two minutes the samples still show the usage for five.
    for second in (600..720).step_by(15) {
        let usage = Usage { cpu: 2_000_000, memory: 12 << 20, sampled: at(second) };
        model.update(Population::Nodes(5000), Some(usage), at(second));
    }
    assert_eq!(estimate(&model, 5000, None, None), before);
}

#[test]
fn restart_keeps_the_factor_of_the_recorded_size() {
    let model = UsageModel::default();
    let size = Size { cpu: 40, memory: 300 << 20 };
    assert_eq!(estimate(&model, 1010, None, Some((size, 1000))), None, "nothing to change");
    let usage = Usage { cpu: 0, memory: 290 << 20, sampled: at(0) };
    assert!(
        estimate(&model, 1000, Some(usage), Some((size, 1000)))
            .is_some_and(|estimate| estimate.memory > size.memory)
    );
    // Three times the prior at 1,000 nodes is three times the prior at 2,000.
    let doubled = estimate(&model, 2000, None, Some((size, 1000))).expect("a size");
    assert!(doubled.memory > 500 << 20, "{doubled}");
    // The minimum size implies no factor.
    let from_min = estimate(&model, 1000, None, Some((MIN, 1))).expect("a size");
    assert_eq!(Some(from_min), estimate(&model, 1000, None, None));
}

#[test]
fn estimate_has_headroom_over_current_usage() {
    let usage = Usage { cpu: 1, memory: 900 << 20, sampled: at(0) };
    let size = estimate(&UsageModel::default(), 10, Some(usage), None).expect("a size");
    assert!(size.memory >= (900 << 20) * 5 / 4);
}

#[test]
fn steps_grow_by_a_quarter() {
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
        let model = if is_learned { after_learning(learned_nodes, factor) } else { UsageModel::default() };
        let usage = Some(Usage { cpu, memory, sampled: at(0) });
        let small = estimate(&model, nodes, usage, None).expect("a size");
        let large = estimate(&model, nodes.saturating_add(more), usage, None).expect("a size");
        prop_assert!(small.cpu >= 1 && small.memory >= 1);
        prop_assert!(small.cpu <= large.cpu && small.memory <= large.memory);
        prop_assert!(large.cpu <= MAX_CPU && large.memory <= MAX_MEMORY);
        let larger = Some(Usage { cpu, memory: memory.saturating_add(more), sampled: at(0) });
        prop_assert!(estimate(&model, nodes, larger, None).expect("a size").memory >= small.memory);
    }

    #[test]
    fn step_is_at_most_a_quarter_above_the_amount(amount in 1..1_u64 << 50) {
        let stepped = memory_step(amount);
        prop_assert!(stepped >= amount);
        prop_assert!(stepped <= (amount + (amount >> 2) + (2 << 20)).max(16 << 20));
    }
}
