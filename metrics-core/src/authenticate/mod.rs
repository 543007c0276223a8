//! Who asks: front proxy, client certificate, bearer token, or anonymous.
//!
//! The order and the rules are those of k8s.io/apiserver's delegated authentication: the first method that
//! succeeds wins; when none does and one of them failed, the request is refused (401); when none applied, it is
//! anonymous. Which certificates and headers are trusted is told by [`trust`], live.

mod bearer;
mod client_certificate;
mod front_proxy;
mod metrics;
mod token_review;
pub mod trust;
mod user;
mod version1;

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;

pub use client_certificate::{Anchors, PeerCertificates};
pub use metrics::Metrics;
pub use token_review::{ReviewError, TokenReviewer, TokenVerdict};
pub use trust::Trust;
pub use user::{ANONYMOUS, UserInfo};

/// How a user was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// By the headers of a trusted front proxy.
    FrontProxy,
    /// By the client's certificate.
    ClientCertificate,
    /// By a bearer token.
    Token,
    /// Not at all.
    Anonymous,
}

/// Why a credential was refused; bounded, for counters. Of several for one certificate the last tells most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No known CA signed the certificate.
    UnknownCa,
    /// The certificate is malformed or breaks a rule of its chain.
    BadCertificate,
    /// The certificate is not for clients (extended key usage).
    NotForClients,
    /// The certificate's time has not come.
    NotYetValid,
    /// The certificate is past its time.
    Expired,
    /// The certificate's common name is not among the front proxy's.
    CnNotAllowed,
    /// The certificate is a front proxy's, but no header that is read named a user.
    NoUserNamed,
    /// The API server does not know the token.
    TokenRejected,
    /// The API server could not be asked about the token.
    TokenReviewFailed,
}

impl Reason {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCa => "unknown_ca",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NotForClients => "not_for_clients",
            Self::BadCertificate => "bad_certificate",
            Self::CnNotAllowed => "cn_not_allowed",
            Self::NoUserNamed => "no_user_named",
            Self::TokenRejected => "token_rejected",
            Self::TokenReviewFailed => "token_review_failed",
        }
    }
}

/// A credential that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The cause.
    pub reason: Reason,
    /// The cause with its particulars; holds no secret.
    pub detail: String,
}

/// A request that is answered with 401: the refusals of all methods that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unauthorized(pub Vec<Refusal>);

/// What a method says of a request.
enum Opinion {
    /// It is this user.
    User(UserInfo),
    /// The method does not apply.
    None,
    /// The method does not apply; if the request is refused in the end, this is the reason.
    Silent(Refusal),
    /// The credential is refused.
    Refused(Refusal),
}

/// The authenticator of all requests.
pub struct Authenticator {
    trust: Arc<trust::LiveTrust>,
    tokens: Option<token_review::CachedReviews>,
    metrics: Metrics,
}

impl Authenticator {
    /// Trusts as `trust` says; asks `reviewer` about tokens and remembers its answers for `token_ttl`.
    #[must_use]
    pub fn new(
        trust: Arc<trust::LiveTrust>,
        reviewer: Option<(Arc<dyn TokenReviewer>, crate::review_cache::Hasher)>,
        token_ttl: Duration,
        metrics: Metrics,
    ) -> Self {
        let tokens =
            reviewer.map(|(reviewer, hasher)| token_review::CachedReviews::new(reviewer, hasher, token_ttl));
        Self { trust, tokens, metrics }
    }

    /// Tells the user, and takes the credentials out of the request's headers.
    ///
    /// `peer` is what the client showed in the TLS handshake of this connection.
    pub async fn authenticate(
        &self,
        parts: &mut Parts,
        peer: &PeerCertificates,
    ) -> Result<UserInfo, Unauthorized> {
        let trust = self.trust.load();
        let result = self.decide(parts, peer, &trust).await;
        bearer::clear(&mut parts.headers);
        front_proxy::clear(&mut parts.headers, &trust);
        match result {
            Ok((method, user)) => {
                self.metrics.success(method);
                Ok(user.with_authenticated_group())
            }
            Err(unauthorized) => {
                // One certificate is refused for one reason, whatever it was tried for.
                let (tokens, certificates): (Vec<_>, Vec<_>) =
                    unauthorized.0.iter().partition(|refusal| refusal.reason >= Reason::TokenRejected);
                for refusal in
                    tokens.into_iter().chain(certificates.into_iter().max_by_key(|refusal| refusal.reason))
                {
                    self.metrics.refused(refusal);
                }
                Err(unauthorized)
            }
        }
    }

    async fn decide(
        &self,
        parts: &Parts,
        peer: &PeerCertificates,
        trust: &Trust,
    ) -> Result<(Method, UserInfo), Unauthorized> {
        let (mut refusals, mut silent) = (Vec::new(), None);
        match front_proxy::authenticate(&parts.headers, peer, trust) {
            Opinion::User(user) => return Ok((Method::FrontProxy, user)),
            Opinion::Refused(refusal) => refusals.push(refusal),
            Opinion::Silent(refusal) => silent = Some(refusal),
            Opinion::None => {}
        }
        match client_certificate::authenticate(peer, trust) {
            Opinion::User(user) => return Ok((Method::ClientCertificate, user)),
            Opinion::Refused(refusal) => refusals.push(refusal),
            Opinion::Silent(refusal) => silent = Some(refusal),
            Opinion::None => {}
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, bearer::token(&parts.headers)) {
            match tokens.review(token).await {
                Ok(user) => return Ok((Method::Token, user)),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if refusals.is_empty() {
            return Ok((Method::Anonymous, UserInfo::anonymous()));
        }
        refusals.extend(silent);
        Err(Unauthorized(refusals))
    }
}
