use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

fn wanted() -> Wanted {
    Wanted {
        algorithm: KeyAlgorithm::ECDSAP256,
        ca_validity: 365 * DAY,
        serving_validity: 30 * DAY,
        names: super::super::service_names("metrics-core", "monitoring"),
        trust_settles: MINUTE,
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn bytes(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    (pair.certificate.clone().into_bytes(), pair.key.expose().as_bytes().to_vec())
}

/// What is found after a plan was applied.
fn stored(plan: &Plan) -> Found {
    Found {
        ca: plan.ca.as_ref().map(bytes),
        previous: (!plan.previous.is_empty()).then(|| plan.previous.clone().into_bytes()),
        serving: Some(bytes(&plan.serving)),
        serving_ca: Some(plan.bundle.clone().into_bytes()),
        trusted: vec![trusted(&plan.bundle); 2],
        proven: None,
    }
}

fn trusted(bundle: &str) -> Trusted {
    Trusted { bundle: bundle.as_bytes().to_vec(), since: None }
}

fn trusts(bundle: &str, serving: &Certificate) -> bool {
    let bundle = Certificate::parse_pem(bundle.as_bytes()).expect("a bundle");
    bundle.iter().any(|ca| serving.serves_under(ca))
}

#[test]
fn the_first_plan_issues_both_and_the_second_keeps_them() {
    let first = plan(&wanted(), &Found::default(), start()).expect("plan");
    assert_eq!(first.ca_renewed, Some(Why::Missing));
    assert_eq!(first.serving_renewed, Some(Why::Missing));
    assert_eq!(first.rollover, Rollover::Settled);
    assert!(first.ca_certificate.is_ca && !first.serving_certificate.is_ca);
    assert!(trusts(&first.bundle, &first.serving_certificate));
    assert!(first.serving_certificate.dns_names.contains(&"metrics-core.monitoring.svc".to_owned()));
    assert_eq!(first.serving_certificate.not_before, start() - BACKDATE);
    assert_eq!(first.serving_certificate.not_after, start() + 30 * DAY);

    let second = plan(&wanted(), &stored(&first), start() + DAY).expect("plan");
    assert_eq!((second.ca_renewed, second.serving_renewed), (None, None));
    assert_eq!((second.ca, second.serving, second.bundle), (first.ca, first.serving, first.bundle));
}

#[test]
fn a_serving_certificate_is_renewed_when_a_third_is_left() {
    let first = plan(&wanted(), &Found::default(), start()).expect("plan");
    let due = first.serving_certificate.renewal_time();
    assert!(due <= start() + 20 * DAY && due >= start() + 18 * DAY, "{due}");
    assert_eq!(first.next, due);
    let found = stored(&first);
    assert_eq!(plan(&wanted(), &found, due - MINUTE).expect("plan").serving_renewed, None);
    let renewed = plan(&wanted(), &found, due).expect("plan");
    assert_eq!(renewed.serving_renewed, Some(Why::Due));
    assert_eq!(renewed.ca_renewed, None);
    assert_eq!(renewed.bundle, first.bundle);
}

#[test]
fn a_ca_is_replaced_with_an_overlap_at_every_step() {
    let mut now = start();
    let first = plan(&wanted(), &Found::default(), now).expect("plan");
    now = first.ca_certificate.renewal_time();
    let mut found = stored(&first);
    // A young serving certificate, so that only the CA is due.
    found.serving = Some(bytes(
        &issue_leaf(
            first.ca.as_ref().expect("a CA"),
            first.ca_certificate.not_after,
            &wanted().names,
            KeyAlgorithm::ECDSAP256,
            30 * DAY,
            now,
        )
        .expect("leaf"),
    ));

    let trusting = plan(&wanted(), &found, now).expect("plan");
    assert_eq!(trusting.ca_renewed, Some(Why::Due));
    assert_eq!(trusting.serving_renewed, None);
    assert_eq!(trusting.rollover, Rollover::Trusting);
    assert_eq!(Some(bytes(&trusting.serving)), found.serving, "the old certificate goes on");
    assert!(trusts(&trusting.bundle, &trusting.serving_certificate));

    // Written, but one APIService was not yet: nothing moves, however late it is.
    let mut half = stored(&trusting);
    half.trusted = vec![trusted(&trusting.bundle), trusted(&first.bundle)];
    let waiting = plan(&wanted(), &half, now + 10 * MINUTE).expect("plan");
    assert_eq!(
        (waiting.ca_renewed, waiting.serving_renewed, waiting.rollover),
        (None, None, Rollover::Trusting)
    );
    assert_eq!(waiting.bundle, trusting.bundle);

    // All hold it, but not for long enough: counted from when the last of them was written, however old the CA is.
    let found = stored(&trusting);
    let waiting = plan(&wanted(), &found, now + MINUTE / 2).expect("plan");
    assert_eq!((waiting.serving_renewed, waiting.rollover), (None, Rollover::Trusting));
    let mut late = found.clone();
    late.trusted[1].since = Some(now + 20 * MINUTE);
    let waiting = plan(&wanted(), &late, now + 20 * MINUTE + MINUTE / 2).expect("plan");
    assert_eq!((waiting.serving_renewed, waiting.rollover), (None, Rollover::Trusting));
    assert_eq!(waiting.next, now + 21 * MINUTE);

    now += MINUTE;
    let retiring = plan(&wanted(), &found, now).expect("plan");
    assert_eq!(retiring.serving_renewed, Some(Why::NewAuthority));
    assert_eq!(retiring.rollover, Rollover::Retiring);
    assert!(trusts(&retiring.bundle, &trusting.serving_certificate), "the old one is still trusted");
    assert!(trusts(&retiring.bundle, &retiring.serving_certificate));

    // Time proves nothing, nor does another certificate.
    let mut found = stored(&retiring);
    for proven in [None, Some(trusting.serving_certificate.clone())] {
        found.proven = proven;
        let still = plan(&wanted(), &found, now + 600 * MINUTE).expect("plan");
        assert_eq!((still.rollover, still.bundle), (Rollover::Retiring, retiring.bundle.clone()));
    }

    found.proven = Some(retiring.serving_certificate.clone());
    let settled = plan(&wanted(), &found, now + MINUTE).expect("plan");
    assert_eq!(settled.rollover, Rollover::Settled);
    assert_eq!(settled.serving_renewed, None);
    assert!(settled.previous.is_empty());
    assert!(trusts(&settled.bundle, &settled.serving_certificate));
    assert!(!trusts(&settled.bundle, &trusting.serving_certificate));
}

#[test]
fn a_deleted_ca_secret_does_not_break_what_is_served() {
    let first = plan(&wanted(), &Found::default(), start()).expect("plan");
    let mut found = stored(&first);
    found.ca = None;
    let next = plan(&wanted(), &found, start() + DAY).expect("plan");
    assert_eq!(next.ca_renewed, Some(Why::Missing));
    assert_eq!((next.serving_renewed, next.rollover), (None, Rollover::Trusting));
    assert!(trusts(&next.bundle, &first.serving_certificate));
}

#[test]
fn what_replicas_serve_is_trusted_when_both_secrets_are_deleted() {
    let first = plan(&wanted(), &Found::default(), start()).expect("plan");
    let found = Found { trusted: vec![trusted(&first.bundle); 2], ..Found::default() };
    let next = plan(&wanted(), &found, start() + DAY).expect("plan");
    assert_eq!((next.serving_renewed.as_ref(), next.rollover), (Some(&Why::Missing), Rollover::Retiring));
    assert!(trusts(&next.bundle, &first.serving_certificate));
    assert!(trusts(&next.bundle, &next.serving_certificate));
    // Once every replica is seen to serve the new one, the old one is trusted no more.
    let proven = Some(next.serving_certificate.clone());
    let settled = plan(&wanted(), &Found { proven, ..stored(&next) }, start() + DAY).expect("plan");
    assert_eq!(settled.rollover, Rollover::Settled);
    assert!(!trusts(&settled.bundle, &first.serving_certificate));
}

#[test]
fn what_can_not_be_used_is_replaced_at_once() {
    let first = plan(&wanted(), &Found::default(), start()).expect("plan");
    let other = plan(&wanted(), &Found::default(), start()).expect("plan");
    let renewed = |change: &dyn Fn(&mut Found), now: Timestamp| {
        let mut found = stored(&first);
        change(&mut found);
        plan(&wanted(), &found, now).expect("plan").serving_renewed
    };
    let now = start() + DAY;
    assert_eq!(renewed(&|found| found.serving = None, now), Some(Why::Missing));
    assert!(matches!(
        renewed(&|found| found.serving.as_mut().expect("serving").0 = b"nonsense".to_vec(), now),
        Some(Why::Unreadable(_))
    ));
    assert_eq!(
        renewed(
            &|found| found.serving.as_mut().expect("serving").1 =
                other.serving.key.expose().as_bytes().to_vec(),
            now
        ),
        Some(Why::KeyMismatch)
    );
    assert_eq!(
        renewed(&|found| found.serving = Some(bytes(&other.serving)), now),
        Some(Why::UnknownAuthority)
    );
    assert!(matches!(renewed(&|_| {}, start() + 31 * DAY), Some(Why::Expired(_))));
    assert!(matches!(renewed(&|_| {}, start() - DAY), Some(Why::NotYetValid(_))));

    let mut moved = wanted();
    moved.names = super::super::service_names("metrics-core", "elsewhere");
    assert!(matches!(
        plan(&moved, &stored(&first), now).expect("plan").serving_renewed,
        Some(Why::WrongNames(_))
    ));
}

#[test]
fn a_change_of_algorithm_replaces_both_with_an_overlap() {
    let first = plan(&wanted(), &Found::default(), start()).expect("plan");
    let rsa = Wanted { algorithm: KeyAlgorithm::RSA2048, ..wanted() };
    let now = start() + DAY;
    let trusting = plan(&rsa, &stored(&first), now).expect("plan");
    assert_eq!(trusting.ca_renewed, Some(Why::AlgorithmChanged));
    assert_eq!((&trusting.serving_renewed, trusting.rollover), (&None, Rollover::Trusting));
    let retiring = plan(&rsa, &stored(&trusting), now + MINUTE).expect("plan");
    assert_eq!(retiring.serving_certificate.algorithm, Some(KeyAlgorithm::RSA2048));
    assert_eq!(retiring.rollover, Rollover::Retiring);
}

#[test]
fn a_shortened_validity_is_followed_and_a_longer_one_waits() {
    let first = plan(&wanted(), &Found::default(), start()).expect("plan");
    let shorter = Wanted { serving_validity: DAY, ..wanted() };
    let longer = Wanted { serving_validity: 90 * DAY, ..wanted() };
    let now = start() + Duration::from_secs(1);
    assert_eq!(
        plan(&shorter, &stored(&first), now).expect("plan").serving_renewed,
        Some(Why::ValidityShortened)
    );
    assert_eq!(plan(&longer, &stored(&first), now).expect("plan").serving_renewed, None);
}

#[test]
fn a_serving_certificate_never_outlives_its_ca() {
    let short = Wanted { ca_validity: DAY, serving_validity: DAY, ..wanted() };
    let first = plan(&short, &Found::default(), start()).expect("plan");
    assert_eq!(first.serving_certificate.not_after, first.ca_certificate.not_after);
}

#[test]
fn keys_are_not_shown() {
    let first = plan(&wanted(), &Found::default(), start()).expect("plan");
    let shown = format!("{first:?}");
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
}

proptest::proptest! {
    /// Whatever the validities and however long the operator was away: what is served is always trusted by
    /// the bundle, is valid, and a plan that was applied is kept by the next one.
    #[test]
    fn every_plan_is_safe(
        ca_hours in 1_u32..2000, part in 1_u32..=100,
        steps in proptest::collection::vec((0_u32..200_000, proptest::bool::ANY), 1..6),
    ) {
        let hour = Duration::from_secs(3600);
        let wanted = Wanted {
            ca_validity: hour * ca_hours,
            serving_validity: (hour * ca_hours * part / 100).max(hour),
            ..wanted()
        };
        let mut now = start();
        let mut current = plan(&wanted, &Found::default(), now).expect("plan");
        for (step, proven) in steps {
            now += Duration::from_secs(u64::from(step));
            let mut before = stored(&current);
            before.proven = proven.then(|| current.serving_certificate.clone());
            current = plan(&wanted, &before, now).expect("plan");
            proptest::prop_assert!(trusts(&current.bundle, &current.serving_certificate));
            proptest::prop_assert!(current.serving_certificate.valid_at(now));
            // Either what served before stays trusted, or it could not be used any more.
            let old = first(std::str::from_utf8(&before.serving.as_ref().expect("serving").0).expect("text")).expect("pem");
            proptest::prop_assert!(trusts(&current.bundle, &old) || !old.valid_at(now));
            // An old CA goes only when its successor is proven to serve, or when it could not vouch for anything any more.
            let served = current.serving_certificate.clone();
            let dropped = Certificate::parse_pem(&before.trusted[0].bundle).expect("a bundle").into_iter()
                .any(|ca| ca.valid_at(now) && !current.bundle.contains(ca.to_pem().trim_end()));
            proptest::prop_assert!(!dropped || (proven && before.serving_ca.is_some() && old == served));
            // What is newly served was trusted before, unless nothing that was served could be used.
            let trusted_before = trusts(std::str::from_utf8(&before.trusted[0].bundle).expect("text"), &current.serving_certificate);
            proptest::prop_assert!(trusted_before || !old.valid_at(now));
            let again = plan(&wanted, &stored(&current), now).expect("plan");
            proptest::prop_assert_eq!((again.ca_renewed, again.serving_renewed), (None, None));
            proptest::prop_assert_eq!(again.bundle, current.bundle.clone());
        }
    }
}
