//! Certificates: reads them, decides which to renew, issues them and orders the steps of a CA rollover so that no TLS
//! connection fails.
//!
//! Pure: no Kubernetes client and no clock. Callers pass the time. The keys of new certificates are random.
//!
//! - [`serving`]: the CA and serving certificate that the operator issues.
//! - [`external`]: a serving certificate from a user's Secret or from cert-manager.
//! - [`front_proxy`]: the CA and client certificate of kube-apiserver's front proxy.

pub(crate) mod cert_manager;
mod certificate;
pub(crate) mod external;
pub(crate) mod front_proxy;
pub(crate) mod front_proxy_flags;
mod issue;
pub(crate) mod serving;

pub use certificate::Certificate;
#[cfg(test)]
pub(crate) use issue::seeded_keys;
pub(crate) use issue::{IssueError, Pair, PrivateKey, issue_ca, issue_client, issue_leaf};
pub(crate) use serving::{
    RenewalReason, Rollover, ServingPlan, ServingRequirements, StoredServing, TrustedBundle,
};

use std::time::Duration;

/// How far `notBefore` is set into the past, so that machines with a slow clock accept a new certificate.
pub(crate) const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// Delays and validities of certificates. Only tests change the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long every APIService must have contained a new CA before the operator serves a certificate signed by it.
    /// Each kube-apiserver watches APIServices on its own, and none reports its progress.
    pub trust_delay: Duration,
    /// The divisor of all validities.
    pub compression: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self { trust_delay: Duration::from_secs(60), compression: 1 }
    }
}

impl Timing {
    /// Returns the `validity` divided by the compression, at least ten seconds.
    #[must_use]
    pub fn validity(&self, validity: Duration) -> Duration {
        (validity / self.compression.max(1)).max(Duration::from_secs(10))
    }
}

/// Returns the DNS names of a Service. kube-apiserver verifies the first, `SERVICE.NAMESPACE.svc`.
#[must_use]
pub(crate) fn service_names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
        service.to_owned(),
    ]
}
