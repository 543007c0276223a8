use super::*;
use crds::{Estimator, MetricsPipelineSpec, ResourceAmounts, Resources, ScalingMode};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

fn policy(change: impl FnOnce(&mut MetricsPipelineSpec)) -> Policy {
    let mut spec = MetricsPipelineSpec::default();
    change(&mut spec);
    Policy::new(&spec)
}

fn amounts(cpu: &str, memory: &str) -> ResourceAmounts {
    ResourceAmounts { cpu: Some(Quantity(cpu.to_owned())), memory: Some(Quantity(memory.to_owned())) }
}

/// Sets the parameters of `addon_resizer::tests::PARAMETERS`.
fn formula(estimator: Estimator) -> impl FnOnce(&mut MetricsPipelineSpec) {
    move |spec| {
        let quantity = |text: &str| Quantity(text.to_owned());
        spec.nanny.estimator = estimator;
        (spec.nanny.cpu, spec.nanny.extra_cpu) = (quantity("40m"), quantity("0.5m"));
        (spec.nanny.memory, spec.nanny.extra_memory) = (quantity("40Mi"), quantity("4Mi"));
        spec.nanny.min_cluster_size = 5;
    }
}

fn input(nodes: u64, second: i64) -> NannyInput {
    NannyInput {
        population: Some(nodes),
        usage: None,
        current_memory: None,
        last_oom_kill: None,
        now: at(second),
    }
}

fn using(nodes: u64, mebi: u64, second: i64) -> NannyInput {
    let usage = Usage { cpu: 1_000_000, memory: mebi << 20, sampled: at(second) };
    NannyInput { usage: Some(usage), ..input(nodes, second) }
}

fn mebi(advice: &Advice) -> u64 {
    advice.recommended.as_ref().expect("a size").size.memory >> 20
}

/// Evaluates once a second. Returns how often the size changed, and the last advice.
fn run(
    nanny: &mut Nanny,
    policy: Policy,
    seconds: std::ops::Range<i64>,
    input: impl Fn(i64) -> NannyInput,
) -> (usize, Advice) {
    let mut changes = 0;
    let mut last = nanny.recommended.as_ref().map(|recommended| recommended.size);
    let mut advice = Advice::default();
    for second in seconds {
        advice = nanny.recommend(policy, None, &input(second));
        let size = advice.recommended.as_ref().map(|recommended| recommended.size);
        changes += usize::from(last.is_some() && size != last);
        last = size;
    }
    (changes, advice)
}

#[test]
fn initial_size_is_the_estimate_or_the_spec() {
    let mut nanny = Nanny::default();
    let unknown = NannyInput { population: None, ..input(0, 0) };
    assert_eq!(nanny.recommend(policy(|_| {}), None, &unknown).recommended, None);
    let recommended = nanny.recommend(policy(|_| {}), None, &input(3, 1)).recommended.expect("a size");
    assert_eq!(recommended.size, Size { cpu: 20, memory: 64 << 20 });
    let named = policy(|spec| {
        spec.metrics_core.resources = Resources { requests: Some(amounts("100m", "200Mi")), limits: None };
    });
    let recommended = Nanny::default().recommend(named, None, &unknown).recommended.expect("a size");
    assert_eq!(recommended.size, Size { cpu: 100, memory: 200 << 20 });
    let bounded = policy(|spec| spec.nanny.max = Some(amounts("10m", "32Mi")));
    let recommended = Nanny::default().recommend(bounded, None, &input(3, 1)).recommended.expect("a size");
    assert_eq!(recommended.size, Size { cpu: 10, memory: 32 << 20 });
}

#[test]
fn running_containers_keep_their_memory_until_the_delay() {
    let mut nanny = Nanny::default();
    let present = |second| NannyInput { current_memory: Some(500 << 20), ..using(3, 100, second) };
    assert_eq!(mebi(&nanny.recommend(policy(|_| {}), None, &present(0))), 500);
    let (changes, advice) = run(&mut nanny, policy(|_| {}), 1..900, present);
    assert_eq!(changes, 1);
    assert!(mebi(&advice) >= 125 && mebi(&advice) < 500, "{}", mebi(&advice));
}

#[test]
fn burst_of_nodes_is_one_change() {
    for (estimator, most) in [(Estimator::Exponential, 2), (Estimator::Linear, 2), (Estimator::Measured, 1)] {
        let policy = policy(formula(estimator));
        let mut nanny = Nanny::default();
        run(&mut nanny, policy, 0..10, |second| input(5, second));
        // 500 nodes in 40 seconds.
        let nodes = |second: i64| 5 + 500 * u64::try_from((second - 10).clamp(0, 40)).expect("positive") / 40;
        let (changes, advice) = run(&mut nanny, policy, 10..120, |second| input(nodes(second), second));
        assert!(changes <= most, "{estimator:?}: {changes}");
        let expected = policy.by_formula(505).map_or(64, |size| size.memory >> 20);
        assert!(mebi(&advice) >= expected * 95 / 100, "{estimator:?}: {}", mebi(&advice));
    }
}

