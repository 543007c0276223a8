//! Plans the front-proxy CA and client certificate.
//!
//! Administrators copy the files to the control-plane nodes, so a CA rollover waits for them:
//!
//! 1. The next CA is stored beside the current one, and `ca.crt` contains both. The current CA still signs client
//!    certificates.
//! 2. When a kube-apiserver publishes the next CA (ConfigMap `kube-system/extension-apiserver-authentication`, which
//!    every aggregated API server reads), it becomes the current one and signs a new client certificate.
//! 3. The previous CA stays in `ca.crt` until it expires: the operator can't detect whether every kube-apiserver uses
//!    the new client certificate.

use std::time::Duration;

use crds::KeyAlgorithm;
use jiff::Timestamp;

use super::serving::{first, outdated, read_pair};
use super::{Certificate, IssueError, Pair, RenewalReason, issue_ca, issue_client};

/// Every version of kube-apiserver and of its aggregated API servers supports it.
const ALGORITHM: KeyAlgorithm = KeyAlgorithm::RSA2048;

/// The maximum count of previous CAs.
const MAX_PREVIOUS: usize = 4;

/// The CA and client certificate that the spec requests.
#[derive(Clone, Debug)]
pub(crate) struct FrontProxyRequirements {
    /// The client certificate's common name.
    pub common_name: String,
    /// The validity of a new CA.
    pub ca_validity: Duration,
    /// The validity of a new client certificate.
    pub client_validity: Duration,
}

/// The stored certificates. Each may be missing or invalid.
#[derive(Clone, Default)]
pub(crate) struct StoredFrontProxy {
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
    /// The PEM that kube-apiserver publishes as `requestheader-client-ca-file`; `None` if it publishes none.
    pub published: Option<Vec<u8>>,
}

/// The desired certificates.
#[derive(Clone, Debug)]
pub(crate) struct FrontProxyPlan {
    /// The current CA.
    pub ca: Pair,
    /// The current CA's certificate, parsed.
    pub ca_certificate: Certificate,
    /// The next CA, which becomes the current one when kube-apiserver publishes it.
    pub next: Option<Pair>,
    /// Why a CA was issued; `None` if none was.
    pub ca_issued: Option<RenewalReason>,
    /// Previous CAs in PEM.
    pub previous: String,
    /// The client certificate.
    pub client: Pair,
    /// The client certificate, parsed.
    pub client_certificate: Certificate,
    /// Why the client certificate is new; `None` if it is not.
    pub client_issued: Option<RenewalReason>,
    /// The contents of `--requestheader-client-ca-file` in PEM.
    pub bundle: String,
    /// Whether a step waits for kube-apiserver to publish a CA.
    pub waits: bool,
    /// When the next step is due.
    pub next_step: Timestamp,
}

