use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

fn wanted() -> ServingRequirements {
    ServingRequirements {
        algorithm: KeyAlgorithm::ECDSAP256,
        ca_validity: 365 * DAY,
        serving_validity: 30 * DAY,
        names: super::super::service_names("metrics-core", "monitoring"),
        trust_delay: MINUTE,
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn bytes(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    (pair.certificate.clone().into_bytes(), pair.key.expose().as_bytes().to_vec())
}

/// Returns what is stored after a plan is applied.
fn stored(plan: &ServingPlan) -> StoredServing {
    StoredServing {
        ca: plan.ca.as_ref().map(bytes),
        previous: (!plan.previous.is_empty()).then(|| plan.previous.clone().into_bytes()),
        serving: Some(bytes(&plan.serving)),
        serving_ca: Some(plan.bundle.clone().into_bytes()),
        trusted: vec![trusted(&plan.bundle); 2],
        proven: None,
    }
}

/// Returns a bundle that every kube-apiserver has by now.
fn trusted(bundle: &str) -> TrustedBundle {
    TrustedBundle { bundle: bundle.as_bytes().to_vec(), announced_for: MINUTE }
}

/// Returns the same as [`stored`], with bundles that are announced for some time.
fn announced_for(plan: &ServingPlan, age: Duration) -> StoredServing {
    let trusted = TrustedBundle { announced_for: age, ..trusted(&plan.bundle) };
    StoredServing { trusted: vec![trusted; 2], ..stored(plan) }
}

fn trusts(bundle: &str, serving: &Certificate) -> bool {
    let bundle = Certificate::parse_pem(bundle.as_bytes()).expect("a bundle");
    bundle.iter().any(|ca| serving.is_server_certificate_of(ca, serving.issued()))
}

#[test]
fn first_plan_issues_both_and_second_keeps_them() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    assert_eq!(first.ca_renewed, Some(RenewalReason::Missing));
    assert_eq!(first.serving_renewed, Some(RenewalReason::Missing));
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
fn renews_a_serving_certificate_when_a_third_of_its_validity_is_left() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let due = first.serving_certificate.renewal_time();
    assert!(due <= start() + 20 * DAY && due >= start() + 18 * DAY, "{due}");
    assert_eq!(first.next, due);
    let found = stored(&first);
    assert_eq!(plan(&wanted(), &found, due - MINUTE).expect("plan").serving_renewed, None);
    let renewed = plan(&wanted(), &found, due).expect("plan");
    assert_eq!(renewed.serving_renewed, Some(RenewalReason::Due));
    assert_eq!(renewed.ca_renewed, None);
    assert_eq!(renewed.bundle, first.bundle);
}

#[test]
fn ca_rollover_overlaps_at_every_step() {
    let mut now = start();
    let first = plan(&wanted(), &StoredServing::default(), now).expect("plan");
    now = first.ca_certificate.renewal_time();
    let mut found = stored(&first);
    // A new serving certificate, so that only the CA is due.
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
    assert_eq!(trusting.ca_renewed, Some(RenewalReason::Due));
    assert_eq!(trusting.serving_renewed, None);
    assert_eq!(trusting.rollover, Rollover::Trusting);
    assert_eq!(Some(bytes(&trusting.serving)), found.serving, "the old certificate is served");
    assert!(trusts(&trusting.bundle, &trusting.serving_certificate));

    // One APIService does not contain the new CA: the rollover waits without a timeout.
    let mut half = stored(&trusting);
    half.trusted = vec![trusted(&trusting.bundle), trusted(&first.bundle)];
    let waiting = plan(&wanted(), &half, now + 10 * MINUTE).expect("plan");
    assert_eq!(
        (waiting.ca_renewed, waiting.serving_renewed, waiting.rollover),
        (None, None, Rollover::Trusting)
    );
    assert_eq!(waiting.bundle, trusting.bundle);

    // All contain it, but not for the trust delay, which starts when the last APIService is written.
    let waiting = plan(&wanted(), &announced_for(&trusting, MINUTE / 2), now + MINUTE / 2).expect("plan");
    assert_eq!((waiting.serving_renewed, waiting.rollover), (None, Rollover::Trusting));
    let found = stored(&trusting);
    let mut late = found.clone();
    late.trusted[1].announced_for = MINUTE / 2;
    let waiting = plan(&wanted(), &late, now + 20 * MINUTE).expect("plan");
    assert_eq!((waiting.serving_renewed, waiting.rollover), (None, Rollover::Trusting));
    assert_eq!(waiting.next, now + 20 * MINUTE + MINUTE / 2);

    now += MINUTE;
    let retiring = plan(&wanted(), &found, now).expect("plan");
    assert_eq!(retiring.serving_renewed, Some(RenewalReason::CaReplaced));
    assert_eq!(retiring.rollover, Rollover::Retiring);
    assert!(trusts(&retiring.bundle, &trusting.serving_certificate), "the old one is still trusted");
    assert!(trusts(&retiring.bundle, &retiring.serving_certificate));

    // Neither time nor another verified certificate ends the rollover.
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

/// The operator's clock may be ahead of kube-apiserver's, or be set while it waits.
#[test]
fn clock_that_is_ahead_does_not_shorten_the_overlap() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let now = start() + DAY;
    let trusting = plan(&wanted(), &StoredServing { ca: None, ..stored(&first) }, now).expect("plan");
    assert_eq!(trusting.rollover, Rollover::Trusting);
    for ahead in [61, 3600] {
        let second = Duration::from_secs(1);
        let found = announced_for(&trusting, second);
        let waiting = plan(&wanted(), &found, now + second * ahead).expect("plan");
        assert_eq!(waiting.rollover, Rollover::Trusting, "{ahead} s ahead");
    }
}

#[test]
fn served_certificate_stays_trusted_after_the_ca_secret_is_deleted() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let mut found = stored(&first);
    found.ca = None;
    let next = plan(&wanted(), &found, start() + DAY).expect("plan");
    assert_eq!(next.ca_renewed, Some(RenewalReason::Missing));
    assert_eq!((next.serving_renewed, next.rollover), (None, Rollover::Trusting));
    assert!(trusts(&next.bundle, &first.serving_certificate));
}

