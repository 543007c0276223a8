//! What became of credentials of late, for the report: who was refused and why, and when kube-apiserver got in.

use std::net::IpAddr;
use std::sync::Arc;

use crds::cause::CredentialCause;
use crds::report::{FrontProxyClient, RefusedCredential, RefusedCredentials};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::client_certificate::Subject;
use super::{Method, Peer, Refusal, Trust};
use crate::telemetry::{Recent, excerpt};

/// The path under which kube-apiserver asks for metrics, and whether they are available.
const API: &str = "/apis/metrics.k8s.io";
/// The longest texts.
const COMMON_NAME: usize = 100;
const ISSUER: usize = 200;
const MESSAGE: usize = 300;

/// The evidence; clones share it.
#[derive(Clone, Default)]
pub struct Evidence {
    refused: Recent<CredentialCause, RefusedCredential>,
    last: Arc<Mutex<Last>>,
}

#[derive(Default)]
struct Last {
    front_proxy: Option<(Timestamp, Arc<Subject>, IpAddr)>,
    anonymous: Option<(Timestamp, IpAddr)>,
}

impl Evidence {
    /// A request of this user was let on to authorization.
    pub(super) fn accepted(&self, method: Method, path: &str, peer: &Peer, trust: &Trust) {
        match method {
            Method::FrontProxy => {
                let Some(subject) = peer.subject(trust) else { return };
                self.last.lock().front_proxy = Some((Timestamp::now(), subject, peer.address()));
            }
            Method::Anonymous if peer.is_bare() && is_for_api(path) => {
                self.last.lock().anonymous = Some((Timestamp::now(), peer.address()));
            }
            _ => {}
        }
    }

    /// A credential was refused.
    pub(super) fn refused(&self, refusal: &Refusal, path: &str, peer: &Peer, trust: &Trust) {
        let shown = refusal.reason < CredentialCause::TokenRejected;
        let subject = shown.then(|| peer.subject(trust)).flatten();
        let refused = RefusedCredential {
            common_name: subject.as_ref().map(|subject| excerpt(&subject.common_name, COMMON_NAME)),
            issuer: subject.as_ref().map(|subject| excerpt(&subject.issuer, ISSUER)),
            client: Some(peer.address().to_string()),
            for_api: is_for_api(path),
            message: excerpt(&refusal.detail, MESSAGE),
            last: Timestamp::default(),
        };
        self.refused.note(refusal.reason, refused);
    }

    /// A front proxy's certificate came with headers that named no user, and the request went on as somebody else's.
    /// For other paths than the API's that is how clients come whose CA is the front proxy's too.
    pub(super) fn unread(&self, refusal: &Refusal, path: &str, peer: &Peer, trust: &Trust) {
        if is_for_api(path) {
            self.refused(refusal, path, peer, trust);
        }
    }

    /// The credentials that were refused in the last five minutes, by cause, latest first.
    #[must_use]
    pub fn refusals(&self) -> Vec<RefusedCredentials> {
        let refusals = self.refused.list().into_iter().map(|refused| RefusedCredentials {
            cause: refused.cause,
            count: refused.count,
            last: refused.last,
            examples: refused
                .examples
                .into_iter()
                .map(|(example, last)| RefusedCredential { last, ..example })
                .collect(),
        });
        refusals.collect()
    }

    /// The last request of a front proxy that was accepted.
    #[must_use]
    pub fn front_proxy(&self) -> Option<(Timestamp, FrontProxyClient)> {
        let (at, subject, address) = self.last.lock().front_proxy.clone()?;
        let client = FrontProxyClient {
            common_name: excerpt(&subject.common_name, COMMON_NAME),
            issuer: excerpt(&subject.issuer, ISSUER),
            not_after: Timestamp::from_second(subject.not_after).ok(),
            client: Some(address.to_string()),
        };
        Some((at, client))
    }

    /// The last request for the API of a client that showed nothing.
    #[must_use]
    pub fn anonymous(&self) -> Option<(Timestamp, IpAddr)> {
        self.last.lock().anonymous
    }
}

fn is_for_api(path: &str) -> bool {
    path.strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::is_for_api;

    #[test]
    fn the_api_is_its_groups_paths() {
        assert!(is_for_api("/apis/metrics.k8s.io") && is_for_api("/apis/metrics.k8s.io/v1beta1/nodes"));
        assert!(!is_for_api("/apis/metrics.k8s.ios") && !is_for_api("/metrics") && !is_for_api("/apis"));
    }
}
