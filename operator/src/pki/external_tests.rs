use super::*;
use crate::pki::{self, Trusted, issue_ca, issue_leaf, service_names};
use crds::KeyAlgorithm;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

fn wanted() -> Wanted {
    Wanted {
        algorithm: KeyAlgorithm::ECDSAP256,
        ca_validity: 365 * DAY,
        serving_validity: 30 * DAY,
        names: service_names("metrics-core", "ns"),
        trust_settles: MINUTE,
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn bytes(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    (pair.certificate.clone().into_bytes(), pair.key.expose().as_bytes().to_vec())
}

/// A company's CA and a certificate of it for these names.
fn issued(names: &[&str]) -> External {
    let ca = issue_ca("company", KeyAlgorithm::ECDSAP256, 365 * DAY, start()).expect("a CA");
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let until = start() + 365 * DAY;
    let leaf = issue_leaf(&ca, until, &names, KeyAlgorithm::ECDSAP256, 90 * DAY, start()).expect("a leaf");
    External { pair: Some(bytes(&leaf)), authorities: Some(ca.certificate.into_bytes()) }
}

fn stored(plan: &Plan) -> Found {
    let trusted = Trusted { bundle: plan.bundle.clone().into_bytes(), since: Some(start()) };
    Found {
        ca: plan.ca.as_ref().map(bytes),
        serving: Some(bytes(&plan.serving)),
        serving_ca: Some(plan.bundle.clone().into_bytes()),
        trusted: vec![trusted; 2],
        ..Found::default()
    }
}

fn trusts(bundle: &str, serving: &Certificate) -> bool {
    let bundle = Certificate::parse_pem(bundle.as_bytes()).expect("a bundle");
    bundle.iter().any(|ca| serving.serves_under(ca))
}

const NAME: &str = "metrics-core.ns.svc";

#[test]
fn the_first_certificate_is_served_at_once() {
    let plan = plan(&wanted(), &issued(&[NAME]), &Found::default(), start()).expect("a plan");
    assert_eq!((plan.rollover, plan.serving_renewed), (Rollover::Settled, Some(Why::OwnersChoice)));
    assert!(plan.ca.is_none() && trusts(&plan.bundle, &plan.serving_certificate));
    let wildcard = super::plan(&wanted(), &issued(&["*.ns.svc"]), &Found::default(), start());
    assert!(wildcard.is_ok(), "a wildcard names it too");
}

#[test]
fn an_owners_change_of_everything_is_staged() {
    let own = pki::plan(&wanted(), &Found::default(), start()).expect("a plan");
    let theirs = issued(&[NAME]);
    let now = start() + DAY;
    let mut found = stored(&own);
    let trusting = plan(&wanted(), &theirs, &found, now).expect("a plan");
    assert_eq!((trusting.rollover, &trusting.serving), (Rollover::Trusting, &own.serving));
    assert!(trusts(&trusting.bundle, &own.serving_certificate));

    // Both are trusted, but only just.
    found.trusted = stored(&trusting).trusted;
    found.trusted[0].since = Some(now);
    let waiting = plan(&wanted(), &theirs, &found, now + MINUTE / 2).expect("a plan");
    assert_eq!((waiting.rollover, waiting.next), (Rollover::Trusting, now + MINUTE));

    let retiring = plan(&wanted(), &theirs, &found, now + MINUTE).expect("a plan");
    assert_eq!(retiring.rollover, Rollover::Retiring);
    assert!(trusts(&retiring.bundle, &own.serving_certificate));
    assert!(trusts(&retiring.bundle, &retiring.serving_certificate));

    let mut found = Found { ca: found.ca, ..stored(&retiring) };
    assert_eq!(plan(&wanted(), &theirs, &found, now + DAY).expect("a plan").rollover, Rollover::Retiring);
    found.proven = Some(retiring.serving_certificate.clone());
    let settled = plan(&wanted(), &theirs, &found, now + DAY).expect("a plan");
    assert_eq!(settled.rollover, Rollover::Settled);
    assert!(!trusts(&settled.bundle, &own.serving_certificate));

    // And back: what is theirs stays trusted until ours is served.
    let back = pki::plan(&wanted(), &stored(&settled), now + 2 * DAY).expect("a plan");
    assert_eq!((back.rollover, &back.serving_renewed), (Rollover::Trusting, &None));
    assert!(trusts(&back.bundle, &settled.serving_certificate));
}

#[test]
fn a_self_signed_certificate_is_replaced_with_an_overlap_too() {
    let issued = || {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.self_signed(&key).expect("a certificate").pem().into_bytes();
        let pair = Some((certificate.clone(), key.serialize_pem().into_bytes()));
        External { pair, authorities: Some(certificate) }
    };
    let first = plan(&wanted(), &issued(), &Found::default(), start()).expect("a plan");
    let trusting = plan(&wanted(), &issued(), &stored(&first), start()).expect("a plan");
    assert_eq!((trusting.rollover, &trusting.serving), (Rollover::Trusting, &first.serving));
    assert!(trusts(&trusting.bundle, &first.serving_certificate));
    let retiring = plan(&wanted(), &issued(), &stored(&trusting), start() + DAY).expect("a plan");
    assert!(trusts(&retiring.bundle, &first.serving_certificate));
}

#[test]
fn what_can_not_be_served_is_named() {
    let error = |change: &dyn Fn(&mut External), now: Timestamp| {
        let mut external = issued(&[NAME]);
        change(&mut external);
        plan(&wanted(), &external, &Found::default(), now).expect_err("an error").to_string()
    };
    let other = issued(&[NAME]);
    assert!(error(&|external| external.pair = None, start()).contains("no keys tls.crt"));
    assert!(error(&|_| {}, start() + 91 * DAY).contains("expired"));
    assert!(error(&|external| external.authorities = None, start()).contains("ca.crt"));
    assert!(
        error(&|external| external.authorities.clone_from(&other.authorities), start()).contains("vouches")
    );
    let swap = |external: &mut External| {
        external.pair.as_mut().expect("a pair").1 = other.pair.clone().expect("a pair").1;
    };
    assert!(error(&swap, start()).contains("not the key of tls.crt"));
    let named = issued(&["elsewhere.ns.svc", "*.svc"]);
    let error = plan(&wanted(), &named, &Found::default(), start()).expect_err("an error").to_string();
    assert!(error.contains("elsewhere.ns.svc"), "{error}");
    assert!(!format!("{other:?}").contains("PRIVATE"));
}
