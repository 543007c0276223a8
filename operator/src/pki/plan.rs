//! Which certificates there shall be, from those that there are.
//!
//! A CA is replaced in steps, each a state of the objects themselves, so that the operator may stop anywhere:
//!
//! 1. `Trusting`: the new CA is stored; the bundle holds old and new; the serving certificate is the old one.
//! 2. When every APIService holds the new CA, and has for [`Wanted::trust_settles`], the serving certificate is
//!    issued by it.
//! 3. `Retiring`: the bundle holds both until every replica is proven to serve the new certificate.
//! 4. `Settled`: the bundle holds the new one.

use std::fmt;
use std::time::Duration;

use crds::KeyAlgorithm;
use jiff::Timestamp;

use super::{BACKDATE, Certificate, IssueError, Pair, PrivateKey};
use super::{issue_ca, issue_leaf};

/// What the spec asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The algorithm of keys.
    pub algorithm: KeyAlgorithm,
    /// How long a CA is valid.
    pub ca_validity: Duration,
    /// How long a serving certificate is valid.
    pub serving_validity: Duration,
    /// DNS names of the serving certificate.
    pub names: Vec<String>,
    /// How long every APIService must have held a new CA before a certificate of it is used.
    pub trust_settles: Duration,
}

/// The `caBundle` of an APIService.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// PEM.
    pub bundle: Vec<u8>,
    /// When we last changed the APIService: it holds the bundle at least since then. By kube-apiserver's clock.
    pub since: Option<Timestamp>,
}

/// What is stored; everything may be missing or nonsense.
#[derive(Clone, Default)]
pub struct Found {
    /// `tls.crt` and `tls.key` of the CA Secret.
    pub ca: Option<(Vec<u8>, Vec<u8>)>,
    /// Earlier CAs that are still trusted: `previous.crt` of the CA Secret.
    pub previous: Option<Vec<u8>>,
    /// `tls.crt` and `tls.key` of the serving Secret.
    pub serving: Option<(Vec<u8>, Vec<u8>)>,
    /// `ca.crt` of the serving Secret.
    pub serving_ca: Option<Vec<u8>>,
    /// `caBundle` of each of our APIServices that exists.
    pub trusted: Vec<Trusted>,
    /// The certificate that every replica was seen to serve.
    pub proven: Option<Certificate>,
}

/// Why a certificate is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    Missing,
    /// It can't be read.
    Unreadable(String),
    /// The key is not the certificate's.
    KeyMismatch,
    /// It is not a CA.
    NotAnAuthority,
    /// It is no longer valid.
    Expired(Timestamp),
    /// It is not valid yet: the clock went back, or somebody else issued it.
    NotYetValid(Timestamp),
    /// It does not name the Service.
    WrongNames(Vec<String>),
    /// Its subject has another common name.
    OtherName(String),
    /// No CA that is known signed it for its purpose.
    UnknownAuthority,
    /// Its CA was replaced.
    NewAuthority,
    /// The spec asks for another algorithm.
    AlgorithmChanged,
    /// It is valid for longer than the spec asks.
    ValidityShortened,
    /// Its renewal time has come.
    Due,
    /// Its owner stored another one.
    OwnersChoice,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there was none"),
            Self::Unreadable(error) => write!(f, "it {error}"),
            Self::KeyMismatch => f.write_str("tls.key is not the key of tls.crt"),
            Self::NotAnAuthority => f.write_str("tls.crt is not a CA"),
            Self::Expired(when) => write!(f, "it expired at {when}"),
            Self::NotYetValid(when) => write!(f, "it is valid only from {when}"),
            Self::WrongNames(names) => write!(f, "it names {}", names.join(", ")),
            Self::OtherName(name) => write!(f, "its common name is {name}"),
            Self::UnknownAuthority => f.write_str("no known CA signed it for its purpose"),
            Self::NewAuthority => f.write_str("its CA was replaced"),
            Self::AlgorithmChanged => f.write_str("its key is of another algorithm than asked for"),
            Self::ValidityShortened => f.write_str("its validity in the spec was shortened"),
            Self::Due => f.write_str("its renewal was due"),
            Self::OwnersChoice => f.write_str("its owner's Secret holds another one"),
        }
    }
}

/// Where the replacement of a CA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollover {
    /// One CA is trusted, and it signed the serving certificate.
    Settled,
    /// The new CA is being made known; the serving certificate is still of the old one.
    Trusting,
    /// The serving certificate is of the new CA; the old one is trusted until every replica is proven to serve it.
    Retiring,
}

