//! The front-proxy CA and client certificate: which there shall be, from those that there are.
//!
//! Their files are brought to the control-plane nodes by people, so a CA is never replaced by time alone:
//!
//! 1. The next CA is stored beside the current one, and `ca.crt` holds both. Client certificates are still signed
//!    by the current one, whose key is kept.
//! 2. Once a kube-apiserver publishes the next CA (ConfigMap `kube-system/extension-apiserver-authentication`, which
//!    every aggregated API server reads), it becomes the current one and signs a new client certificate.
//! 3. The earlier CA stays in `ca.crt` until it expires: nobody can see whether the last kube-apiserver has the new
//!    client certificate.

use std::time::Duration;

use crds::KeyAlgorithm;
use jiff::Timestamp;

use super::plan::{first, outdated, read_pair};
use super::{Certificate, IssueError, Pair, Why, issue_ca, issue_client};

/// kube-apiserver and whatever reads its certificate understand it.
const ALGORITHM: KeyAlgorithm = KeyAlgorithm::RSA2048;

/// Earlier CAs beyond this many are forgotten.
const MAX_PREVIOUS: usize = 4;

/// What the spec asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The client certificate's common name.
    pub common_name: String,
    /// How long a CA is valid.
    pub ca_validity: Duration,
    /// How long a client certificate is valid.
    pub client_validity: Duration,
}

/// What is stored; everything may be missing or nonsense.
#[derive(Clone, Default)]
pub struct Found {
    /// `tls.crt` and `tls.key` of the CA's Secret.
    pub ca: Option<(Vec<u8>, Vec<u8>)>,
    /// `next.crt` and `next.key` of the CA's Secret.
    pub next: Option<(Vec<u8>, Vec<u8>)>,
    /// `previous.crt` of the CA's Secret.
    pub previous: Option<Vec<u8>>,
    /// `tls.crt` and `tls.key` of the client's Secret.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
    /// `ca.crt` of the client's Secret.
    pub bundle: Option<Vec<u8>>,
    /// What kube-apiserver publishes as `requestheader-client-ca-file`; looked at only when it matters.
    pub published: Option<Vec<u8>>,
}

/// Which there shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The CA that signs.
    pub ca: Pair,
    /// Its certificate.
    pub ca_certificate: Certificate,
    /// The CA that will sign once kube-apiserver trusts it.
    pub next: Option<Pair>,
    /// Why a CA was issued, if one was.
    pub ca_issued: Option<Why>,
    /// Earlier CAs, in PEM.
    pub previous: String,
    /// The client certificate.
    pub client: Pair,
    /// The client certificate, read.
    pub client_certificate: Certificate,
    /// Why it is new, if it is.
    pub client_issued: Option<Why>,
    /// For `--requestheader-client-ca-file`, in PEM.
    pub bundle: String,
    /// Whether something waits until kube-apiserver publishes a CA.
    pub waits: bool,
    /// When the next step is due.
    pub next_step: Timestamp,
}

