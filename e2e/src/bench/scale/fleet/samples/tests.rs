use std::collections::BTreeSet;

use super::super::exposition;
use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const POPULATION: Population = Population { nodes: 1000, pods_per_node: 30 };
const NODE: u32 = 3;

fn kubelet(kind: KubeletKind) -> KubeletState {
    KubeletState::new(POPULATION, NODE, kind, NOW_MS)
}

/// What identifies a container's series, and its sample: timestamp, CPU, memory, start.
type Row = ((u32, usize), (u64, u64, u64, u64));

fn rows(state: &mut KubeletState, now_ms: u64) -> Vec<Row> {
    let samples = state.samples(now_ms);
    let row = |one: &ContainerSample<'_>| {
        ((one.pod.0, one.container), (one.at_ms, one.cpu_us, one.memory, one.start_ms))
    };
    samples.containers.iter().map(row).collect()
}

/// Returns the samples of a node's first container over time.
fn first(state: &mut KubeletState, now_ms: u64) -> Vec<(u64, u64, u64, u64)> {
    rows(state, now_ms).into_iter().filter(|(key, _)| *key == (NODE, 0)).map(|(_, sample)| sample).collect()
}

#[test]
fn bodies_have_the_size_of_real_ones() {
    for kind in [KubeletKind::Cached, KubeletKind::OnDemand] {
        let mut body = Vec::new();
        exposition::write(&mut body, &kubelet(kind).samples(NOW_MS));
        assert!((40_000..50_000).contains(&body.len()), "{}", body.len());
        assert!(body.ends_with(b"\nresource_scrape_error 0\n"));
    }
}

#[test]
fn cached_timestamps_repeat_for_up_to_twice_the_period() {
    let mut state = kubelet(KubeletKind::Cached);
    let mut ages = [Vec::new(), Vec::new()];
    let mut changes = [0, 0];
    let mut last: Vec<Row> = Vec::new();
    for second in 0..300 {
        let now_ms = NOW_MS + second * 1000;
        let rows = rows(&mut state, now_ms);
        for (at, ((pod, container), (at_ms, ..))) in rows.iter().enumerate() {
            let idle = usize::from(is_idle(Pod(*pod), *container));
            ages[idle].push(now_ms - at_ms);
            changes[idle] += u64::from(last.get(at).is_some_and(|before| before.1.0 != *at_ms));
        }
        last = rows;
    }
    for (idle, period) in [(0, 10_000), (1, 15_000)] {
        let (containers, longest) = (ages[idle].len() as u64 / 300, *ages[idle].iter().max().unwrap());
        assert!((period..2 * period).contains(&longest), "{longest} ms");
        // One sample in one and a half periods.
        let expected = containers * 300_000 * 2 / 3 / period;
        assert!(
            changes[idle].abs_diff(expected) < expected / 10,
            "{} changes, not {expected}",
            changes[idle]
        );
    }
}

#[test]
fn on_demand_samples_are_those_of_the_request() {
    let mut state = kubelet(KubeletKind::OnDemand);
    for now_ms in [NOW_MS, NOW_MS + 1, NOW_MS + 1000] {
        assert!(rows(&mut state, now_ms).iter().all(|(_, (at_ms, ..))| *at_ms == now_ms));
    }
}

#[test]
fn containers_are_sampled_at_different_times() {
    let times: BTreeSet<u64> =
        rows(&mut kubelet(KubeletKind::Cached), NOW_MS).iter().map(|(_, (at_ms, ..))| *at_ms).collect();
    assert!(times.len() > 55, "{}", times.len());
}

#[test]
fn nodes_are_sampled_every_10_s_by_both_kinds() {
    for kind in [KubeletKind::Cached, KubeletKind::OnDemand] {
        let mut state = kubelet(kind);
        let times: BTreeSet<u64> = (0..60).map(|s| state.samples(NOW_MS + s * 1000).node.at_ms).collect();
        let times: Vec<u64> = times.into_iter().collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 10_000), "{times:?}");
    }
}

#[test]
fn rates_between_samples_are_those_of_the_model() {
    let mut state = kubelet(KubeletKind::Cached);
    let (before, after) = (rows(&mut state, NOW_MS), rows(&mut state, NOW_MS + 60_000));
    for ((key, first), (same, second)) in before.into_iter().zip(after) {
        assert_eq!(key, same);
        let millicores = millicores(Pod(key.0), key.1);
        assert_eq!(second.1 - first.1, millicores * (second.0 - first.0), "{key:?}");
        assert!(first.1 > 0 && first.2 > 0 && first.2 < MAX_MEMORY);
    }
    let idle = (0..4000).filter(|pod| is_idle(Pod(*pod), 0)).count();
    assert!((900..=1100).contains(&idle), "{idle} of 4000 are idle");
}

#[test]
fn nodes_use_more_than_their_containers() {
    let all: u64 = rows(&mut kubelet(KubeletKind::Cached), NOW_MS)
        .iter()
        .map(|((pod, container), _)| millicores(Pod(*pod), *container))
        .sum();
    assert!(all < POPULATION.node_millicores() && POPULATION.node_millicores() < 16_000, "{all}");
}