/// Which certificates there shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The CA, if it is our own.
    pub ca: Option<Pair>,
    /// The CA's certificate.
    pub ca_certificate: Certificate,
    /// Why it is new, if it is.
    pub ca_renewed: Option<Why>,
    /// Earlier CAs that stay trusted, in PEM; empty when settled.
    pub previous: String,
    /// The serving certificate.
    pub serving: Pair,
    /// The serving certificate, read.
    pub serving_certificate: Certificate,
    /// Why it is new, if it is.
    pub serving_renewed: Option<Why>,
    /// All that is trusted, in PEM, the current CA first: for the APIServices and `ca.crt`.
    pub bundle: String,
    /// Where the replacement of the CA stands.
    pub rollover: Rollover,
    /// When the next step is due.
    pub next: Timestamp,
}

/// Decides; issues what must be new.
pub fn plan(wanted: &Wanted, found: &Found, now: Timestamp) -> Result<Plan, IssueError> {
    let (ca, ca_certificate, ca_renewed) = authority(wanted, found, now)?;
    let current = std::slice::from_ref(&ca_certificate);
    let known = known_authorities(found, current, now);
    let (is_trusted, settled) = is_trusted(wanted, found, current, ca_certificate.issued(), now);

    let mut renew = None;
    let mut kept = None;
    match read_serving(wanted, found, &ca_certificate, &known, now) {
        Err(why) => renew = Some(why),
        // What still works is only replaced once its successor is trusted, as one of the same CA is already.
        Ok(Usable { outdated: Some(why), .. }) if is_trusted || why != Why::NewAuthority => renew = Some(why),
        Ok(usable) => kept = Some(usable),
    }
    let (serving, serving_certificate) = if let Some(usable) = kept {
        (usable.pair, usable.certificate)
    } else {
        let pair = issue_leaf(
            &ca,
            ca_certificate.not_after,
            &wanted.names,
            wanted.algorithm,
            wanted.serving_validity,
            now,
        )?;
        let certificate = first(&pair.certificate)?;
        (pair, certificate)
    };

    let under_current = serving_certificate.serves_under(&ca_certificate);
    let is_proven = found.proven.as_ref() == Some(&serving_certificate);
    let rollover = match (known.is_empty() || is_proven, under_current) {
        (_, false) => Rollover::Trusting,
        (false, true) => Rollover::Retiring,
        (true, true) => Rollover::Settled,
    };
    let previous = match rollover {
        Rollover::Settled => String::new(),
        Rollover::Trusting | Rollover::Retiring => known.iter().map(Certificate::to_pem).collect(),
    };
    let step = match rollover {
        // The proof is looked for until it is there.
        Rollover::Settled | Rollover::Retiring => None,
        // Trust may come later than at that moment; then a change of the APIServices tells.
        Rollover::Trusting => Some(settled.max(now + Duration::from_secs(1))),
    };
    let next = [Some(ca_certificate.renewal_time()), Some(serving_certificate.renewal_time()), step]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now);
    Ok(Plan {
        bundle: format!("{}{previous}", ca_certificate.to_pem()),
        ca: Some(ca),
        ca_certificate,
        ca_renewed,
        previous,
        serving,
        serving_certificate,
        serving_renewed: renew,
        rollover,
        next,
    })
}

/// Whether every APIService has trusted some CAs for long enough, and when that is.
pub(super) fn is_trusted(
    wanted: &Wanted,
    found: &Found,
    authorities: &[Certificate],
    issued: Timestamp,
    now: Timestamp,
) -> (bool, Timestamp) {
    let since = found.trusted.iter().filter_map(|trusted| trusted.since);
    let settled = since.fold(issued, Timestamp::max) + wanted.trust_settles;
    let in_every_bundle = found.trusted.iter().all(|trusted| {
        Certificate::parse_pem(&trusted.bundle)
            .is_ok_and(|bundle| authorities.iter().all(|authority| bundle.contains(authority)))
    });
    (found.trusted.is_empty() || (in_every_bundle && settled <= now), settled)
}

fn authority(
    wanted: &Wanted,
    found: &Found,
    now: Timestamp,
) -> Result<(Pair, Certificate, Option<Why>), IssueError> {
    let why = match read_authority(wanted, found, now) {
        Ok((pair, certificate)) => return Ok((pair, certificate, None)),
        Err(why) => why,
    };
    let pair = issue_ca("metrics-core CA", wanted.algorithm, wanted.ca_validity, now)?;
    let certificate = first(&pair.certificate)?;
    Ok((pair, certificate, Some(why)))
}

fn read_authority(wanted: &Wanted, found: &Found, now: Timestamp) -> Result<(Pair, Certificate), Why> {
    let (pair, certificate) = read_pair(found.ca.as_ref(), now)?;
    if !certificate.is_ca {
        Err(Why::NotAnAuthority)
    } else if let Some(why) = outdated(&certificate, wanted.algorithm, wanted.ca_validity, now) {
        Err(why)
    } else {
        Ok((pair, certificate))
    }
}