/// Plans the certificates. Issues those that must be replaced.
pub(crate) fn plan(
    wanted: &FrontProxyRequirements,
    found: &StoredFrontProxy,
    now: Timestamp,
) -> Result<FrontProxyPlan, IssueError> {
    let published = found
        .published
        .as_deref()
        .map_or_else(Vec::new, |pem| Certificate::parse_pem(pem).unwrap_or_default());
    let mut ca_issued = None;
    let mut retired = None;
    let stored_next = read_ca(found.next.as_ref(), now).ok();
    let (ca, next) = match (read_ca(found.ca.as_ref(), now), stored_next) {
        (Ok(current), Some(next)) if published.contains(&next.1) => {
            retired = Some(current.1);
            (next, None)
        }
        (Ok(current), Some(next)) => (current, Some(next)),
        (Ok(current), None) => match outdated(&current.1, ALGORITHM, wanted.ca_validity, now) {
            Some(why) => {
                ca_issued = Some(why);
                (current, Some(new_ca(wanted, now)?))
            }
            None => (current, None),
        },
        // The next CA may already be distributed to kube-apiserver, unlike a new one.
        (Err(_), Some(next)) => (next, None),
        (Err(why), None) => {
            ca_issued = Some(why);
            (new_ca(wanted, now)?, None)
        }
    };
    let current = [Some(&ca.1), next.as_ref().map(|(_, certificate)| certificate)];
    let previous = previous_cas(found, retired, &current, now);

    let trusted = published.contains(&ca.1);
    let (mut kept, mut client_issued) = (None, None);
    match read_client(wanted, found, &ca.1, &previous, now) {
        Err(why) => client_issued = Some(why),
        // kube-apiserver may still use this certificate, so it is replaced when the new CA is trusted.
        Ok((_, Some(why))) if trusted || why != RenewalReason::CaReplaced => client_issued = Some(why),
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
    let waits = next.is_some() || !client_certificate.is_client_certificate_of(&ca.1, now);
    let pem = |certificates: &[Certificate]| certificates.iter().map(Certificate::to_pem).collect::<String>();
    let next_pem = next.as_ref().map(|(_, certificate)| certificate.to_pem()).unwrap_or_default();
    let mut steps = vec![client_certificate.renewal_time()];
    // A CA with a successor is not renewed.
    steps.extend(next.is_none().then(|| ca.1.renewal_time()));
    steps.extend(previous.iter().map(|certificate| certificate.not_after));
    Ok(FrontProxyPlan {
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

fn new_ca(wanted: &FrontProxyRequirements, now: Timestamp) -> Result<(Pair, Certificate), IssueError> {
    let pair = issue_ca("front-proxy CA", ALGORITHM, wanted.ca_validity, now)?;
    let certificate = first(&pair.certificate)?;
    Ok((pair, certificate))
}

fn read_ca(
    stored: Option<&(Vec<u8>, Vec<u8>)>,
    now: Timestamp,
) -> Result<(Pair, Certificate), RenewalReason> {
    let (pair, certificate) = read_pair(stored, now)?;
    if certificate.is_ca { Ok((pair, certificate)) } else { Err(RenewalReason::NotACa) }
}

type Client = ((Pair, Certificate), Option<RenewalReason>);

/// Returns the stored client certificate, and why it should be replaced when that is safe.
fn read_client(
    wanted: &FrontProxyRequirements,
    found: &StoredFrontProxy,
    ca: &Certificate,
    previous: &[Certificate],
    now: Timestamp,
) -> Result<Client, RenewalReason> {
    let (pair, certificate) = read_pair(found.client.as_ref(), now)?;
    let why = if certificate.common_name.as_deref() != Some(wanted.common_name.as_str()) {
        return Err(RenewalReason::WrongCommonName(certificate.common_name.unwrap_or_default()));
    } else if certificate.is_client_certificate_of(ca, now) {
        outdated(&certificate, ALGORITHM, wanted.client_validity, now)
    } else if previous.iter().any(|ca| certificate.is_client_certificate_of(ca, now)) {
        Some(RenewalReason::CaReplaced)
    } else {
        return Err(RenewalReason::UnknownCa);
    };
    Ok(((pair, certificate), why))
}

/// Returns previous CAs that are still valid, from all objects that store them.
fn previous_cas(
    found: &StoredFrontProxy,
    retired: Option<Certificate>,
    current: &[Option<&Certificate>],
    now: Timestamp,
) -> Vec<Certificate> {
    let stored = [found.previous.as_ref(), found.bundle.as_ref()];
    let stored = stored.into_iter().flatten().filter_map(|pem| Certificate::parse_pem(pem).ok()).flatten();
    let mut previous: Vec<Certificate> = Vec::new();
    for certificate in retired.into_iter().chain(stored) {
        let is_new = !current.contains(&Some(&certificate)) && !previous.contains(&certificate);
        if certificate.is_ca && certificate.valid_at(now) && is_new && previous.len() < MAX_PREVIOUS {
            previous.push(certificate);
        }
    }
    previous
}

#[cfg(test)]
mod tests;
