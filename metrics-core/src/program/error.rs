//! Why the program can't start.

use crate::cluster;
use crate::server::listen;

/// Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to the API server.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A flag's value that only its user can judge.
    #[error("--{flag}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// No serving certificate can be made.
    #[error("serving certificate: {0}")]
    Certificate(#[from] crate::server::tls::certificate::Error),
    /// TLS can't be configured so.
    #[error("TLS can't be configured so: {0}; check the --tls flags")]
    Tls(#[from] rustls::Error),
    /// A header can't have this value.
    #[error(
        "--strict-transport-security-directives: {0}; give directives such as max-age=31536000,includeSubDomains"
    )]
    Header(#[from] http::header::InvalidHeaderValue),
    /// The port can't be had.
    #[error(transparent)]
    Bind(#[from] listen::BindError),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The system refuses something.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl From<aws_lc_rs::error::Unspecified> for Error {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Random
    }
}
