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

/// The seed's parameters.
fn seed(estimator: Estimator) -> impl FnOnce(&mut MetricsPipelineSpec) {
    move |spec| {
        let quantity = |text: &str| Quantity(text.to_owned());
        spec.nanny.estimator = estimator;
        (spec.nanny.cpu, spec.nanny.extra_cpu) = (quantity("40m"), quantity("0.5m"));
        (spec.nanny.memory, spec.nanny.extra_memory) = (quantity("40Mi"), quantity("4Mi"));
        spec.nanny.min_cluster_size = 5;
    }
}

fn sight(nodes: u64, second: i64) -> NannyInput {
    NannyInput { population: Some(nodes), usage: None, present: None, killed: None, now: at(second) }
}

fn using(nodes: u64, mebi: u64, second: i64) -> NannyInput {
    let usage = Usage { cpu: 1_000_000, memory: mebi << 20, sampled: at(second) };
    NannyInput { usage: Some(usage), ..sight(nodes, second) }
}

fn mebi(advice: &Advice) -> u64 {
    advice.recommended.as_ref().expect("a size").size.memory >> 20
}

/// Steps once a second; how often the size changed, and the last advice.
fn run(
    nanny: &mut Nanny,
    policy: Policy,
    seconds: std::ops::Range<i64>,
    sight: impl Fn(i64) -> NannyInput,
) -> (usize, Advice) {
    let mut changes = 0;
    let mut last = nanny.recommended.as_ref().map(|recommended| recommended.size);
    let mut advice = Advice::default();
    for second in seconds {
        advice = nanny.step(policy, None, &sight(second));
        let size = advice.recommended.as_ref().map(|recommended| recommended.size);
        changes += usize::from(last.is_some() && size != last);
        last = size;
    }
    (changes, advice)
}

#[test]
fn it_starts_with_the_estimate_or_with_what_the_spec_names() {
    let mut nanny = Nanny::default();
    let unknown = NannyInput { population: None, ..sight(0, 0) };
    assert_eq!(nanny.step(policy(|_| {}), None, &unknown).recommended, None);
    let recommended = nanny.step(policy(|_| {}), None, &sight(3, 1)).recommended.expect("a size");
    assert_eq!(recommended.size, Size { cpu: 20, memory: 64 << 20 });
    let named = policy(|spec| {
        spec.metrics_core.resources = Resources { requests: Some(amounts("100m", "200Mi")), limits: None };
    });
    let recommended = Nanny::default().step(named, None, &unknown).recommended.expect("a size");
    assert_eq!(recommended.size, Size { cpu: 100, memory: 200 << 20 });
    let bounded = policy(|spec| spec.nanny.max = Some(amounts("10m", "32Mi")));
    let recommended = Nanny::default().step(bounded, None, &sight(3, 1)).recommended.expect("a size");
    assert_eq!(recommended.size, Size { cpu: 10, memory: 32 << 20 });
}

#[test]
fn containers_that_are_there_already_keep_their_memory_at_first() {
    let mut nanny = Nanny::default();
    let present = |second| NannyInput { present: Some(500 << 20), ..using(3, 100, second) };
    assert_eq!(mebi(&nanny.step(policy(|_| {}), None, &present(0))), 500);
    let (changes, advice) = run(&mut nanny, policy(|_| {}), 1..900, present);
    assert_eq!(changes, 1);
    assert!(mebi(&advice) >= 125 && mebi(&advice) < 500, "{}", mebi(&advice));
}

#[test]
fn a_burst_is_one_change() {
    for (estimator, most) in [(Estimator::Exponential, 2), (Estimator::Linear, 2), (Estimator::Measured, 1)] {
        let policy = policy(seed(estimator));
        let mut nanny = Nanny::default();
        run(&mut nanny, policy, 0..10, |second| sight(5, second));
        // 500 nodes in 40 seconds.
        let nodes = |second: i64| 5 + 500 * u64::try_from((second - 10).clamp(0, 40)).expect("positive") / 40;
        let (changes, advice) = run(&mut nanny, policy, 10..120, |second| sight(nodes(second), second));
        assert!(changes <= most, "{estimator:?}: {changes}");
        let expected = policy.by_formula(505).map_or(64, |size| size.memory >> 20);
        assert!(mebi(&advice) >= expected * 95 / 100, "{estimator:?}: {}", mebi(&advice));
    }
}