#[test]
fn served_certificate_stays_trusted_after_both_secrets_are_deleted() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let found = StoredServing { trusted: vec![trusted(&first.bundle); 2], ..StoredServing::default() };
    let next = plan(&wanted(), &found, start() + DAY).expect("plan");
    assert_eq!(
        (next.serving_renewed.as_ref(), next.rollover),
        (Some(&RenewalReason::Missing), Rollover::Retiring)
    );
    assert!(trusts(&next.bundle, &first.serving_certificate));
    assert!(trusts(&next.bundle, &next.serving_certificate));
    // When every replica serves the new certificate, the old CA is removed.
    let proven = Some(next.serving_certificate.clone());
    let settled = plan(&wanted(), &StoredServing { proven, ..stored(&next) }, start() + DAY).expect("plan");
    assert_eq!(settled.rollover, Rollover::Settled);
    assert!(!trusts(&settled.bundle, &first.serving_certificate));
}

#[test]
fn replaces_an_unusable_certificate_at_once() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let other = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let renewed = |change: &dyn Fn(&mut StoredServing), now: Timestamp| {
        let mut found = stored(&first);
        change(&mut found);
        plan(&wanted(), &found, now).expect("plan").serving_renewed
    };
    let now = start() + DAY;
    assert_eq!(renewed(&|found| found.serving = None, now), Some(RenewalReason::Missing));
    assert!(matches!(
        renewed(&|found| found.serving.as_mut().expect("serving").0 = b"nonsense".to_vec(), now),
        Some(RenewalReason::Unreadable(_))
    ));
    assert_eq!(
        renewed(
            &|found| found.serving.as_mut().expect("serving").1 =
                other.serving.key.expose().as_bytes().to_vec(),
            now
        ),
        Some(RenewalReason::KeyMismatch)
    );
    assert_eq!(
        renewed(&|found| found.serving = Some(bytes(&other.serving)), now),
        Some(RenewalReason::UnknownCa)
    );
    assert!(matches!(renewed(&|_| {}, start() + 31 * DAY), Some(RenewalReason::Expired(_))));
    assert!(matches!(renewed(&|_| {}, start() - DAY), Some(RenewalReason::NotYetValid(_))));

    let mut moved = wanted();
    moved.names = super::super::service_names("metrics-core", "elsewhere");
    assert!(matches!(
        plan(&moved, &stored(&first), now).expect("plan").serving_renewed,
        Some(RenewalReason::WrongNames(_))
    ));
}