#[test]
fn flapping_node_changes_nothing() {
    for estimator in [Estimator::Exponential, Estimator::Measured] {
        let policy = policy(formula(estimator));
        // Exponential has a step between 73 and 74. Measured is tested at every size.
        for nodes in if estimator == Estimator::Exponential { 73..74 } else { 990..1010 } {
            let mut nanny = Nanny::default();
            run(&mut nanny, policy, 0..60, |second| using(nodes, 20, second));
            let flap = |second: i64| using(nodes + u64::from(second / 30 % 2 == 0), 20, second);
            let (changes, _) = run(&mut nanny, policy, 60..4000, flap);
            assert!(changes <= 1, "{estimator:?} at {nodes}: {changes}");
        }
    }
}

#[test]
fn shrinks_after_the_delay_and_never_below_usage() {
    let policy = policy(formula(Estimator::Linear));
    let mut nanny = Nanny::default();
    run(&mut nanny, policy, 0..10, |second| using(500, 100, second));
    let (changes, _) = run(&mut nanny, policy, 10..600, |second| using(50, 100, second));
    assert_eq!(changes, 0, "before the scale-down delay");
    let (_, advice) = run(&mut nanny, policy, 600..700, |second| using(50, 100, second));
    assert_eq!(mebi(&advice), 240, "40 + 4 × 50");
    // The usage limits the formula.
    let (changes, advice) = run(&mut nanny, policy, 700..3000, |second| using(5, 180, second));
    assert_eq!(
        (changes > 0, mebi(&advice)),
        (true, 240),
        "180 with headroom is 225, and the next step is above 240"
    );
    let (_, advice) = run(&mut nanny, policy, 3000..6000, |second| using(5, 20, second));
    assert_eq!(mebi(&advice), 60);
}

#[test]
fn smaller_step_has_room_for_a_quarter_more() {
    let mebi = |mebi: u64| mebi << 20;
    let steps = |current: u64, required: u64| {
        stepped(mebi(current), mebi(required), memory_step, mebi(16), mebi(4096)) >> 20
    };
    // Steps are 155, 194, 243 and 304 MiB.
    assert_eq!(steps(304, 190), 243, "not 194, which 5 more would exceed");
    assert_eq!(steps(243, 190), 243);
    assert_eq!(steps(243, 150), 194);
    assert_eq!(steps(194, 195), 243);
}

/// A delay that began by a clock that was ahead does not last until the time that it showed.
#[test]
fn scales_soon_after_the_clock_is_set_back() {
    const DAY: i64 = 86_400;
    let policy = policy(|_| {});
    let mut nanny = Nanny::default();
    run(&mut nanny, policy, DAY..DAY + 10, |second| input(3, second));
    let (changes, large) = run(&mut nanny, policy, DAY + 10..DAY + 20, |second| using(5000, 20, second));
    assert_eq!(changes, 1);
    let (changes, small) = run(&mut nanny, policy, 0..1500, |second| using(3, 20, second));
    assert!(changes > 0 && mebi(&small) < mebi(&large), "{changes} {small:?}");

    // So does an operator that starts with a size that was recorded then.
    let mut nanny = Nanny::default();
    nanny.recommend(policy, large.recommended, &using(3, 20, 0));
    let (changes, _) = run(&mut nanny, policy, 1..1500, |second| using(3, 20, second));
    assert!(changes > 0);
}

#[test]
fn does_not_shrink_while_usage_is_unknown() {
    for estimator in [Estimator::Linear, Estimator::Exponential] {
        let policy = policy(formula(estimator));
        let mut nanny = Nanny::default();
        let (_, before) = run(&mut nanny, policy, 0..10, |second| input(500, second));
        let (_, after) = run(&mut nanny, policy, 10..5000, |second| input(5, second));
        assert_eq!(mebi(&before), mebi(&after));
    }
}

#[test]
fn keeps_the_size_while_the_population_is_unknown() {
    let policy = policy(formula(Estimator::Linear));
    let mut nanny = Nanny::default();
    let (_, before) = run(&mut nanny, policy, 0..10, |second| input(500, second));
    let (changes, after) =
        run(&mut nanny, policy, 10..5000, |second| NannyInput { population: None, ..using(0, 10, second) });
    assert_eq!((changes, mebi(&before)), (0, mebi(&after)));
}

