//! Plans the CA and serving certificate that the operator issues.
//!
//! A CA rollover has four steps. Each is stored in the objects, so the operator may restart at any step:
//!
//! 1. `Trusting`: the new CA is stored. The bundle contains both CAs, and replicas serve the old certificate.
//! 2. When every APIService has contained the new CA for [`ServingRequirements::trust_delay`], the serving
//!    certificate is issued by it.
//! 3. `Retiring`: the bundle contains both CAs until every replica is verified to serve the new certificate.
//! 4. `Settled`: the bundle contains the new CA only.

use std::fmt;
use std::time::Duration;

use crds::KeyAlgorithm;
use jiff::Timestamp;

use super::{BACKDATE, Certificate, IssueError, Pair, PrivateKey};
use super::{issue_ca, issue_leaf};

/// The CA and serving certificate that the spec requests.
#[derive(Clone, Debug)]
pub(crate) struct ServingRequirements {
    /// The key algorithm.
    pub algorithm: KeyAlgorithm,
    /// The validity of a new CA.
    pub ca_validity: Duration,
    /// The validity of a new serving certificate.
    pub serving_validity: Duration,
    /// DNS names of the serving certificate.
    pub names: Vec<String>,
    /// How long every APIService must have contained a new CA before its certificate is served.
    pub trust_delay: Duration,
}

/// The `caBundle` of an APIService.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrustedBundle {
    /// The CA bundle in PEM.
    pub bundle: Vec<u8>,
    /// How long the operator has seen this bundle in the APIService, by its own monotonic clock. Another clock may differ,
    /// and any wall clock may be set.
    pub announced_for: Duration,
}

/// The stored certificates. Each may be missing or invalid.
#[derive(Clone, Default)]
pub(crate) struct StoredServing {
    /// `tls.crt` and `tls.key` of the CA Secret.
    pub ca: Option<(Vec<u8>, Vec<u8>)>,
    /// Previous CAs that are still trusted: `previous.crt` of the CA Secret.
    pub previous: Option<Vec<u8>>,
    /// `tls.crt` and `tls.key` of the serving Secret.
    pub serving: Option<(Vec<u8>, Vec<u8>)>,
    /// `ca.crt` of the serving Secret.
    pub serving_ca: Option<Vec<u8>>,
    /// `caBundle` of each APIService of this operator.
    pub trusted: Vec<TrustedBundle>,
    /// The certificate that every replica was verified to serve.
    pub proven: Option<Certificate>,
}

/// Why a certificate is issued or replaced. Its text is a clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RenewalReason {
    /// The certificate does not exist.
    Missing,
    /// The certificate or key can't be parsed.
    Unreadable(String),
    /// The private key does not match the certificate.
    KeyMismatch,
    /// The certificate is not a CA.
    NotACa,
    /// It has expired.
    Expired(Timestamp),
    /// It is not valid yet: the clock moved back, or a third party issued it.
    NotYetValid(Timestamp),
    /// Its subject alternative name does not match the Service.
    WrongNames(Vec<String>),
    /// Its common name is not the requested one.
    WrongCommonName(String),
    /// It is not signed by a known CA for its usage.
    UnknownCa,
    /// Its CA was replaced.
    CaReplaced,
    /// The spec requests another key algorithm.
    AlgorithmChanged,
    /// It is valid for longer than the spec requests.
    ValidityShortened,
    /// It is due for renewal.
    Due,
    /// The source Secret contains another certificate.
    SourceChanged,
}

impl fmt::Display for RenewalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it did not exist"),
            Self::Unreadable(error) => write!(f, "it {error}"),
            Self::KeyMismatch => f.write_str("tls.key does not match tls.crt"),
            Self::NotACa => f.write_str("tls.crt is not a CA certificate"),
            Self::Expired(when) => write!(f, "it expired at {when}"),
            Self::NotYetValid(when) => write!(f, "it is not valid before {when}"),
            Self::WrongNames(names) => write!(f, "its DNS names are {}", names.join(", ")),
            Self::WrongCommonName(name) => write!(f, "its common name is {name}"),
            Self::UnknownCa => f.write_str("it is not signed by a known CA for its usage"),
            Self::CaReplaced => f.write_str("its CA was replaced"),
            Self::AlgorithmChanged => f.write_str("the spec requests another key algorithm"),
            Self::ValidityShortened => f.write_str("its validity in the spec was shortened"),
            Self::Due => f.write_str("it was due for renewal"),
            Self::SourceChanged => f.write_str("its source Secret contains another one"),
        }
    }
}