#[test]
fn restarted_containers_count_from_their_new_start() {
    let mut state = kubelet(KubeletKind::Cached);
    state.restart(Pod(NODE), 0, NOW_MS + 2000);
    assert_eq!(first(&mut state, NOW_MS + 1999), []);
    // From the runtime, then from cAdvisor's cache.
    for (now_ms, latest) in [(NOW_MS + 3000, 0), (NOW_MS + 60_000, 20_000)] {
        let after = first(&mut state, now_ms);
        let [(at_ms, cpu_us, _, start_ms)] = after[..] else { panic!("{after:?}") };
        assert_eq!(start_ms, NOW_MS + 2000);
        assert!(now_ms - at_ms <= latest, "{at_ms}");
        assert_eq!(cpu_us, START_CPU_US + millicores(Pod(NODE), 0) * (at_ms - start_ms));
    }
}

#[test]
fn pods_start_and_end() {
    let mut state = kubelet(KubeletKind::Cached);
    let new = Pod(31_000);
    state.add(new, NOW_MS + 1000);
    assert_eq!(rows(&mut state, NOW_MS + 999).len(), 60);
    let all = rows(&mut state, NOW_MS + 2000);
    assert_eq!(all.iter().filter(|(key, _)| key.0 == new.0).count(), 2);
    state.remove(new);
    state.remove(Pod(NODE));
    assert_eq!(rows(&mut state, NOW_MS + 3000).len(), 58);
    let mut booted = KubeletState::booted(POPULATION, NODE, KubeletKind::Cached, NOW_MS);
    let samples = booted.samples(NOW_MS);
    assert!(samples.containers.is_empty() && samples.node.cpu_us > 0 && samples.node.at_ms == NOW_MS);
}

fn injected(anomaly: Anomaly) -> KubeletState {
    let mut state = kubelet(KubeletKind::Cached);
    state.samples(NOW_MS);
    state.inject(Some(anomaly), NOW_MS);
    state
}

#[test]
fn duplicate_series_change_their_order() {
    let mut state = injected(Anomaly::DuplicateSeries);
    let dead_first: Vec<bool> = (1..=6)
        .map(|round| {
            let both = first(&mut state, NOW_MS + round * 15_000);
            assert_eq!(both.len(), 2);
            both[0].1 > both[1].1
        })
        .collect();
    assert_eq!(dead_first, [true, true, false, true, false, false]);
    state.inject(None, NOW_MS + 100_000);
    assert_eq!(first(&mut state, NOW_MS + 115_000).len(), 1);
}

#[test]
fn frozen_samples_stand_still() {
    let mut state = injected(Anomaly::Frozen);
    let before = rows(&mut state, NOW_MS);
    let node = state.samples(NOW_MS).node.at_ms;
    assert_eq!(rows(&mut state, NOW_MS + 600_000), before);
    assert_eq!(state.samples(NOW_MS + 600_000).node.at_ms, node);
    let mut state = injected(Anomaly::FrozenContainer);
    let before = rows(&mut state, NOW_MS);
    let after = rows(&mut state, NOW_MS + 600_000);
    let same: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a == b).map(|(a, _)| a.0).collect();
    assert_eq!(same, [(NODE, 0)]);
}

#[test]
fn distorts_what_the_anomaly_names() {
    let mut zero = injected(Anomaly::Zero);
    assert!(matches!(first(&mut zero, NOW_MS)[..], [(_, 0, 0, _)]));
    assert_eq!(zero.samples(NOW_MS).node.memory, 0);
    for (anomaly, error) in [(Anomaly::ScrapeError, true), (Anomaly::NoContainers, false)] {
        let mut state = injected(anomaly);
        let samples = state.samples(NOW_MS);
        assert!(samples.containers.is_empty() && samples.scrape_error == error && samples.node.memory > 0);
    }
    let mut missing = injected(Anomaly::MissingPod);
    assert_eq!((first(&mut missing, NOW_MS).len(), rows(&mut missing, NOW_MS).len()), (0, 58));
    let mut skewed = injected(Anomaly::ClockSkew);
    let times = rows(&mut skewed, NOW_MS).into_iter().map(|(_, (at_ms, ..))| at_ms).collect::<Vec<_>>();
    assert!(times.iter().all(|at_ms| (3_570_000..3_630_000).contains(&at_ms.abs_diff(NOW_MS))), "{times:?}");
    let mut moving = injected(Anomaly::MovingStart);
    assert!(rows(&mut moving, NOW_MS + 60_000).iter().all(|(_, (at_ms, _, _, start))| at_ms - start == 4000));
}

#[test]
fn counters_jump_beyond_the_capacity() {
    let mut state = injected(Anomaly::ImplausibleJump);
    let (before, after) = (first(&mut state, NOW_MS + 60_000)[0], first(&mut state, NOW_MS + 120_000)[0]);
    assert!(after.1 - before.1 > 1_000_000 * (after.0 - before.0));
    let mut state = injected(Anomaly::SingleJump);
    let [zeroth, first, second] = [0, 60_000, 120_000].map(|later| first(&mut state, NOW_MS + later)[0]);
    assert!(first.1 - zeroth.1 >= 1_000_000_000_000);
    assert_eq!(second.1 - first.1, millicores(Pod(NODE), 0) * (second.0 - first.0));
}

#[test]
fn restart_storms_restart_one_pod_again_and_again() {
    let mut state = injected(Anomaly::RestartStorm);
    let starts: BTreeSet<u64> =
        (0..120).flat_map(|s| first(&mut state, NOW_MS + s * 1000)).map(|sample| sample.3).collect();
    assert_eq!(starts.len(), 6, "{starts:?}");
}