#[test]
fn grows_at_once_when_memory_runs_out() {
    let policy = policy(|spec| spec.nanny.scale_up_delay = std::time::Duration::from_secs(3600).into());
    let mut nanny = Nanny::default();
    run(&mut nanny, policy, 0..10, |second| using(5, 20, second));
    let advice = nanny.recommend(policy, None, &using(5, 60, 10));
    assert!(mebi(&advice) >= 75, "{}", mebi(&advice));
    // OOM-killed before a sample showed the usage.
    let killed = NannyInput { last_oom_kill: Some(at(20)), ..using(5, 20, 21) };
    let before = mebi(&advice);
    let advice = nanny.recommend(policy, None, &killed);
    assert!(mebi(&advice) >= before * 3 / 2, "{before} {}", mebi(&advice));
    assert_eq!(advice.recommended.as_ref().expect("a size").reason, SizeReason::OutOfMemory);
    // Once per kill, and no shrinking while that container exists.
    let (changes, _) = run(&mut nanny, policy, 22..5000, |second| NannyInput {
        last_oom_kill: Some(at(20)),
        ..using(5, 20, second)
    });
    assert_eq!(changes, 0);
}

#[test]
fn change_of_the_spec_applies_at_once() {
    let mut nanny = Nanny::default();
    let before = policy(formula(Estimator::Linear));
    run(&mut nanny, before, 0..100, |second| using(100, 20, second));
    let after = policy(|spec| {
        formula(Estimator::Linear)(spec);
        spec.nanny.extra_memory = Quantity("1Mi".to_owned());
    });
    assert_eq!(mebi(&nanny.recommend(after, None, &using(100, 20, 100))), 140);
}

#[test]
fn change_of_scaling_mode_does_not_compare_nodes_with_containers() {
    // 1,000 nodes with 60 containers each, for which metrics-core uses 72 MiB: both modes lead to similar sizes.
    let mut nanny = Nanny::default();
    let by_nodes = policy(|_| {});
    let (_, before) = run(&mut nanny, by_nodes, 0..600, |second| using(1000, 72, second));
    let by_containers = policy(|spec| spec.nanny.scaling_mode = ScalingMode::ContainerProportional);
    let unknown = NannyInput { population: None, ..using(0, 72, 600) };
    assert_eq!(
        nanny.recommend(by_containers, None, &unknown).recommended,
        before.recommended,
        "containers are not counted yet"
    );
    let advice = nanny.recommend(by_containers, None, &using(60_000, 72, 601));
    assert!(mebi(&advice) < mebi(&before) * 3 / 2, "{before:?} {advice:?}");
    let (changes, after) = run(&mut nanny, by_containers, 602..3000, |second| using(60_000, 72, second));
    assert!(changes <= 1 && mebi(&after) >= 90, "{changes} {after:?}");
    assert!(after.recommended.is_some_and(|recommended| !matches!(
        recommended.reason,
        SizeReason::PopulationChanged { before: 1000, .. }
    )));
}

#[test]
fn restart_resumes_with_the_recorded_size() {
    let policy = policy(|_| {});
    let recorded = RecommendedSize {
        size: Size { cpu: 50, memory: 500 << 20 },
        population: 3000,
        reason: SizeReason::Recorded("3000 nodes".to_owned()),
        changed: Some(at(-1000)),
    };
    let mut nanny = Nanny::default();
    let advice = nanny.recommend(policy, Some(recorded.clone()), &using(3000, 200, 0));
    assert_eq!(advice.recommended, Some(recorded));
}

proptest! {
    /// For any input, the size stays within its bounds, and memory never shrinks below the usage.
    #[test]
    fn stays_within_bounds_and_above_usage(
        inputs in proptest::collection::vec((0..6000_u64, 1..2000_u64, 1..2000_i64, any::<bool>()), 1..60),
        estimator in 0..3_u8,
    ) {
        let estimator = [Estimator::Measured, Estimator::Linear, Estimator::Exponential][usize::from(estimator)];
        let policy = policy(|spec| {
            formula(estimator)(spec);
            spec.nanny.min = Some(amounts("30m", "48Mi"));
            spec.nanny.max = Some(amounts("1", "4Gi"));
        });
        let mut nanny = Nanny::default();
        let mut second = 0;
        let mut before: Option<Size> = None;
        for (nodes, mebi, pause, is_known) in inputs {
            second += pause;
            let input = if is_known { using(nodes, mebi, second) } else { input(nodes, second) };
            let size = nanny.recommend(policy, None, &input).recommended.expect("a size").size;
            prop_assert_eq!(size, size.clamp(policy.min, policy.max));
            if let Some(before) = before && size.memory < before.memory {
                prop_assert!(is_known && size.memory >= (mebi << 20) * 5 / 4);
            }
            before = Some(size);
        }
    }
}