struct Usable {
    pair: Pair,
    certificate: Certificate,
    /// It works, but is to be replaced when that is safe.
    outdated: Option<Why>,
}

fn read_serving(
    wanted: &Wanted,
    found: &Found,
    ca: &Certificate,
    known: &[Certificate],
    now: Timestamp,
) -> Result<Usable, Why> {
    let (pair, certificate) = read_pair(found.serving.as_ref(), now)?;
    let chain = Certificate::parse_pem(pair.certificate.as_bytes()).unwrap_or_default();
    // The first is what kube-apiserver asks for; the others can wait until a successor is trusted.
    if !wanted.names.first().is_none_or(|name| certificate.names(name)) {
        return Err(Why::WrongNames(certificate.dns_names));
    }
    let outdated = if certificate.serves_under(ca) {
        let all_named = wanted.names.iter().all(|name| certificate.dns_names.contains(name));
        let names = || Why::WrongNames(certificate.dns_names.clone());
        outdated(&certificate, wanted.algorithm, wanted.serving_validity, now)
            .or_else(|| (!all_named).then(names))
    } else if known.iter().any(|known| certificate.serves_by(&chain, known)) {
        Some(Why::NewAuthority)
    } else {
        return Err(Why::UnknownAuthority);
    };
    Ok(Usable { pair, certificate, outdated })
}

pub(super) fn read_pair(
    stored: Option<&(Vec<u8>, Vec<u8>)>,
    now: Timestamp,
) -> Result<(Pair, Certificate), Why> {
    let (certificate_pem, key) = stored.ok_or(Why::Missing)?;
    let certificate = Certificate::parse_pem(certificate_pem)
        .map_err(|error| Why::Unreadable(format!("can't be read: tls.crt {error}")))?
        .swap_remove(0);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let key = text(key)
        .map(PrivateKey::from_pem)
        .ok_or_else(|| Why::Unreadable("can't be read: tls.key is not text".to_owned()))?;
    let public_key = key
        .public_key()
        .map_err(|_| Why::Unreadable("can't be read: tls.key is not a private key in PEM".to_owned()))?;
    if public_key != certificate.public_key {
        Err(Why::KeyMismatch)
    } else if certificate.not_after <= now {
        Err(Why::Expired(certificate.not_after))
    } else if now < certificate.not_before {
        Err(Why::NotYetValid(certificate.not_before))
    } else {
        let certificate_pem = text(certificate_pem).unwrap_or_else(|| certificate.to_pem());
        Ok((Pair { certificate: certificate_pem, key }, certificate))
    }
}

pub(super) fn outdated(
    certificate: &Certificate,
    algorithm: KeyAlgorithm,
    validity: Duration,
    now: Timestamp,
) -> Option<Why> {
    if certificate.algorithm != Some(algorithm) {
        Some(Why::AlgorithmChanged)
    } else if certificate.validity() > validity + BACKDATE {
        Some(Why::ValidityShortened)
    } else if certificate.renewal_time() <= now {
        Some(Why::Due)
    } else {
        None
    }
}

/// Earlier CAs that may still vouch for a certificate in use, wherever they were kept: also after somebody
/// deleted the CA Secret, what the replicas serve stays trusted until they serve something else.
pub(super) fn known_authorities(found: &Found, current: &[Certificate], now: Timestamp) -> Vec<Certificate> {
    let authorities = [found.ca.as_ref().map(|(certificate, _)| certificate), found.previous.as_ref()];
    let parse = |pem: &Vec<u8>| Certificate::parse_pem(pem).unwrap_or_default();
    let authorities =
        authorities.into_iter().flatten().flat_map(parse).filter(|certificate| certificate.is_ca);
    // Somebody else's may be trusted as it is: a self-signed one that is no CA.
    let trusted = found.serving_ca.iter().flat_map(parse);
    // With both Secrets gone, what the replicas still serve is known by what kube-apiserver trusts alone.
    let all_gone = found.ca.is_none() && found.serving.is_none();
    let bundles = found.trusted.iter().filter(|_| all_gone).flat_map(|trusted| parse(&trusted.bundle));
    let mut known: Vec<Certificate> = Vec::new();
    for certificate in authorities.chain(trusted).chain(bundles) {
        if certificate.valid_at(now)
            && !current.contains(&certificate)
            && !known.contains(&certificate)
            // Two are enough for an overlap; more pile up only when something goes wrong again and again.
            && known.len() < 4
        {
            known.push(certificate);
        }
    }
    known
}

pub(super) fn first(pem: &str) -> Result<Certificate, IssueError> {
    Certificate::parse_pem(pem.as_bytes())
        .map(|mut certificates| certificates.swap_remove(0))
        .map_err(|error| IssueError::Authority(error.to_string()))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
