//! Authentication: front proxy, client certificate, bearer token, or anonymous.
//!
//! The order and the rules are those of delegated authentication in k8s.io/apiserver: the first method that succeeds
//! decides; if none succeeds and one refuses a credential, the response is 401; if none applies, the user is anonymous.
//! [`trust`] holds the trusted certificates and headers, which change at run time.

mod bearer;
mod client_certificate;
mod front_proxy;
mod history;
mod metrics;
mod token_review;
pub mod trust;
mod user;

use std::sync::Arc;
use std::time::Duration;

use crds::cause::CredentialCause;
use http::request::Parts;

pub use client_certificate::{Anchors, ClientConnection};
pub(crate) use history::CredentialHistory;
pub use metrics::CredentialMetrics;
pub use token_review::{Audience, ReviewError, TokenReviewer, TokenStatus};
pub(crate) use trust::Trust;
pub use user::UserInfo;

/// An authentication method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    /// The headers of a trusted front proxy.
    FrontProxy,
    /// A client certificate.
    ClientCertificate,
    /// A bearer token.
    Token,
    /// None: the request has no credentials.
    Anonymous,
}

/// A credential that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The reason. Of several for one certificate, the greatest is the most specific.
    pub reason: CredentialCause,
    /// The reason with details; contains no secret.
    pub detail: String,
}

/// The reason why a request has no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthenticationError {
    /// All refusals. The response is 401.
    Unauthorized(Vec<Refusal>),
    /// Too many TokenReviews are pending. The response is 429.
    TooManyReviews,
}

/// The result of one method.
enum Attempt {
    /// The user is authenticated.
    Authenticated(UserInfo),
    /// The request has no credential for this method.
    NotApplicable,
    /// The credential is ignored. If no other method succeeds, this refusal is one of the reasons.
    Ignored(Refusal),
    /// The credential is refused.
    Refused(Refusal),
}

/// The authenticator of all requests.
pub struct Authenticator {
    trust: Arc<trust::LiveTrust>,
    tokens: Option<token_review::CachedReviews>,
    metrics: CredentialMetrics,
    history: CredentialHistory,
}

impl Authenticator {
    /// Returns an authenticator that uses `trust` for certificates and headers, and caches the TokenReviews of
    /// `reviewer` for `token_ttl`.
    #[must_use]
    pub fn new(
        trust: Arc<trust::LiveTrust>,
        reviewer: Option<(Arc<dyn TokenReviewer>, crate::server::reviews::cache::Hasher)>,
        token_ttl: Duration,
        metrics: CredentialMetrics,
    ) -> Self {
        let tokens =
            reviewer.map(|(reviewer, hasher)| token_review::CachedReviews::new(reviewer, hasher, token_ttl));
        Self { trust, tokens, metrics, history: CredentialHistory::default() }
    }

    /// Returns the recent results, for the report.
    #[must_use]
    pub fn history(&self) -> &CredentialHistory {
        &self.history
    }

    /// Returns whether the client has the certificate of a front proxy, whatever its requests contain.
    pub(crate) fn is_front_proxy(&self, connection: &ClientConnection) -> bool {
        front_proxy::is_front_proxy(connection, &self.trust.load())
    }

    /// Returns the user of a request, and removes the credentials from its headers.
    pub async fn authenticate(
        &self,
        parts: &mut Parts,
        connection: &ClientConnection,
    ) -> Result<UserInfo, AuthenticationError> {
        let trust = self.trust.load();
        let mut ignored = None;
        let result = self.decide(parts, connection, &trust, &mut ignored).await;
        bearer::clear(&mut parts.headers);
        front_proxy::clear(&mut parts.headers, &trust);
        let path = parts.uri.path();
        match result {
            Ok((method, user)) => {
                self.metrics.authenticated(method);
                self.history.accepted(method, path, connection, &trust);
                if let Some(refusal) = ignored {
                    self.history.ignored(&refusal, path, connection, &trust);
                }
                Ok(user.with_authenticated_group())
            }
            Err(AuthenticationError::TooManyReviews) => Err(AuthenticationError::TooManyReviews),
            Err(AuthenticationError::Unauthorized(refusals)) => {
                // A certificate is reported once, with its most specific reason; of equal ones, that of the front
                // proxy.
                let (tokens, certificates): (Vec<_>, Vec<_>) =
                    refusals.iter().partition(|refusal| refusal.reason >= CredentialCause::TokenRejected);
                let certificate = certificates.into_iter().rev().max_by_key(|refusal| refusal.reason);
                for refusal in tokens.into_iter().chain(certificate) {
                    self.metrics.refused(refusal);
                    self.history.refused(refusal, path, connection, &trust);
                }
                Err(AuthenticationError::Unauthorized(refusals))
            }
        }
    }

    async fn decide(
        &self,
        parts: &Parts,
        connection: &ClientConnection,
        trust: &Trust,
        ignored: &mut Option<Refusal>,
    ) -> Result<(Method, UserInfo), AuthenticationError> {
        let mut refusals = Vec::new();
        match front_proxy::authenticate(&parts.headers, connection, trust) {
            Attempt::Authenticated(user) => return Ok((Method::FrontProxy, user)),
            Attempt::Refused(refusal) => refusals.push(refusal),
            Attempt::Ignored(refusal) => *ignored = Some(refusal),
            Attempt::NotApplicable => {}
        }
        match client_certificate::authenticate(connection, trust) {
            Attempt::Authenticated(user) => return Ok((Method::ClientCertificate, user)),
            Attempt::Refused(refusal) => refusals.push(refusal),
            Attempt::Ignored(refusal) => *ignored = Some(refusal),
            Attempt::NotApplicable => {}
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, bearer::token(&parts.headers)) {
            match tokens.authenticate(token, parts.uri.path()).await {
                Ok(user) => return Ok((Method::Token, user)),
                Err(AuthenticationError::Unauthorized(refused)) => refusals.extend(refused),
                Err(AuthenticationError::TooManyReviews) => return Err(AuthenticationError::TooManyReviews),
            }
        }
        if refusals.is_empty() {
            return Ok((Method::Anonymous, UserInfo::anonymous()));
        }
        refusals.extend(ignored.take());
        Err(AuthenticationError::Unauthorized(refusals))
    }
}
