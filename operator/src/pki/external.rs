//! Plans a serving certificate that a user or cert-manager stores in a Secret, with the same CA rollover as
//! [`super::serving`].
//!
//! Replicas serve the certificate only when every APIService has contained its CA for the trust delay. The previous
//! CA is removed only when every replica is verified to serve the certificate.

use std::time::Duration;

use jiff::Timestamp;

use super::serving::{
    RenewalReason, Rollover, ServingPlan, ServingRequirements, StoredServing, is_trusted, previous_cas,
    read_pair,
};
use super::{Certificate, Pair};

/// The contents of the source Secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct ExternalCertificate {
    /// `tls.crt` and `tls.key`.
    pub pair: Option<(Vec<u8>, Vec<u8>)>,
    /// `ca.crt`.
    pub ca_bundle: Option<Vec<u8>>,
}

impl std::fmt::Debug for ExternalCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("External(…)")
    }
}

/// An error of the source Secret. Its message is a clause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExternalError {
    /// `tls.crt` or `tls.key` is missing or unusable.
    #[error("{}", describe(.0))]
    Pair(RenewalReason),
    /// `ca.crt` is missing or invalid.
    #[error("ca.crt {0}; set it to the PEM certificates of the CAs that clients must trust")]
    CaBundle(String),
    /// A certificate between the serving certificate and the CA, or the CA, is not valid now.
    #[error("{place} is not valid now: {}", describe(.why))]
    Issuer {
        /// What it is and where it is stored.
        place: String,
        /// Expired or not valid yet.
        why: RenewalReason,
    },
    /// No CA in `ca.crt` signed the certificate. Contains the reason.
    #[error(
        "tls.crt is not a serving certificate signed by a CA in ca.crt: {0}; if there are intermediate certificates, append \
         them to tls.crt"
    )]
    Chain(String),
}

fn describe(why: &RenewalReason) -> String {
    match why {
        RenewalReason::Missing => "it does not have the keys tls.crt and tls.key".to_owned(),
        RenewalReason::WrongNames(names) => {
            format!(
                "the DNS names of tls.crt ({}) do not include the Service",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            )
        }
        why => why.to_string(),
    }
}

struct Source {
    pair: Pair,
    certificate: Certificate,
    cas: Vec<Certificate>,
    /// The one of them that signed the certificate.
    ca: Certificate,
}

fn read(
    wanted: &ServingRequirements,
    external: &ExternalCertificate,
    now: Timestamp,
) -> Result<Source, ExternalError> {
    let (pair, certificate) = read_pair(external.pair.as_ref(), now).map_err(ExternalError::Pair)?;
    // kube-apiserver verifies the first name. The others are for other clients.
    if !wanted.names.first().is_none_or(|name| certificate.matches_host(name)) {
        return Err(ExternalError::Pair(RenewalReason::WrongNames(certificate.dns_names)));
    }
    let ca_bundle = external.ca_bundle.as_deref().unwrap_or_default();
    let cas =
        Certificate::parse_pem(ca_bundle).map_err(|error| ExternalError::CaBundle(error.to_string()))?;
    let chain = chain(&pair);
    let mut valid = cas.iter().filter(|ca| ca.valid_at(now));
    let ca = valid.find(|ca| certificate.is_server_certificate_with_chain(&chain, ca, now)).cloned();
    match ca {
        Some(ca) => Ok(Source { pair, certificate, cas, ca }),
        None => Err(unverified(&certificate, &chain, &cas, now)),
    }
}

