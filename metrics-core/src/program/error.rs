//! Errors of starting the program.

use crate::cluster;
use crate::server::listen;

/// An error of starting the program. Each message contains the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No client for kube-apiserver.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An invalid value of a flag.
    #[error("--{flag}: {problem}")]
    Flag {
        /// The name of the flag.
        flag: &'static str,
        /// The problem and the remedy.
        problem: String,
    },
    /// No serving certificate.
    #[error("serving certificate: {0}")]
    Certificate(#[from] crate::server::tls::CertificateError),
    /// An invalid TLS configuration.
    #[error("invalid TLS configuration: {0}; check the --tls flags")]
    Tls(#[from] rustls::Error),
    /// An invalid value of the Strict-Transport-Security header.
    #[error(
        "--strict-transport-security-directives: {0}; use directives such as max-age=31536000,includeSubDomains"
    )]
    Header(#[from] http::header::InvalidHeaderValue),
    /// The port can't be bound.
    #[error(transparent)]
    Bind(#[from] listen::BindError),
    /// No random numbers.
    #[error("the system provides no random numbers")]
    Random,
    /// Another error of the system.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl From<aws_lc_rs::error::Unspecified> for Error {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Random
    }
}
