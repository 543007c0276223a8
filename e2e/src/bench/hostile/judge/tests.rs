use super::*;

const LIMIT_MB: f64 = 100.0;

/// A run of one phase: quiet until 20 s, an attack until 100 s. All lists take 2 ms.
fn run(phase: Phase) -> (Vec<Span>, Vec<Sent>, Vec<Second>) {
    let seconds = Duration::from_secs;
    let span = Span {
        phase,
        quiet: seconds(0),
        from: seconds(20),
        until: seconds(100),
        recovered: seconds(110),
        attacks: BTreeMap::new(),
    };
    let clients = [Client::Direct, Client::Aggregated, Client::Livez, Client::Readyz, Client::Version];
    let sent = (0..110).flat_map(|second| {
        clients.map(|client| Sent {
            client,
            at: seconds(second),
            took: Duration::from_millis(2),
            error: None,
            repeated: false,
        })
    });
    let second =
        Second { charged_mb: 50.0, age_s: Some(20.0), connections_replaced: Some(1.0), ..Second::default() };
    (vec![span], sent.collect(), vec![second; 110])
}

fn problems((spans, sent, seconds): &(Vec<Span>, Vec<Sent>, Vec<Second>)) -> Vec<String> {
    judge(spans, sent, seconds, LIMIT_MB).into_iter().flat_map(|figures| figures.problems).collect()
}

fn fail(run: &mut (Vec<Span>, Vec<Sent>, Vec<Second>), client: Client, at: std::ops::Range<u64>) {
    for sent in run.1.iter_mut().filter(|sent| sent.client == client && at.contains(&sent.at.as_secs())) {
        sent.error = Some("broken".into());
    }
}

#[test]
fn healthy_run_passes() {
    assert_eq!(problems(&run(Phase::SlowReaders)), Vec::<String>::new());
}

#[test]
fn one_failed_list_or_probe_is_a_problem() {
    for client in [Client::Direct, Client::Aggregated, Client::Livez, Client::Readyz] {
        let mut run = run(Phase::SlowReaders);
        fail(&mut run, client, 50..51);
        assert!(problems(&run)[0].starts_with("1 failed"), "{client:?}");
    }
}

#[test]
fn aggregated_lists_may_fail_while_and_just_after_the_apiserver_fails() {
    let mut run = run(Phase::ApiserverFrozen);
    run.2[30].age_s = Some(46.0);
    fail(&mut run, Client::Version, 20..90);
    fail(&mut run, Client::Aggregated, 20..100);
    assert_eq!(problems(&run), Vec::<String>::new());
    fail(&mut run, Client::Aggregated, 20..105);
    assert!(
        problems(&run)[0].starts_with("4 failed aggregated: 4 × broken, first at 101 s"),
        "{:?}",
        problems(&run)
    );
}

#[test]
fn slow_lists_are_a_problem_from_three_times_the_quiet_p99_on() {
    for (milliseconds, expected) in [(6, 0), (7, 1)] {
        let mut run = run(Phase::SlowReaders);
        let during = |sent: &&mut Sent| sent.client == Client::Direct && sent.at.as_secs() >= 50;
        run.1.iter_mut().filter(during).for_each(|sent| sent.took = Duration::from_millis(milliseconds));
        assert_eq!(problems(&run).len(), expected, "{milliseconds}");
    }
}

#[test]
fn kills_restarts_and_memory_above_the_limit_are_problems() {
    let mut run = run(Phase::Kubelets);
    for second in &mut run.2[60..] {
        (second.oom_kills, second.restarts, second.charged_mb) = (1, 2, 101.0);
    }
    assert_eq!(problems(&run), ["1 OOM kills", "2 restarts", "101.0 MB of 100.0"]);
}

#[test]
fn outage_must_be_visible_within_a_minute() {
    let mut run = run(Phase::ApiserverKilled);
    assert_eq!(problems(&run), ["no metric shows the outage"]);
    for second in &mut run.2[85..95] {
        second.age_s = Some(70.0);
    }
    assert_eq!(problems(&run), ["no metric shows the outage for 65 s"]);
    run.2[79].connections_replaced = Some(2.0);
    assert_eq!(problems(&run), Vec::<String>::new());
    for second in &mut run.2[95..] {
        second.age_s = Some(70.0);
    }
    assert_eq!(problems(&run), ["what metrics-core knows stays old after the outage"]);
}

#[test]
fn attack_that_reached_nothing_is_a_problem() {
    let mut run = run(Phase::SilentSockets);
    run.0[0].attacks.insert("silent-sockets".into(), AttackCounts { failed: 7, ..AttackCounts::default() });
    assert_eq!(problems(&run), ["the attack silent-sockets opened no connection"]);
}