/// Decides; issues what must be new.
pub fn plan(wanted: &Wanted, found: &Found, now: Timestamp) -> Result<Plan, IssueError> {
    let published = found
        .published
        .as_deref()
        .map_or_else(Vec::new, |pem| Certificate::parse_pem(pem).unwrap_or_default());
    let mut ca_issued = None;
    let mut retired = None;
    let stored_next = authority(found.next.as_ref(), now).ok();
    let (ca, next) = match (authority(found.ca.as_ref(), now), stored_next) {
        (Ok(current), Some(next)) if published.contains(&next.1) => {
            retired = Some(current.1);
            (next, None)
        }
        (Ok(current), Some(next)) => (current, Some(next)),
        (Ok(current), None) => match outdated(&current.1, ALGORITHM, wanted.ca_validity, now) {
            Some(why) => {
                ca_issued = Some(why);
                (current, Some(new_authority(wanted, now)?))
            }
            None => (current, None),
        },
        // The one that waits is as good as a new one, and may be on its way to kube-apiserver.
        (Err(_), Some(next)) => (next, None),
        (Err(why), None) => {
            ca_issued = Some(why);
            (new_authority(wanted, now)?, None)
        }
    };
    let current = [Some(&ca.1), next.as_ref().map(|(_, certificate)| certificate)];
    let previous = earlier(found, retired, &current, now);

    let trusted = published.contains(&ca.1);
    let (mut kept, mut client_issued) = (None, None);
    match read_client(wanted, found, &ca.1, &previous, now) {
        Err(why) => client_issued = Some(why),
        // What kube-apiserver may have now is replaced when its successor is trusted.
        Ok((_, Some(why))) if trusted || why != Why::NewAuthority => client_issued = Some(why),
        Ok((pair, _)) => kept = Some(pair),
    }
    let (client, client_certificate) = if let Some(kept) = kept {
        kept
    } else {
        let until = ca.1.not_after.min(now + wanted.client_validity);
        let pair = issue_client(&ca.0, &wanted.common_name, ALGORITHM, until, now)?;
        let certificate = first(&pair.certificate)?;
        (pair, certificate)
    };
    let waits = next.is_some() || !client_certificate.authenticates_under(&ca.1);
    let pem = |certificates: &[Certificate]| certificates.iter().map(Certificate::to_pem).collect::<String>();
    let next_pem = next.as_ref().map(|(_, certificate)| certificate.to_pem()).unwrap_or_default();
    let mut steps = vec![client_certificate.renewal_time()];
    // A CA that is being replaced already has no step of its own.
    steps.extend(next.is_none().then(|| ca.1.renewal_time()));
    steps.extend(previous.iter().map(|certificate| certificate.not_after));
    Ok(Plan {
        bundle: format!("{}{next_pem}{}", ca.1.to_pem(), pem(&previous)),
        next: next.map(|(pair, _)| pair),
        ca: ca.0,
        ca_certificate: ca.1,
        ca_issued,
        previous: pem(&previous),
        client,
        client_certificate,
        client_issued,
        waits,
        next_step: steps.into_iter().min().unwrap_or(now),
    })
}

fn new_authority(wanted: &Wanted, now: Timestamp) -> Result<(Pair, Certificate), IssueError> {
    let pair = issue_ca("front-proxy CA", ALGORITHM, wanted.ca_validity, now)?;
    let certificate = first(&pair.certificate)?;
    Ok((pair, certificate))
}

fn authority(stored: Option<&(Vec<u8>, Vec<u8>)>, now: Timestamp) -> Result<(Pair, Certificate), Why> {
    let (pair, certificate) = read_pair(stored, now)?;
    if certificate.is_ca { Ok((pair, certificate)) } else { Err(Why::NotAnAuthority) }
}

type Client = ((Pair, Certificate), Option<Why>);

/// The client certificate, and why it is to be replaced when that is safe.
fn read_client(
    wanted: &Wanted,
    found: &Found,
    ca: &Certificate,
    previous: &[Certificate],
    now: Timestamp,
) -> Result<Client, Why> {
    let (pair, certificate) = read_pair(found.client.as_ref(), now)?;
    let why = if certificate.common_name.as_deref() != Some(wanted.common_name.as_str()) {
        return Err(Why::OtherName(certificate.common_name.unwrap_or_default()));
    } else if certificate.authenticates_under(ca) {
        outdated(&certificate, ALGORITHM, wanted.client_validity, now)
    } else if previous.iter().any(|ca| certificate.authenticates_under(ca)) {
        Some(Why::NewAuthority)
    } else {
        return Err(Why::UnknownAuthority);
    };
    Ok(((pair, certificate), why))
}

/// CAs that are valid still, wherever they were kept.
fn earlier(
    found: &Found,
    retired: Option<Certificate>,
    current: &[Option<&Certificate>],
    now: Timestamp,
) -> Vec<Certificate> {
    let stored = [found.previous.as_ref(), found.bundle.as_ref()];
    let stored = stored.into_iter().flatten().filter_map(|pem| Certificate::parse_pem(pem).ok()).flatten();
    let mut earlier: Vec<Certificate> = Vec::new();
    for certificate in retired.into_iter().chain(stored) {
        let is_new = !current.contains(&Some(&certificate)) && !earlier.contains(&certificate);
        if certificate.is_ca && certificate.valid_at(now) && is_new && earlier.len() < MAX_PREVIOUS {
            earlier.push(certificate);
        }
    }
    earlier
}

#[cfg(test)]
#[path = "front_proxy_tests.rs"]
mod tests;
