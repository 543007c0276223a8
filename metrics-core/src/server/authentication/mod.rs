//! Who asks: front proxy, client certificate, bearer token, or anonymous.
//!
//! The order and the rules are those of k8s.io/apiserver's delegated authentication: the first method that
//! succeeds wins; when none does and one of them failed, the request is refused (401); when none applied, it is
//! anonymous. Which certificates and headers are trusted is told by [`trust`], live.

mod bearer;
mod client_certificate;
mod evidence;
mod front_proxy;
mod metrics;
mod token_review;
pub mod trust;
mod user;
mod version1;

use std::sync::Arc;
use std::time::Duration;

use crds::cause::CredentialCause;
use http::request::Parts;

pub use client_certificate::{Anchors, Peer};
pub use evidence::Evidence;
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

/// A credential that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The cause; of several for one certificate the greatest tells most.
    pub reason: CredentialCause,
    /// The cause with its particulars; holds no secret.
    pub detail: String,
}

/// Why a request is nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoUser {
    /// The refusals of all methods that failed: answered with 401.
    Unauthorized(Vec<Refusal>),
    /// Too many tokens are being asked about: answered with 429.
    TooMany,
}

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
    evidence: Evidence,
}

impl Authenticator {
    /// Trusts as `trust` says; asks `reviewer` about tokens and remembers its answers for `token_ttl`.
    #[must_use]
    pub fn new(
        trust: Arc<trust::LiveTrust>,
        reviewer: Option<(Arc<dyn TokenReviewer>, crate::server::reviews::cache::Hasher)>,
        token_ttl: Duration,
        metrics: Metrics,
    ) -> Self {
        let tokens =
            reviewer.map(|(reviewer, hasher)| token_review::CachedReviews::new(reviewer, hasher, token_ttl));
        Self { trust, tokens, metrics, evidence: Evidence::default() }
    }

    /// What became of the credentials of late.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Tells the user, and takes the credentials out of the request's headers.
    ///
    /// `peer` is the client at the other end of this connection.
    pub async fn authenticate(&self, parts: &mut Parts, peer: &Peer) -> Result<UserInfo, NoUser> {
        let trust = self.trust.load();
        let mut silent = None;
        let result = self.decide(parts, peer, &trust, &mut silent).await;
        bearer::clear(&mut parts.headers);
        front_proxy::clear(&mut parts.headers, &trust);
        let path = parts.uri.path();
        match result {
            Ok((method, user)) => {
                self.metrics.success(method);
                self.evidence.accepted(method, path, peer, &trust);
                if let Some(refusal) = silent {
                    self.evidence.unread(&refusal, path, peer, &trust);
                }
                Ok(user.with_authenticated_group())
            }
            Err(NoUser::TooMany) => Err(NoUser::TooMany),
            Err(NoUser::Unauthorized(refusals)) => {
                // One certificate is refused for one reason, whatever it was tried for; what is said of it as a front
                // proxy's comes first.
                let (tokens, certificates): (Vec<_>, Vec<_>) =
                    refusals.iter().partition(|refusal| refusal.reason >= CredentialCause::TokenRejected);
                let worst = certificates.into_iter().rev().max_by_key(|refusal| refusal.reason);
                for refusal in tokens.into_iter().chain(worst) {
                    self.metrics.refused(refusal);
                    self.evidence.refused(refusal, path, peer, &trust);
                }
                Err(NoUser::Unauthorized(refusals))
            }
        }
    }

    async fn decide(
        &self,
        parts: &Parts,
        peer: &Peer,
        trust: &Trust,
        silent: &mut Option<Refusal>,
    ) -> Result<(Method, UserInfo), NoUser> {
        let mut refusals = Vec::new();
        match front_proxy::authenticate(&parts.headers, peer, trust) {
            Opinion::User(user) => return Ok((Method::FrontProxy, user)),
            Opinion::Refused(refusal) => refusals.push(refusal),
            Opinion::Silent(refusal) => *silent = Some(refusal),
            Opinion::None => {}
        }
        match client_certificate::authenticate(peer, trust) {
            Opinion::User(user) => return Ok((Method::ClientCertificate, user)),
            Opinion::Refused(refusal) => refusals.push(refusal),
            Opinion::Silent(refusal) => *silent = Some(refusal),
            Opinion::None => {}
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, bearer::token(&parts.headers)) {
            match tokens.review(token).await {
                Ok(user) => return Ok((Method::Token, user)),
                Err(NoUser::Unauthorized(refused)) => refusals.extend(refused),
                Err(NoUser::TooMany) => return Err(NoUser::TooMany),
            }
        }
        if refusals.is_empty() {
            return Ok((Method::Anonymous, UserInfo::anonymous()));
        }
        refusals.extend(silent.take());
        Err(NoUser::Unauthorized(refusals))
    }
}