#[test]
fn a_node_that_comes_and_goes_changes_nothing() {
    for estimator in [Estimator::Exponential, Estimator::Measured] {
        let policy = policy(seed(estimator));
        // Exponential has an edge between 73 and 74; Measured is tried at any size.
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
fn it_shrinks_late_to_the_largest_need_meanwhile_and_never_below_what_is_used() {
    let policy = policy(seed(Estimator::Linear));
    let mut nanny = Nanny::default();
    run(&mut nanny, policy, 0..10, |second| using(500, 100, second));
    let (changes, _) = run(&mut nanny, policy, 10..600, |second| using(50, 100, second));
    assert_eq!(changes, 0, "ten minutes are not over");
    let (_, advice) = run(&mut nanny, policy, 600..700, |second| using(50, 100, second));
    assert_eq!(mebi(&advice), 240, "40 + 4 × 50");
    // It uses 300 MiB, whatever the formula says.
    let (changes, advice) = run(&mut nanny, policy, 700..3000, |second| using(5, 180, second));
    assert_eq!(
        (changes > 0, mebi(&advice)),
        (true, 240),
        "180 with head-room are 225, the next step is beyond 240"
    );
    let (_, advice) = run(&mut nanny, policy, 3000..6000, |second| using(5, 20, second));
    assert_eq!(mebi(&advice), 60);
}

#[test]
fn nothing_shrinks_while_use_is_unknown() {
    for estimator in [Estimator::Linear, Estimator::Exponential] {
        let policy = policy(seed(estimator));
        let mut nanny = Nanny::default();
        let (_, before) = run(&mut nanny, policy, 0..10, |second| sight(500, second));
        let (_, after) = run(&mut nanny, policy, 10..5000, |second| sight(5, second));
        assert_eq!(mebi(&before), mebi(&after));
    }
}

#[test]
fn unknown_population_keeps_the_size() {
    let policy = policy(seed(Estimator::Linear));
    let mut nanny = Nanny::default();
    let (_, before) = run(&mut nanny, policy, 0..10, |second| sight(500, second));
    let (changes, after) =
        run(&mut nanny, policy, 10..5000, |second| NannyInput { population: None, ..using(0, 10, second) });
    assert_eq!((changes, mebi(&before)), (0, mebi(&after)));
}

#[test]
fn memory_that_runs_out_is_answered_at_once() {
    let policy = policy(|spec| spec.nanny.scale_up_delay = std::time::Duration::from_secs(3600).into());
    let mut nanny = Nanny::default();
    run(&mut nanny, policy, 0..10, |second| using(5, 20, second));
    let advice = nanny.step(policy, None, &using(5, 60, 10));
    assert!(mebi(&advice) >= 75, "{}", mebi(&advice));
    // Killed before a sample told of it.
    let killed = NannyInput { killed: Some(at(20)), ..using(5, 20, 21) };
    let before = mebi(&advice);
    let advice = nanny.step(policy, None, &killed);
    assert!(mebi(&advice) >= before * 3 / 2, "{before} {}", mebi(&advice));
    assert_eq!(advice.recommended.as_ref().expect("a size").reason, "its memory ran out");
    // Once for each kill, and nothing is taken away while that container is there.
    let (changes, _) = run(&mut nanny, policy, 22..5000, |second| NannyInput {
        killed: Some(at(20)),
        ..using(5, 20, second)
    });
    assert_eq!(changes, 0);
}

#[test]
fn a_change_of_the_spec_acts_at_once() {
    let mut nanny = Nanny::default();
    let before = policy(seed(Estimator::Linear));
    run(&mut nanny, before, 0..100, |second| using(100, 20, second));
    let after = policy(|spec| {
        seed(Estimator::Linear)(spec);
        spec.nanny.extra_memory = Quantity("1Mi".to_owned());
    });
    assert_eq!(mebi(&nanny.step(after, None, &using(100, 20, 100))), 140);
}

#[test]
fn a_number_of_nodes_is_not_taken_for_one_of_containers() {
    // 1,000 nodes with 60 containers each, of which metrics-core uses 72 MiB: sizes by either count are alike.
    let mut nanny = Nanny::default();
    let by_nodes = policy(|_| {});
    let (_, before) = run(&mut nanny, by_nodes, 0..600, |second| using(1000, 72, second));
    let by_containers = policy(|spec| spec.nanny.scaling_mode = ScalingMode::ContainerProportional);
    let unknown = NannyInput { population: None, ..using(0, 72, 600) };
    assert_eq!(nanny.step(by_containers, None, &unknown).recommended, before.recommended, "not counted yet");
    let advice = nanny.step(by_containers, None, &using(60_000, 72, 601));
    assert!(mebi(&advice) < mebi(&before) * 3 / 2, "{before:?} {advice:?}");
    let (changes, after) = run(&mut nanny, by_containers, 602..3000, |second| using(60_000, 72, second));
    assert!(changes <= 1 && mebi(&after) >= 90, "{changes} {after:?}");
    assert!(after.recommended.is_some_and(|recommended| !recommended.reason.contains("instead of 1000")));
}

#[test]
fn a_restart_resumes_with_what_status_tells() {
    let policy = policy(|_| {});
    let recorded = RecommendedSize {
        size: Size { cpu: 50, memory: 500 << 20 },
        population: 3000,
        reason: "3000 nodes".to_owned(),
        changed: Some(at(-1000)),
    };
    let mut nanny = Nanny::default();
    let advice = nanny.step(policy, Some(recorded.clone()), &using(3000, 200, 0));
    assert_eq!(advice.recommended, Some(recorded));
}

proptest! {
    /// Whatever is seen, the size stays within its bounds, and memory never falls below what is used.
    #[test]
    fn it_stays_within_bounds_and_above_use(
        looks in proptest::collection::vec((0..6000_u64, 1..2000_u64, 1..2000_i64, any::<bool>()), 1..60),
        estimator in 0..3_u8,
    ) {
        let estimator = [Estimator::Measured, Estimator::Linear, Estimator::Exponential][usize::from(estimator)];
        let policy = policy(|spec| {
            seed(estimator)(spec);
            spec.nanny.min = Some(amounts("30m", "48Mi"));
            spec.nanny.max = Some(amounts("1", "4Gi"));
        });
        let mut nanny = Nanny::default();
        let mut second = 0;
        let mut before: Option<Size> = None;
        for (nodes, mebi, pause, is_known) in looks {
            second += pause;
            let sight = if is_known { using(nodes, mebi, second) } else { sight(nodes, second) };
            let size = nanny.step(policy, None, &sight).recommended.expect("a size").size;
            prop_assert_eq!(size, size.within(policy.least, policy.most));
            if let Some(before) = before && size.memory < before.memory {
                prop_assert!(is_known && size.memory >= (mebi << 20) * 5 / 4);
            }
            before = Some(size);
        }
    }
}
