//! Recent authentication results, for the report: refused credentials, and the last requests of the front proxy.

use std::net::IpAddr;
use std::sync::Arc;

use crds::cause::CredentialCause;
use crds::report::{FrontProxyClient, RefusedCredential, RefusedCredentials};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::client_certificate::Subject;
use super::{ClientConnection, Method, Refusal, Trust};
use crate::telemetry::{RecentEvents, excerpt};

/// The path of the Metrics API, which kube-apiserver proxies and whose availability it checks.
const API: &str = "/apis/metrics.k8s.io";
/// Maximum lengths of texts in characters.
const COMMON_NAME: usize = 100;
const ISSUER: usize = 200;
const MESSAGE: usize = 300;

/// The history; clones share it.
#[derive(Clone, Default)]
pub struct CredentialHistory {
    refused: RecentEvents<CredentialCause, RefusedCredential>,
    last: Arc<Mutex<LastRequests>>,
}

#[derive(Default)]
struct LastRequests {
    front_proxy: Option<(Timestamp, Arc<Subject>, IpAddr)>,
    anonymous: Option<(Timestamp, IpAddr)>,
}

impl CredentialHistory {
    /// Records an authenticated request.
    pub(super) fn accepted(&self, method: Method, path: &str, connection: &ClientConnection, trust: &Trust) {
        match method {
            Method::FrontProxy => {
                let Some(subject) = connection.subject(trust) else { return };
                self.last.lock().front_proxy = Some((Timestamp::now(), subject, connection.address()));
            }
            Method::Anonymous if connection.has_no_certificate() && is_for_api(path) => {
                self.last.lock().anonymous = Some((Timestamp::now(), connection.address()));
            }
            _ => {}
        }
    }

    /// Records a refused credential.
    pub(super) fn refused(
        &self,
        refusal: &Refusal,
        path: &str,
        connection: &ClientConnection,
        trust: &Trust,
    ) {
        let from_certificate = refusal.reason < CredentialCause::TokenRejected;
        let subject = from_certificate.then(|| connection.subject(trust)).flatten();
        let refused = RefusedCredential {
            common_name: subject.as_ref().map(|subject| excerpt(&subject.common_name, COMMON_NAME)),
            issuer: subject.as_ref().map(|subject| excerpt(&subject.issuer, ISSUER)),
            client: Some(connection.address().to_string()),
            for_api: is_for_api(path),
            message: excerpt(&refusal.detail, MESSAGE),
            last: Timestamp::default(),
        };
        self.refused.record(refusal.reason, refused);
    }

    /// Records a front proxy's certificate whose request had no username header and was authenticated otherwise. For
    /// other paths this is normal: a client whose CA is also that of the front proxy.
    pub(super) fn ignored(
        &self,
        refusal: &Refusal,
        path: &str,
        connection: &ClientConnection,
        trust: &Trust,
    ) {
        if is_for_api(path) {
            self.refused(refusal, path, connection, trust);
        }
    }

    /// Returns the credentials refused in the last five minutes by cause, latest first.
    #[must_use]
    pub(crate) fn refusals(&self) -> Vec<RefusedCredentials> {
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

    /// Returns the last accepted request of a front proxy.
    #[must_use]
    pub(crate) fn front_proxy(&self) -> Option<(Timestamp, FrontProxyClient)> {
        let (at, subject, address) = self.last.lock().front_proxy.clone()?;
        let client = FrontProxyClient {
            common_name: excerpt(&subject.common_name, COMMON_NAME),
            issuer: excerpt(&subject.issuer, ISSUER),
            not_after: Timestamp::from_second(subject.not_after).ok(),
            client: Some(address.to_string()),
        };
        Some((at, client))
    }

    /// Returns the last API request of a client without a certificate and without other credentials.
    #[must_use]
    pub(crate) fn anonymous(&self) -> Option<(Timestamp, IpAddr)> {
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
    fn recognizes_paths_of_the_api_group() {
        assert!(is_for_api("/apis/metrics.k8s.io") && is_for_api("/apis/metrics.k8s.io/v1beta1/nodes"));
        assert!(!is_for_api("/apis/metrics.k8s.ios") && !is_for_api("/metrics") && !is_for_api("/apis"));
    }
}