/// Returns why no CA verifies the certificate now. A chain that was valid when the certificate was issued has an
/// intermediate certificate or a CA that is not valid any more.
fn unverified(
    certificate: &Certificate,
    chain: &[Certificate],
    cas: &[Certificate],
    now: Timestamp,
) -> ExternalError {
    // The first time at which all of them were valid.
    let begin = chain.iter().fold(certificate.not_before, |begin, one| begin.max(one.not_before));
    let was_valid =
        |ca: &Certificate| certificate.is_server_certificate_with_chain(chain, ca, begin.max(ca.not_before));
    let places = [("the intermediate certificate", "tls.crt", chain), ("the CA certificate", "ca.crt", cas)];
    let invalid = places.into_iter().find_map(|(what, key, certificates)| {
        let invalid = certificates.iter().find(|certificate| !certificate.valid_at(now))?;
        Some((what, key, invalid))
    });
    if let Some((what, key, invalid)) = invalid.filter(|_| cas.iter().any(was_valid)) {
        let name = invalid.common_name.as_deref().unwrap_or("without a common name");
        return ExternalError::Issuer {
            place: format!("{what} {name} in {key}"),
            why: if invalid.not_after <= now {
                RenewalReason::Expired(invalid.not_after)
            } else {
                RenewalReason::NotYetValid(invalid.not_before)
            },
        };
    }
    // A CA that is not valid now is not the reason: the certificate would be refused with a valid one, too.
    let valid = cas.iter().filter(|ca| ca.valid_at(now));
    let refused = certificate.verify_server_certificate(chain, valid, now).err();
    ExternalError::Chain(refused.map_or_else(String::new, |error| error.to_string()))
}

/// Returns the intermediate certificates: those after the first in the same PEM.
fn chain(pair: &Pair) -> Vec<Certificate> {
    let mut all = Certificate::parse_pem(pair.certificate.as_bytes()).unwrap_or_default();
    if !all.is_empty() {
        all.remove(0);
    }
    all
}

/// Plans which certificate is served and which CAs are trusted.
pub(crate) fn plan(
    wanted: &ServingRequirements,
    external: &ExternalCertificate,
    found: &StoredServing,
    now: Timestamp,
) -> Result<ServingPlan, ExternalError> {
    let source = read(wanted, external, now)?;
    let known = previous_cas(found, &source.cas, now);
    let (trusted, settled) = is_trusted(wanted, found, &source.cas, now);

    let stored = read_pair(found.serving.as_ref(), now).ok().filter(|(pair, certificate)| {
        let chain = chain(pair);
        let mut cas = source.cas.iter().chain(&known);
        wanted.names.first().is_none_or(|name| certificate.matches_host(name))
            && cas.any(|ca| certificate.is_server_certificate_with_chain(&chain, ca, now))
    });
    let (serving, serving_certificate, serving_renewed) = match stored {
        Some((_, certificate)) if certificate == source.certificate => (source.pair, certificate, None),
        Some((pair, certificate)) if !trusted => (pair, certificate, None),
        _ => (source.pair, source.certificate.clone(), Some(RenewalReason::SourceChanged)),
    };
    let served = serving_certificate == source.certificate;
    let is_proven = known.is_empty() || found.proven.as_ref() == Some(&serving_certificate);
    let rollover = match (served, is_proven) {
        (false, _) => Rollover::Trusting,
        (true, false) => Rollover::Retiring,
        (true, true) => Rollover::Settled,
    };
    let pem = |certificates: &[Certificate]| certificates.iter().map(Certificate::to_pem).collect::<String>();
    let previous = if rollover == Rollover::Settled { String::new() } else { pem(&known) };
    let step = (rollover == Rollover::Trusting).then(|| settled.max(now + Duration::from_secs(1)));
    // The chain ends with the first of its certificates.
    let intermediates = chain(&serving);
    let ends = intermediates.iter().chain([&serving_certificate, &source.ca]).map(|one| one.not_after);
    let next = ends.filter(|end| *end > now).chain(step).min().unwrap_or(now);
    Ok(ServingPlan {
        bundle: format!("{}{previous}", pem(&source.cas)),
        ca: None,
        ca_certificate: source.ca,
        ca_renewed: None,
        previous,
        serving,
        serving_certificate,
        serving_renewed,
        rollover,
        next,
    })
}

#[cfg(test)]
mod tests;
