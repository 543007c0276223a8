//! Why a scrape failed.

use std::io;
use std::path::PathBuf;

/// Why a kubelet gave no samples. The message says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Node has no address of a configured type.
    #[error(
        "the Node has no address of a type in --kubelet-preferred-address-types; add one that it has \
         (kubectl get node -o jsonpath={{.status.addresses}})"
    )]
    NoAddress,
    /// The name does not resolve.
    #[error("{host} does not resolve ({source}); put InternalIP first in --kubelet-preferred-address-types")]
    Dns {
        /// The name.
        host: Box<str>,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nothing listens there.
    #[error("{address} refuses connections; does the kubelet run, and is --kubelet-port right?")]
    Refused {
        /// Where.
        address: Box<str>,
    },
    /// There is no way there.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// Where.
        address: Box<str>,
        /// What the system said.
        source: io::Error,
    },
    /// It took too long.
    #[error("no answer in time while {doing}; a firewall or NetworkPolicy may drop the packets")]
    Timeout {
        /// At what.
        doing: &'static str,
    },
    /// The kubelet closed the connection.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The port speaks HTTP without TLS.
    #[error("the port answers without TLS; --kubelet-port must be the kubelet's HTTPS port (10250)")]
    PlainHttp,
    /// The certificate's issuer is not trusted.
    #[error(
        "the kubelet's certificate is signed by an authority that is not in \
         --kubelet-certificate-authority; let the cluster's CA sign it (serverTLSBootstrap) or add its CA"
    )]
    TlsUnknownCa,
    /// The certificate names another host.
    #[error(
        "the kubelet's certificate bears none of the Node's names or addresses ({presented}); \
         it must be issued with the Node's name or address"
    )]
    TlsNameMismatch {
        /// The names it bears.
        presented: String,
    },
    /// The certificate is outside its time of validity.
    #[error("the kubelet's certificate is expired or not yet valid: {0}")]
    TlsExpired(String),
    /// The handshake failed for another reason.
    #[error("TLS handshake failed: {0}")]
    TlsOther(String),
    /// The kubelet does not know us.
    #[error(
        "the kubelet answers 401: it does not accept our token; it needs authentication.webhook.enabled \
         or our client certificate"
    )]
    Unauthorized,
    /// The kubelet does not let us.
    #[error("the kubelet answers 403: our service account needs get on nodes/metrics")]
    Forbidden,
    /// The kubelet has no such path.
    #[error("the kubelet answers 404: it does not serve {path}")]
    NotFound {
        /// The path.
        path: Box<str>,
    },
    /// The kubelet answers something else than 200.
    #[error("the kubelet answers HTTP status {0}")]
    HttpStatus(u16),
    /// The answer is beyond the limits.
    #[error("the answer is too large ({0})")]
    BodyTooLarge(&'static str),
    /// The answer is no HTTP, no gzip, or has no resource metrics in it.
    #[error("the answer makes no sense: {0}")]
    BadBody(&'static str),
    /// A file of ours cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The node went while it was asked.
    #[error("the node is gone")]
    Gone,
}

impl Error {
    /// All that [`Self::class`] gives.
    pub const CLASSES: [&'static str; 19] = [
        "no_address",
        "dns",
        "refused",
        "unreachable",
        "timeout",
        "broken",
        "plain_http",
        "tls_unknown_ca",
        "tls_name_mismatch",
        "tls_expired",
        "tls_other",
        "unauthorized",
        "forbidden",
        "not_found",
        "http_status",
        "body_too_large",
        "bad_body",
        "file",
        "gone",
    ];

    /// The class, for metrics and to tell whether the cause changed.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        Self::CLASSES[self.rank()]
    }

    /// The place in [`Self::CLASSES`], roughly by how far the scrape came.
    const fn rank(&self) -> usize {
        match self {
            Self::NoAddress => 0,
            Self::Dns { .. } => 1,
            Self::Refused { .. } => 2,
            Self::Unreachable { .. } => 3,
            Self::Timeout { .. } => 4,
            Self::Broken(_) => 5,
            Self::PlainHttp => 6,
            Self::TlsUnknownCa => 7,
            Self::TlsNameMismatch { .. } => 8,
            Self::TlsExpired(_) => 9,
            Self::TlsOther(_) => 10,
            Self::Unauthorized => 11,
            Self::Forbidden => 12,
            Self::NotFound { .. } => 13,
            Self::HttpStatus(_) => 14,
            Self::BodyTooLarge(_) => 15,
            Self::BadBody(_) => 16,
            Self::File { .. } => 17,
            Self::Gone => 18,
        }
    }

    /// Of the failures at two addresses, the one that came further, which says more.
    pub(super) fn further(self, other: Self) -> Self {
        if other.rank() >= self.rank() { other } else { self }
    }

    pub(super) fn of_connect(address: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { address: address.into() },
            io::ErrorKind::TimedOut => Self::Timeout { doing: "connecting" },
            _ => Self::Unreachable { address: address.into(), source },
        }
    }

    /// The class of an error of the TLS stream.
    pub(super) fn of_stream(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Broken(error);
        };
        Self::of_tls(tls)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError as Certificate, Error as Tls, InvalidMessage};
        match error {
            Tls::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainHttp,
            Tls::InvalidCertificate(certificate) => match certificate {
                Certificate::UnknownIssuer | Certificate::BadSignature => Self::TlsUnknownCa,
                Certificate::NotValidForName => Self::TlsNameMismatch { presented: "none".into() },
                Certificate::NotValidForNameContext { presented, .. } => {
                    // Bounded: the certificate is someone else's.
                    let presented = presented.join(", ").chars().take(200).collect();
                    Self::TlsNameMismatch { presented }
                }
                Certificate::Expired
                | Certificate::ExpiredContext { .. }
                | Certificate::NotValidYet
                | Certificate::NotValidYetContext { .. } => Self::TlsExpired(certificate.to_string()),
                _ => Self::TlsOther(certificate.to_string()),
            },
            _ => Self::TlsOther(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn the_failure_that_came_further_is_told() {
        let dns = || Error::Dns { host: "a".into(), source: std::io::Error::other("x") };
        assert_eq!(dns().further(Error::TlsUnknownCa).class(), "tls_unknown_ca");
        assert_eq!(Error::TlsUnknownCa.further(dns()).class(), "tls_unknown_ca");
        assert_eq!(Error::Gone.class(), "gone");
    }
}
