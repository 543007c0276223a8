use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn wanted() -> FrontProxyRequirements {
    FrontProxyRequirements {
        common_name: "aggregator".to_owned(),
        ca_validity: 3650 * DAY,
        client_validity: 365 * DAY,
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn bytes(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    (pair.certificate.clone().into_bytes(), pair.key.expose().as_bytes().to_vec())
}

/// Returns what is stored after a plan is applied.
fn stored(plan: &FrontProxyPlan) -> StoredFrontProxy {
    StoredFrontProxy {
        ca: Some(bytes(&plan.ca)),
        next: plan.next.as_ref().map(bytes),
        previous: (!plan.previous.is_empty()).then(|| plan.previous.clone().into_bytes()),
        client: Some(bytes(&plan.client)),
        bundle: Some(plan.bundle.clone().into_bytes()),
        published: None,
    }
}

fn trusts(bundle: &str, client: &Certificate) -> bool {
    let bundle = Certificate::parse_pem(bundle.as_bytes()).expect("a bundle");
    bundle.iter().any(|ca| client.is_client_certificate_of(ca, client.issued()))
}

#[test]
fn issues_a_client_certificate_and_keeps_it() {
    let first = plan(&wanted(), &StoredFrontProxy::default(), start()).expect("a plan");
    assert_eq!(
        (&first.ca_issued, &first.client_issued),
        (&Some(RenewalReason::Missing), &Some(RenewalReason::Missing))
    );
    assert_eq!(first.client_certificate.common_name.as_deref(), Some("aggregator"));
    assert_eq!(first.client_certificate.algorithm, Some(KeyAlgorithm::RSA2048));
    assert!(trusts(&first.bundle, &first.client_certificate) && !first.waits);
    assert!(
        !first.client_certificate.is_server_certificate_of(&first.ca_certificate, start()),
        "it is not a serving certificate"
    );
    let second = plan(&wanted(), &stored(&first), start() + DAY).expect("a plan");
    assert_eq!((second.ca_issued, second.client_issued), (None, None));
    assert_eq!((second.client, second.bundle), (first.client, first.bundle));
}

#[test]
fn next_ca_waits_until_kube_apiserver_publishes_it() {
    let first = plan(&wanted(), &StoredFrontProxy::default(), start()).expect("a plan");
    let mut now = first.ca_certificate.renewal_time();
    let both = plan(&wanted(), &stored(&first), now).expect("a plan");
    assert_eq!(both.ca_issued, Some(RenewalReason::Due));
    assert_eq!(both.ca, first.ca, "the current CA still signs");
    assert!(both.waits && both.next.is_some() && trusts(&both.bundle, &both.client_certificate));
    assert_eq!(Certificate::parse_pem(both.bundle.as_bytes()).expect("a bundle").len(), 2);

    // A year later nobody has copied the file: the old CA still signs client certificates.
    now += 400 * DAY;
    let waiting = plan(&wanted(), &stored(&both), now).expect("a plan");
    assert!(waiting.client_issued.is_some() && waiting.waits);
    assert_eq!((&waiting.ca, &waiting.next, &waiting.ca_issued), (&first.ca, &both.next, &None));
    assert!(waiting.client_certificate.is_client_certificate_of(&first.ca_certificate, now));

    let mut found = stored(&waiting);
    found.published = Some(waiting.bundle.clone().into_bytes());
    let moved = plan(&wanted(), &found, now).expect("a plan");
    assert_eq!(Some(&moved.ca), waiting.next.as_ref());
    assert_eq!((&moved.client_issued, moved.waits), (&Some(RenewalReason::CaReplaced), false));
    assert!(trusts(&moved.bundle, &waiting.client_certificate), "a kube-apiserver may still use it");
    assert!(moved.client_certificate.is_client_certificate_of(&moved.ca_certificate, now));

    let later = plan(&wanted(), &stored(&moved), first.ca_certificate.not_after).expect("a plan");
    assert!(!trusts(&later.bundle, &waiting.client_certificate), "the old CA expired");
}

#[test]
fn client_certificate_stays_trusted_after_its_ca_is_deleted() {
    let first = plan(&wanted(), &StoredFrontProxy::default(), start()).expect("a plan");
    let found = StoredFrontProxy { ca: None, ..stored(&first) };
    let now = start() + DAY;
    let next = plan(&wanted(), &found, now).expect("a plan");
    assert_eq!((&next.ca_issued, &next.client_issued), (&Some(RenewalReason::Missing), &None));
    assert!(next.waits && trusts(&next.bundle, &first.client_certificate));
    let mut found = stored(&next);
    found.published = Some(next.bundle.clone().into_bytes());
    let moved = plan(&wanted(), &found, now).expect("a plan");
    assert_eq!(moved.client_issued, Some(RenewalReason::CaReplaced));
    assert!(trusts(&moved.bundle, &first.client_certificate));
}

#[test]
fn replaces_a_wrong_common_name_and_an_expired_certificate_at_once() {
    let first = plan(&wanted(), &StoredFrontProxy::default(), start()).expect("a plan");
    let other = FrontProxyRequirements { common_name: "front-proxy-client".to_owned(), ..wanted() };
    let renamed = plan(&other, &stored(&first), start() + DAY).expect("a plan");
    assert_eq!(renamed.client_issued, Some(RenewalReason::WrongCommonName("aggregator".to_owned())));
    let late = plan(&wanted(), &stored(&first), start() + 366 * DAY).expect("a plan");
    assert!(matches!(late.client_issued, Some(RenewalReason::Expired(_))) && late.ca_issued.is_none());
}
