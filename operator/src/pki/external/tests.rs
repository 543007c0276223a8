use super::*;
use crate::pki::{self, TrustedBundle, issue_ca, issue_leaf, service_names};
use crds::KeyAlgorithm;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

fn wanted() -> ServingRequirements {
    ServingRequirements {
        algorithm: KeyAlgorithm::ECDSAP256,
        ca_validity: 365 * DAY,
        serving_validity: 30 * DAY,
        names: service_names("metrics-core", "ns"),
        trust_delay: MINUTE,
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn bytes(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    (pair.certificate.clone().into_bytes(), pair.key.expose().as_bytes().to_vec())
}

/// Issues a CA and a certificate of it for these names.
fn issued(names: &[&str]) -> ExternalCertificate {
    let ca = issue_ca("company", KeyAlgorithm::ECDSAP256, 365 * DAY, start()).expect("a CA");
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let until = start() + 365 * DAY;
    let leaf = issue_leaf(&ca, until, &names, KeyAlgorithm::ECDSAP256, 90 * DAY, start()).expect("a leaf");
    ExternalCertificate { pair: Some(bytes(&leaf)), ca_bundle: Some(ca.certificate.into_bytes()) }
}

fn stored(plan: &ServingPlan) -> StoredServing {
    let trusted = TrustedBundle { bundle: plan.bundle.clone().into_bytes(), announced_for: DAY };
    StoredServing {
        ca: plan.ca.as_ref().map(bytes),
        serving: Some(bytes(&plan.serving)),
        serving_ca: Some(plan.bundle.clone().into_bytes()),
        trusted: vec![trusted; 2],
        ..StoredServing::default()
    }
}

fn trusts(bundle: &str, serving: &Certificate) -> bool {
    let bundle = Certificate::parse_pem(bundle.as_bytes()).expect("a bundle");
    bundle.iter().any(|ca| serving.is_server_certificate_of(ca, serving.issued()))
}

const NAME: &str = "metrics-core.ns.svc";

#[test]
fn serves_the_first_certificate_at_once() {
    let plan = plan(&wanted(), &issued(&[NAME]), &StoredServing::default(), start()).expect("a plan");
    assert_eq!(
        (plan.rollover, plan.serving_renewed),
        (Rollover::Settled, Some(RenewalReason::SourceChanged))
    );
    assert!(plan.ca.is_none() && trusts(&plan.bundle, &plan.serving_certificate));
    let wildcard = super::plan(&wanted(), &issued(&["*.ns.svc"]), &StoredServing::default(), start());
    assert!(wildcard.is_ok(), "a wildcard matches");
}

#[test]
fn change_to_an_external_ca_is_a_rollover() {
    let own = pki::serving::plan(&wanted(), &StoredServing::default(), start()).expect("a plan");
    let theirs = issued(&[NAME]);
    let now = start() + DAY;
    let mut found = stored(&own);
    let trusting = plan(&wanted(), &theirs, &found, now).expect("a plan");
    assert_eq!((trusting.rollover, &trusting.serving), (Rollover::Trusting, &own.serving));
    assert!(trusts(&trusting.bundle, &own.serving_certificate));

    // Both are trusted, but the trust delay has not passed.
    found.trusted = stored(&trusting).trusted;
    found.trusted[0].announced_for = MINUTE / 2;
    let waiting = plan(&wanted(), &theirs, &found, now + MINUTE / 2).expect("a plan");
    assert_eq!((waiting.rollover, waiting.next), (Rollover::Trusting, now + MINUTE));
    // Whatever the operator's clock says.
    let waiting = plan(&wanted(), &theirs, &found, now + 61 * MINUTE).expect("a plan");
    assert_eq!(waiting.rollover, Rollover::Trusting);

    found.trusted[0].announced_for = MINUTE;
    let retiring = plan(&wanted(), &theirs, &found, now + MINUTE).expect("a plan");
    assert_eq!(retiring.rollover, Rollover::Retiring);
    assert!(trusts(&retiring.bundle, &own.serving_certificate));
    assert!(trusts(&retiring.bundle, &retiring.serving_certificate));

    let mut found = StoredServing { ca: found.ca, ..stored(&retiring) };
    assert_eq!(plan(&wanted(), &theirs, &found, now + DAY).expect("a plan").rollover, Rollover::Retiring);
    found.proven = Some(retiring.serving_certificate.clone());
    let settled = plan(&wanted(), &theirs, &found, now + DAY).expect("a plan");
    assert_eq!(settled.rollover, Rollover::Settled);
    assert!(!trusts(&settled.bundle, &own.serving_certificate));

    // And back: the external CA stays trusted until the operator's certificate is served.
    let back = pki::serving::plan(&wanted(), &stored(&settled), now + 2 * DAY).expect("a plan");
    assert_eq!((back.rollover, &back.serving_renewed), (Rollover::Trusting, &None));
    assert!(trusts(&back.bundle, &settled.serving_certificate));
}

#[test]
fn replaces_a_self_signed_certificate_with_an_overlap() {
    let issued = || {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.self_signed(&key).expect("a certificate").pem().into_bytes();
        let pair = Some((certificate.clone(), key.serialize_pem().into_bytes()));
        ExternalCertificate { pair, ca_bundle: Some(certificate) }
    };
    let first = plan(&wanted(), &issued(), &StoredServing::default(), start()).expect("a plan");
    let trusting = plan(&wanted(), &issued(), &stored(&first), start()).expect("a plan");
    assert_eq!((trusting.rollover, &trusting.serving), (Rollover::Trusting, &first.serving));
    assert!(trusts(&trusting.bundle, &first.serving_certificate));
    let retiring = plan(&wanted(), &issued(), &stored(&trusting), start() + DAY).expect("a plan");
    assert!(trusts(&retiring.bundle, &first.serving_certificate));
}

#[test]
fn accepts_a_self_signed_certificate_of_any_kind_as_its_own_ca() {
    for is_ca in [
        rcgen::IsCa::NoCa,
        rcgen::IsCa::ExplicitNoCa,
        rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
    ] {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
        parameters.is_ca = is_ca;
        let certificate = parameters.self_signed(&key).expect("a certificate").pem().into_bytes();
        let pair = Some((certificate.clone(), key.serialize_pem().into_bytes()));
        let external = ExternalCertificate { pair, ca_bundle: Some(certificate) };
        let plan = plan(&wanted(), &external, &StoredServing::default(), start()).expect("a plan");
        assert!(trusts(&plan.bundle, &plan.serving_certificate));
    }
}

#[test]
fn refuses_a_certificate_that_another_serving_certificate_signed() {
    let signer = issued(&["a.example.com"]);
    let (certificate, key) = signer.pair.expect("a pair");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("PEM");
    let key = rcgen::KeyPair::from_pem(&text(&key)).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&text(&certificate), key).expect("an issuer");
    let key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate").pem().into_bytes();
    let pair = Some((leaf, key.serialize_pem().into_bytes()));
    let external = ExternalCertificate { pair, ca_bundle: Some(certificate) };
    let error =
        plan(&wanted(), &external, &StoredServing::default(), start()).expect_err("an error").to_string();
    assert!(error.contains("is not a CA"), "{error}");
}

#[test]
fn reads_a_ca_that_never_expires() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
    parameters.not_before = rcgen::date_time_ymd(1960, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(9999, 12, 31) + Duration::from_secs(86_399);
    let pem = parameters.self_signed(&key).expect("a certificate").pem();
    let [certificate] = &Certificate::parse_pem(pem.as_bytes()).expect("a certificate")[..] else { panic!() };
    assert_eq!(certificate.not_after, Timestamp::MAX);
    assert!(certificate.not_before < Timestamp::UNIX_EPOCH && certificate.valid_at(start()));
    assert!(certificate.is_server_certificate_of(certificate, start()));
}

#[test]
fn error_names_why_the_secret_is_unusable() {
    let error = |change: &dyn Fn(&mut ExternalCertificate), now: Timestamp| {
        let mut external = issued(&[NAME]);
        change(&mut external);
        plan(&wanted(), &external, &StoredServing::default(), now).expect_err("an error").to_string()
    };
    let other = issued(&[NAME]);
    assert!(
        error(&|external| external.pair = None, start())
            .contains("does not have the keys tls.crt and tls.key")
    );
    assert!(error(&|_| {}, start() + 91 * DAY).contains("expired"));
    assert!(error(&|external| external.ca_bundle = None, start()).contains("ca.crt"));
    assert!(
        error(&|external| external.ca_bundle.clone_from(&other.ca_bundle), start())
            .contains("not a serving certificate signed by a CA in ca.crt")
    );
    let swap = |external: &mut ExternalCertificate| {
        external.pair.as_mut().expect("a pair").1 = other.pair.clone().expect("a pair").1;
    };
    assert!(error(&swap, start()).contains("does not match tls.crt"));
    let named = issued(&["elsewhere.ns.svc", "*.svc"]);
    let error =
        plan(&wanted(), &named, &StoredServing::default(), start()).expect_err("an error").to_string();
    assert!(error.contains("elsewhere.ns.svc"), "{error}");
    assert!(!format!("{other:?}").contains("PRIVATE"));
}

/// Issues a root, an intermediate CA that is valid in a period, and a certificate of the latter.
fn with_intermediate(valid: (Timestamp, Timestamp)) -> ExternalCertificate {
    let time = |time: Timestamp| {
        let seconds = u64::try_from(time.as_second()).expect("after 1970");
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    let key = || rcgen::KeyPair::generate().expect("a key");
    let ca = |name: &str, (from, until): (Timestamp, Timestamp)| {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        (parameters.not_before, parameters.not_after) = (time(from), time(until));
        parameters
    };
    let root_key = key();
    let root = ca("root", (start() - DAY, start() + 365 * DAY));
    let root_pem = root.self_signed(&root_key).expect("a root").pem();
    let root = rcgen::Issuer::new(root, root_key);
    let intermediate_key = key();
    let intermediate = ca("middle", valid);
    let intermediate_pem = intermediate.signed_by(&intermediate_key, &root).expect("a CA").pem();
    let intermediate = rcgen::Issuer::new(intermediate, intermediate_key);
    let leaf_key = key();
    let mut leaf = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    (leaf.not_before, leaf.not_after) = (time(start()), time(start() + 90 * DAY));
    let leaf = leaf.signed_by(&leaf_key, &intermediate).expect("a leaf").pem();
    let chain = format!("{leaf}{intermediate_pem}").into_bytes();
    let pair = Some((chain, leaf_key.serialize_pem().into_bytes()));
    ExternalCertificate { pair, ca_bundle: Some(root_pem.into_bytes()) }
}

#[test]
fn intermediates_are_verified_at_the_present_time() {
    let planned =
        |external: &ExternalCertificate, now| plan(&wanted(), external, &StoredServing::default(), now);
    // It was valid when it signed, and has expired since.
    let expires = with_intermediate((start() - DAY, start() + 10 * DAY));
    let before = planned(&expires, start() + DAY).expect("a plan");
    assert_eq!(before.next, start() + 10 * DAY, "planned again when the chain expires");
    assert!(!before.expires_soon(start() + 8 * DAY) && before.expires_soon(start() + 9 * DAY));
    let error = planned(&expires, start() + 11 * DAY).expect_err("an error");
    assert!(matches!(&error, ExternalError::Issuer { why: RenewalReason::Expired(_), .. }), "{error}");
    assert!(error.to_string().contains("the intermediate certificate middle in tls.crt"), "{error}");
    // It is newer than the certificate.
    let renewed = with_intermediate((start() + DAY, start() + 100 * DAY));
    assert!(planned(&renewed, start() + 2 * DAY).is_ok());
    let error = planned(&renewed, start() + DAY / 2).expect_err("an error");
    assert!(matches!(&error, ExternalError::Issuer { why: RenewalReason::NotYetValid(_), .. }), "{error}");
    // Another root, whatever has expired.
    let mut foreign = expires.clone();
    foreign.ca_bundle = issued(&[NAME]).ca_bundle;
    let error = planned(&foreign, start() + 11 * DAY).expect_err("an error");
    assert!(matches!(&error, ExternalError::Chain(_)), "{error}");
    let mut long_lived = issued(&[NAME]);
    let ca = issue_ca("company", KeyAlgorithm::ECDSAP256, 10 * DAY, start()).expect("a CA");
    let names = [NAME.to_owned()];
    let leaf = issue_leaf(&ca, start() + 90 * DAY, &names, KeyAlgorithm::ECDSAP256, 90 * DAY, start());
    long_lived.pair = Some(bytes(&leaf.expect("a leaf")));
    long_lived.ca_bundle = Some(ca.certificate.into_bytes());
    let error = planned(&long_lived, start() + 11 * DAY).expect_err("an error").to_string();
    assert!(error.contains("the CA certificate") && error.contains("in ca.crt"), "{error}");
}