/// The state of a CA rollover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollover {
    /// One CA is trusted, and it signed the serving certificate.
    Settled,
    /// The new CA is being distributed; replicas serve a certificate of the old one.
    Trusting,
    /// The serving certificate is signed by the new CA. The old CA is trusted until every replica serves that
    /// certificate.
    Retiring,
}

/// The desired certificates.
#[derive(Clone, Debug)]
pub(crate) struct ServingPlan {
    /// The CA; `None` if an external CA signs.
    pub ca: Option<Pair>,
    /// The CA's certificate.
    pub ca_certificate: Certificate,
    /// Why the CA is new; `None` if it is not.
    pub ca_renewed: Option<RenewalReason>,
    /// Previous CAs that stay trusted, in PEM. Empty in [`Rollover::Settled`].
    pub previous: String,
    /// The serving certificate.
    pub serving: Pair,
    /// The serving certificate, parsed.
    pub serving_certificate: Certificate,
    /// Why the serving certificate is new; `None` if it is not.
    pub serving_renewed: Option<RenewalReason>,
    /// All trusted CAs in PEM, the current one first: for the APIServices and `ca.crt`.
    pub bundle: String,
    /// The state of the CA rollover.
    pub rollover: Rollover,
    /// When the next step is due.
    pub next: Timestamp,
}

impl ServingPlan {
    /// Whether less than a tenth of the validity of the serving certificate or of one in its chain is left.
    #[must_use]
    pub(crate) fn expires_soon(&self, now: Timestamp) -> bool {
        let chain = Certificate::parse_pem(self.serving.certificate.as_bytes()).unwrap_or_default();
        chain.iter().any(|certificate| certificate.valid_at(now) && certificate.expires_soon(now))
    }
}