#[test]
fn change_of_algorithm_replaces_both_with_an_overlap() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let rsa = ServingRequirements { algorithm: KeyAlgorithm::RSA2048, ..wanted() };
    let now = start() + DAY;
    let trusting = plan(&rsa, &stored(&first), now).expect("plan");
    assert_eq!(trusting.ca_renewed, Some(RenewalReason::AlgorithmChanged));
    assert_eq!((&trusting.serving_renewed, trusting.rollover), (&None, Rollover::Trusting));
    let retiring = plan(&rsa, &stored(&trusting), now + MINUTE).expect("plan");
    assert_eq!(retiring.serving_certificate.algorithm, Some(KeyAlgorithm::RSA2048));
    assert_eq!(retiring.rollover, Rollover::Retiring);
}

#[test]
fn shorter_validity_applies_at_once_and_longer_at_the_next_renewal() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let shorter = ServingRequirements { serving_validity: DAY, ..wanted() };
    let longer = ServingRequirements { serving_validity: 90 * DAY, ..wanted() };
    let now = start() + Duration::from_secs(1);
    assert_eq!(
        plan(&shorter, &stored(&first), now).expect("plan").serving_renewed,
        Some(RenewalReason::ValidityShortened)
    );
    assert_eq!(plan(&longer, &stored(&first), now).expect("plan").serving_renewed, None);
}

#[test]
fn serving_certificate_expires_with_its_ca_at_the_latest() {
    let short = ServingRequirements { ca_validity: DAY, serving_validity: DAY, ..wanted() };
    let first = plan(&short, &StoredServing::default(), start()).expect("plan");
    assert_eq!(first.serving_certificate.not_after, first.ca_certificate.not_after);
}

#[test]
fn debug_does_not_print_keys() {
    let first = plan(&wanted(), &StoredServing::default(), start()).expect("plan");
    let shown = format!("{first:?}");
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
}

proptest::proptest! {
    /// For any validities and any downtime of the operator, the served certificate is valid and trusted by the
    /// bundle, and the next plan keeps an applied one.
    #[test]
    fn every_plan_is_safe(
        ca_hours in 1_u32..2000, part in 1_u32..=100,
        steps in proptest::collection::vec((0_u32..200_000, proptest::bool::ANY), 1..6),
    ) {
        let hour = Duration::from_secs(3600);
        let wanted = ServingRequirements {
            ca_validity: hour * ca_hours,
            serving_validity: (hour * ca_hours * part / 100).max(hour),
            ..wanted()
        };
        let mut now = start();
        let mut current = plan(&wanted, &StoredServing::default(), now).expect("plan");
        for (step, proven) in steps {
            now += Duration::from_secs(u64::from(step));
            let mut before = stored(&current);
            before.proven = proven.then(|| current.serving_certificate.clone());
            for trusted in &mut before.trusted {
                trusted.announced_for = Duration::from_secs(u64::from(step));
            }
            current = plan(&wanted, &before, now).expect("plan");
            proptest::prop_assert!(trusts(&current.bundle, &current.serving_certificate));
            proptest::prop_assert!(current.serving_certificate.valid_at(now));
            // The previous certificate stays trusted or has expired.
            let old = first(std::str::from_utf8(&before.serving.as_ref().expect("serving").0).expect("text")).expect("pem");
            proptest::prop_assert!(trusts(&current.bundle, &old) || !old.valid_at(now));
            // An old CA is removed only when every replica serves the new certificate or the old CA has expired.
            let served = current.serving_certificate.clone();
            let dropped = Certificate::parse_pem(&before.trusted[0].bundle).expect("a bundle").into_iter()
                .any(|ca| ca.valid_at(now) && !current.bundle.contains(ca.to_pem().trim_end()));
            proptest::prop_assert!(!dropped || (proven && before.serving_ca.is_some() && old == served));
            // A new serving certificate was trusted before, unless the old one had expired.
            let trusted_before = trusts(std::str::from_utf8(&before.trusted[0].bundle).expect("text"), &current.serving_certificate);
            proptest::prop_assert!(trusted_before || !old.valid_at(now));
            let again = plan(&wanted, &announced_for(&current, Duration::ZERO), now).expect("plan");
            proptest::prop_assert_eq!((again.ca_renewed, again.serving_renewed), (None, None));
            proptest::prop_assert_eq!(again.bundle, current.bundle.clone());
        }
    }
}
