//! A serving certificate that somebody else issues: from their Secret to what is served, with the same overlap as
//! for our own.
//!
//! Whatever its owner does, replicas serve it only once every APIService has trusted its CA for long enough, and what
//! was trusted before goes only when every replica is proven to serve it.

use std::time::Duration;

use jiff::Timestamp;

use super::plan::{Found, Plan, Rollover, Wanted, Why, is_trusted, known_authorities, read_pair};
use super::{Certificate, Pair};

/// What the owner's Secret holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct External {
    /// `tls.crt` and `tls.key`.
    pub pair: Option<(Vec<u8>, Vec<u8>)>,
    /// `ca.crt`.
    pub authorities: Option<Vec<u8>>,
}

impl std::fmt::Debug for External {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("External(…)")
    }
}

/// Why what its owner stored can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// `tls.crt` and `tls.key`.
    #[error("{}", words(.0))]
    Pair(Why),
    /// `ca.crt`.
    #[error("ca.crt {0}; put there the PEM certificates of the CAs that clients shall trust")]
    Authorities(String),
    /// The chain does not lead to `ca.crt`.
    #[error(
        "no CA in ca.crt vouches for tls.crt as a server's certificate; put intermediate certificates behind it into tls.crt"
    )]
    Chain,
}

fn words(why: &Why) -> String {
    match why {
        Why::Missing => "it has no keys tls.crt and tls.key".to_owned(),
        Why::WrongNames(names) => {
            format!(
                "tls.crt names {}, but must name the Service",
                if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
            )
        }
        why => why.to_string(),
    }
}

struct Source {
    pair: Pair,
    certificate: Certificate,
    authorities: Vec<Certificate>,
    /// The one of them that vouches for it.
    authority: Certificate,
}

fn read(wanted: &Wanted, external: &External, now: Timestamp) -> Result<Source, Unusable> {
    let (pair, certificate) = read_pair(external.pair.as_ref(), now).map_err(Unusable::Pair)?;
    // kube-apiserver asks for the first; the others are for people and their own clients.
    if !wanted.names.first().is_none_or(|name| certificate.names(name)) {
        return Err(Unusable::Pair(Why::WrongNames(certificate.dns_names)));
    }
    let authorities = external.authorities.as_deref().unwrap_or_default();
    let authorities =
        Certificate::parse_pem(authorities).map_err(|error| Unusable::Authorities(error.to_string()))?;
    let chain = chain(&pair);
    let mut valid = authorities.iter().filter(|authority| authority.valid_at(now));
    let authority = valid.find(|authority| certificate.serves_by(&chain, authority)).cloned();
    Ok(Source { authority: authority.ok_or(Unusable::Chain)?, pair, certificate, authorities })
}

/// What stands behind the certificate in the same PEM.
fn chain(pair: &Pair) -> Vec<Certificate> {
    let mut all = Certificate::parse_pem(pair.certificate.as_bytes()).unwrap_or_default();
    if !all.is_empty() {
        all.remove(0);
    }
    all
}

/// Decides what is served and trusted.
pub fn plan(wanted: &Wanted, external: &External, found: &Found, now: Timestamp) -> Result<Plan, Unusable> {
    let source = read(wanted, external, now)?;
    let known = known_authorities(found, &source.authorities, now);
    let (trusted, settled) = is_trusted(wanted, found, &source.authorities, Timestamp::MIN, now);

    let stored = read_pair(found.serving.as_ref(), now).ok().filter(|(pair, certificate)| {
        let chain = chain(pair);
        let mut vouching = source.authorities.iter().chain(&known);
        wanted.names.first().is_none_or(|name| certificate.names(name))
            && vouching.any(|authority| certificate.serves_by(&chain, authority))
    });
    let (serving, serving_certificate, serving_renewed) = match stored {
        Some((_, certificate)) if certificate == source.certificate => (source.pair, certificate, None),
        Some((pair, certificate)) if !trusted => (pair, certificate, None),
        _ => (source.pair, source.certificate.clone(), Some(Why::OwnersChoice)),
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
    let next = [Some(serving_certificate.not_after), step].into_iter().flatten().min().unwrap_or(now);
    Ok(Plan {
        bundle: format!("{}{previous}", pem(&source.authorities)),
        ca: None,
        ca_certificate: source.authority,
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
#[path = "external_tests.rs"]
mod tests;