/// Plans the certificates. Issues those that must be replaced.
pub(crate) fn plan(
    wanted: &ServingRequirements,
    found: &StoredServing,
    now: Timestamp,
) -> Result<ServingPlan, IssueError> {
    let (ca, ca_certificate, ca_renewed) = current_ca(wanted, found, now)?;
    let current = std::slice::from_ref(&ca_certificate);
    let known = previous_cas(found, current, now);
    let (is_trusted, settled) = is_trusted(wanted, found, current, now);

    let mut renew = None;
    let mut kept = None;
    match read_serving(wanted, found, &ca_certificate, &known, now) {
        Err(why) => renew = Some(why),
        // A certificate of an old CA still works, so it is replaced only when the new CA is trusted. A renewal under
        // the same CA need not wait.
        Ok(Usable { outdated: Some(why), .. }) if is_trusted || why != RenewalReason::CaReplaced => {
            renew = Some(why);
        }
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

    let under_current = serving_certificate.is_server_certificate_of(&ca_certificate, now);
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
        // The caller verifies the replicas until all serve the new certificate.
        Rollover::Settled | Rollover::Retiring => None,
        // If the APIServices are changed later than that, their watch triggers the next plan.
        Rollover::Trusting => Some(settled.max(now + Duration::from_secs(1))),
    };
    let next = [Some(ca_certificate.renewal_time()), Some(serving_certificate.renewal_time()), step]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now);
    Ok(ServingPlan {
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

/// Returns whether every APIService has contained all of `cas` for the trust delay, and when the delay ends.
pub(super) fn is_trusted(
    wanted: &ServingRequirements,
    found: &StoredServing,
    cas: &[Certificate],
    now: Timestamp,
) -> (bool, Timestamp) {
    let remaining = |trusted: &TrustedBundle| wanted.trust_delay.saturating_sub(trusted.announced_for);
    let remaining = found.trusted.iter().map(remaining).max().unwrap_or_default();
    let in_every_bundle = found.trusted.iter().all(|trusted| {
        Certificate::parse_pem(&trusted.bundle).is_ok_and(|bundle| cas.iter().all(|ca| bundle.contains(ca)))
    });
    (found.trusted.is_empty() || (in_every_bundle && remaining.is_zero()), now + remaining)
}

/// Returns the stored CA, or a new one with the reason why it is new.
fn current_ca(
    wanted: &ServingRequirements,
    found: &StoredServing,
    now: Timestamp,
) -> Result<(Pair, Certificate, Option<RenewalReason>), IssueError> {
    let why = match read_ca(wanted, found, now) {
        Ok((pair, certificate)) => return Ok((pair, certificate, None)),
        Err(why) => why,
    };
    let pair = issue_ca("metrics-core CA", wanted.algorithm, wanted.ca_validity, now)?;
    let certificate = first(&pair.certificate)?;
    Ok((pair, certificate, Some(why)))
}

fn read_ca(
    wanted: &ServingRequirements,
    found: &StoredServing,
    now: Timestamp,
) -> Result<(Pair, Certificate), RenewalReason> {
    let (pair, certificate) = read_pair(found.ca.as_ref(), now)?;
    if !certificate.is_ca {
        Err(RenewalReason::NotACa)
    } else if let Some(why) = outdated(&certificate, wanted.algorithm, wanted.ca_validity, now) {
        Err(why)
    } else {
        Ok((pair, certificate))
    }
}

struct Usable {
    pair: Pair,
    certificate: Certificate,
    /// Why it should be replaced when that is safe.
    outdated: Option<RenewalReason>,
}

fn read_serving(
    wanted: &ServingRequirements,
    found: &StoredServing,
    ca: &Certificate,
    known: &[Certificate],
    now: Timestamp,
) -> Result<Usable, RenewalReason> {
    let (pair, certificate) = read_pair(found.serving.as_ref(), now)?;
    let chain = Certificate::parse_pem(pair.certificate.as_bytes()).unwrap_or_default();
    // kube-apiserver verifies the first name. A change of the others can wait until a successor is trusted.
    if !wanted.names.first().is_none_or(|name| certificate.matches_host(name)) {
        return Err(RenewalReason::WrongNames(certificate.dns_names));
    }
    let outdated = if certificate.is_server_certificate_of(ca, now) {
        let all_named = wanted.names.iter().all(|name| certificate.dns_names.contains(name));
        let names = || RenewalReason::WrongNames(certificate.dns_names.clone());
        outdated(&certificate, wanted.algorithm, wanted.serving_validity, now)
            .or_else(|| (!all_named).then(names))
    } else if known.iter().any(|known| certificate.is_server_certificate_with_chain(&chain, known, now)) {
        Some(RenewalReason::CaReplaced)
    } else {
        return Err(RenewalReason::UnknownCa);
    };
    Ok(Usable { pair, certificate, outdated })
}

pub(super) fn read_pair(
    stored: Option<&(Vec<u8>, Vec<u8>)>,
    now: Timestamp,
) -> Result<(Pair, Certificate), RenewalReason> {
    let (certificate_pem, key) = stored.ok_or(RenewalReason::Missing)?;
    let certificate = Certificate::parse_pem(certificate_pem)
        .map_err(|error| RenewalReason::Unreadable(format!("can't be read: tls.crt {error}")))?
        .swap_remove(0);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let key = text(key)
        .map(PrivateKey::from_pem)
        .ok_or_else(|| RenewalReason::Unreadable("can't be read: tls.key is not text".to_owned()))?;
    let public_key = key.public_key().map_err(|_| {
        RenewalReason::Unreadable("can't be read: tls.key is not a private key in PEM".to_owned())
    })?;
    if public_key != certificate.public_key {
        Err(RenewalReason::KeyMismatch)
    } else if certificate.not_after <= now {
        Err(RenewalReason::Expired(certificate.not_after))
    } else if now < certificate.not_before {
        Err(RenewalReason::NotYetValid(certificate.not_before))
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
) -> Option<RenewalReason> {
    if certificate.algorithm != Some(algorithm) {
        Some(RenewalReason::AlgorithmChanged)
    } else if certificate.validity() > validity + BACKDATE {
        Some(RenewalReason::ValidityShortened)
    } else if certificate.renewal_time() <= now {
        Some(RenewalReason::Due)
    } else {
        None
    }
}

/// Returns previous CAs that may have signed a certificate in use, from all objects that store them. After the CA
/// Secret is deleted, the certificate that the replicas serve stays trusted until they serve another one.
pub(super) fn previous_cas(
    found: &StoredServing,
    current: &[Certificate],
    now: Timestamp,
) -> Vec<Certificate> {
    let cas = [found.ca.as_ref().map(|(certificate, _)| certificate), found.previous.as_ref()];
    let parse = |pem: &Vec<u8>| Certificate::parse_pem(pem).unwrap_or_default();
    let cas = cas.into_iter().flatten().flat_map(parse).filter(|certificate| certificate.is_ca);
    // An external certificate may be trusted directly: self-signed and not a CA.
    let trusted = found.serving_ca.iter().flat_map(parse);
    // With both Secrets deleted, only the caBundles have the CA of the certificate that the replicas serve.
    let all_gone = found.ca.is_none() && found.serving.is_none();
    let bundles = found.trusted.iter().filter(|_| all_gone).flat_map(|trusted| parse(&trusted.bundle));
    let mut known: Vec<Certificate> = Vec::new();
    for certificate in cas.chain(trusted).chain(bundles) {
        if certificate.valid_at(now)
            && !current.contains(&certificate)
            && !known.contains(&certificate)
            // A rollover needs two. More accumulate only after repeated failures.
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
        .map_err(|error| IssueError::Ca(error.to_string()))
}

#[cfg(test)]
mod tests;
