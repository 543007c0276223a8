//! Certificates: what is there, what must be renewed, and in which order without breaking a request.
//!
//! All pure: it needs neither a client nor a clock, only the entropy of new keys. Times are passed in.

pub mod cert_manager;
mod certificate;
pub mod external;
pub mod front_proxy;
pub mod front_proxy_flags;
mod issue;
mod plan;

pub use certificate::{Certificate, ParseError};
pub use issue::{IssueError, Pair, PrivateKey, issue_ca, issue_client, issue_leaf};
pub use plan::{Found, Plan, Rollover, Trusted, Wanted, Why, plan};

use std::time::Duration;

/// How far `notBefore` lies in the past, so that a machine with a late clock accepts a new certificate.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// How fast certificates age. Only tests have another than the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long every APIService must have held a new CA before a certificate of it is used: each kube-apiserver
    /// follows the APIServices by a watch of its own, which nobody else can see.
    pub trust_settles: Duration,
    /// Validities are divided by this.
    pub compression: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self { trust_settles: Duration::from_secs(60), compression: 1 }
    }
}

impl Timing {
    /// How long a certificate is valid that shall be valid for `validity`; at least ten seconds.
    #[must_use]
    pub fn validity(&self, validity: Duration) -> Duration {
        (validity / self.compression.max(1)).max(Duration::from_secs(10))
    }
}

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
