//! Certificates: what is there, what must be renewed, and in which order without breaking a request.
//!
//! All pure: it needs neither a client nor a clock, only the entropy of new keys. Times are passed in.

mod certificate;
mod issue;
mod plan;

pub use certificate::{Certificate, ParseError};
pub use issue::{IssueError, Pair, PrivateKey, issue_ca, issue_leaf};
pub use plan::{Found, Plan, Rollover, Wanted, Why, plan};

use std::time::Duration;

/// How far `notBefore` lies in the past, so that a machine with a late clock accepts a new certificate.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// How long a new CA must have been trusted before a certificate of it is used: every kube-apiserver follows
/// the APIService by its own watch.
pub const TRUST_SETTLES: Duration = Duration::from_secs(60);

/// How long an old CA stays trusted after the serving certificate moved on: every replica of metrics-core
/// follows the Secret by its own watch.
pub const RETIREMENT: Duration = Duration::from_secs(5 * 60);

/// The names that a client may use for metrics-core; kube-apiserver asks for `SERVICE.NAMESPACE.svc`.
#[must_use]
pub fn service_names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
        service.to_owned(),
    ]
}
