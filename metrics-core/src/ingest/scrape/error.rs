//! The errors of a scrape.

use std::io;
use std::path::PathBuf;

use crds::cause::ScrapeCause;

use super::pins::PinMismatch;
use crate::telemetry::excerpt;

/// Describes a certificate that has no subject alternative names.
const NO_SANS: &str = "it has no subject alternative names";
/// Describes a handshake that the certificate's key did not sign.
const NO_POSSESSION: &str = "the kubelet did not prove possession of its certificate's private key; another host may \
                             impersonate it: check that --kubelet-preferred-address-types leads to the node, and the key pair \
                             in /var/lib/kubelet/pki";
/// The maximum length of an excerpt of a kubelet's response.
const MAX_EXCERPT_CHARS: usize = 160;

/// Why a scrape returned no samples. Messages name the cause first and then the remedy where it is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The Node has no address of a configured type.
    #[error(
        "the Node has no address of a type in --kubelet-preferred-address-types; add a type that the Node \
         has (kubectl get node -o jsonpath={{.status.addresses}})"
    )]
    NoAddress,
    /// The address does not resolve in DNS.
    #[error("{host} does not resolve ({source}); put InternalIP first in --kubelet-preferred-address-types")]
    Dns {
        /// The name.
        host: Box<str>,
        /// The resolver's error.
        source: io::Error,
    },
    /// Nothing listens at the address.
    #[error(
        "{address} refused the connection; check that the kubelet is running and that --kubelet-port is correct"
    )]
    ConnectionRefused {
        /// The address and port.
        address: Box<str>,
    },
    /// There is no route to the address.
    #[error("{address} is unreachable: {source}")]
    Unreachable {
        /// The address and port.
        address: Box<str>,
        /// The system's error.
        source: io::Error,
    },
    /// The TCP connection timed out.
    #[error(
        "{address} does not respond ({doing} timed out); a firewall or NetworkPolicy drops the packets, or the \
         machine is down"
    )]
    Timeout {
        /// The address and port.
        address: Box<str>,
        /// What the client was doing.
        doing: &'static str,
    },
    /// The connection is open, but no response arrived in time.
    #[error(
        "the kubelet accepted the connection but did not respond in time ({doing}); it may be overloaded: check its \
         log, or raise --kubelet-request-timeout"
    )]
    SlowResponse {
        /// What the client was doing.
        doing: &'static str,
    },
    /// The kubelet closed the connection.
    #[error("the connection was closed: {0}")]
    ConnectionClosed(io::Error),
    /// The port serves HTTP without TLS.
    #[error("the port does not use TLS; --kubelet-port must be the kubelet's HTTPS port (10250)")]
    PlainHttp,
    /// The kubelet has no certificate: it sent the TLS alert `internal_error`, as Go's server does without one.
    #[error(
        "the kubelet has no serving certificate yet (TLS alert internal_error): with serverTLSBootstrap it waits for its \
         CertificateSigningRequest; approve it (kubectl get csr, kubectl certificate approve)"
    )]
    TlsNoCertificate,
    /// The certificate is not signed by a trusted CA.
    #[error(
        "the kubelet's serving certificate is not signed by a trusted CA{}: it is self-signed, or its CA is not in \
         --kubelet-certificate-authority; let the cluster's CA sign it (serverTLSBootstrap), add its CA, or pin its \
         key (--kubelet-tls-pin)",
        in_parentheses(detail)
    )]
    TlsUnknownCa {
        /// The issuer, and why a CA of that name can't be used, as far as known.
        detail: String,
    },
    /// The certificate is for another host.
    #[error(
        "the kubelet's serving certificate contains none of the Node's names or addresses ({presented}); issue it \
         with the Node's name or address"
    )]
    TlsNameMismatch {
        /// The names in the certificate, as a phrase.
        presented: String,
    },
    /// The certificate has expired or is not valid yet.
    #[error("the kubelet's serving certificate {0}")]
    TlsExpired(String),
    /// The key differs from the pinned one.
    #[error(transparent)]
    TlsPinMismatch(PinMismatch),
    /// The TLS handshake failed for another reason.
    #[error("TLS handshake failed: {0}")]
    TlsOther(String),
    /// The kubelet does not accept the credentials of metrics-core.
    #[error(
        "the kubelet returned 401 Unauthorized: it does not accept the credentials of metrics-core; set \
         authentication.webhook.enabled in the kubelet's configuration, or use a client certificate \
         (--kubelet-client-certificate)"
    )]
    Unauthorized,
    /// The kubelet does not authorize metrics-core.
    #[error(
        "the kubelet returned 403 Forbidden{}; grant get on nodes/metrics to the ServiceAccount of metrics-core",
        in_parentheses(response)
    )]
    Forbidden {
        /// An excerpt of the response, which names the user and the missing permission.
        response: Box<str>,
    },
    /// The kubelet does not serve the path.
    #[error("the kubelet returned 404 Not Found: it does not serve {path}")]
    NotFound {
        /// The path.
        path: Box<str>,
    },
    /// The kubelet returned another status than 200.
    #[error("the kubelet returned HTTP status {code}{}", in_parentheses(response))]
    HttpStatus {
        /// The code.
        code: u16,
        /// An excerpt of the response.
        response: Box<str>,
    },
    /// The memory for kubelets' responses is in use.
    #[error(
        "metrics-core had no memory left for the response, which needs {0} bytes, because other nodes' responses and \
         samples hold it (metrics_core_memory_reserved_bytes); raise the memory limit of metrics-core, or find the \
         kubelets with very large responses"
    )]
    NoMemory(usize),
    /// The response exceeds a limit.
    #[error("the response is too large ({0})")]
    BodyTooLarge(&'static str),
    /// The response is not valid HTTP or gzip.
    #[error("the response is invalid: {0}")]
    InvalidBody(&'static str),
    /// The response contains no resource metrics.
    #[error(
        "the response contains no resource metrics{}; check that {path} is the kubelet's resource metrics path",
        body_details(*bad, beginning)
    )]
    NoMetrics {
        /// The path.
        path: Box<str>,
        /// The number of malformed series.
        bad: u32,
        /// The beginning of the body.
        beginning: Box<str>,
    },
    /// The response contains no samples because the kubelet could not collect them.
    #[error(
        "the kubelet could not collect any metrics (resource_scrape_error 1); check the kubelet's log and the container \
         runtime on the node"
    )]
    NotCollected,
    /// A credential or CA file cannot be used.
    #[error("{}: {reason}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The Node was deleted during the scrape.
    #[error("the Node was deleted during the scrape")]
    NodeDeleted,
}

impl Error {
    /// Returns the cause, for metrics, the report and the detection of changes.
    #[must_use]
    pub(crate) const fn cause(&self) -> ScrapeCause {
        match self {
            Self::NoAddress => ScrapeCause::NoAddress,
            Self::Dns { .. } => ScrapeCause::Dns,
            Self::ConnectionRefused { .. } => ScrapeCause::ConnectionRefused,
            Self::Unreachable { .. } => ScrapeCause::Unreachable,
            Self::Timeout { .. } => ScrapeCause::Timeout,
            Self::ConnectionClosed(_) => ScrapeCause::ConnectionClosed,
            Self::SlowResponse { .. } => ScrapeCause::SlowResponse,
            Self::PlainHttp => ScrapeCause::PlainHttp,
            Self::TlsNoCertificate => ScrapeCause::TlsNoCertificate,
            Self::TlsUnknownCa { .. } => ScrapeCause::TlsUnknownCa,
            Self::TlsNameMismatch { .. } => ScrapeCause::TlsNameMismatch,
            Self::TlsExpired(_) => ScrapeCause::TlsExpired,
            Self::TlsPinMismatch(_) => ScrapeCause::TlsPinMismatch,
            Self::TlsOther(_) => ScrapeCause::TlsOther,
            Self::Unauthorized => ScrapeCause::Unauthorized,
            Self::Forbidden { .. } => ScrapeCause::Forbidden,
            Self::NotFound { .. } => ScrapeCause::NotFound,
            Self::HttpStatus { .. } => ScrapeCause::HttpStatus,
            Self::NoMemory(_) => ScrapeCause::NoMemory,
            Self::BodyTooLarge(_) => ScrapeCause::BodyTooLarge,
            Self::InvalidBody(_) | Self::NoMetrics { .. } => ScrapeCause::InvalidBody,
            Self::NotCollected => ScrapeCause::ScrapeError,
            Self::FileUnreadable { .. } => ScrapeCause::FileUnreadable,
            Self::NodeDeleted => ScrapeCause::NodeDeleted,
        }
    }

    /// Returns how far the scrape got. [`ScrapeCause`] is in that order, but all failures to connect to a resolved
    /// address rank the same: a dropped packet shows no more than a refused connection.
    fn progress(&self) -> ScrapeCause {
        match self.cause() {
            ScrapeCause::ConnectionRefused | ScrapeCause::Unreachable | ScrapeCause::Timeout => {
                ScrapeCause::ConnectionRefused
            }
            cause => cause,
        }
    }

    /// Returns whether this error, at the address with index `at`, explains more than `other`: its scrape got
    /// further, or as far at a preferred address.
    pub(super) fn is_more_specific_than(&self, at: usize, other: &Self, other_at: usize) -> bool {
        (self.progress(), std::cmp::Reverse(at)) > (other.progress(), std::cmp::Reverse(other_at))
    }

    /// Returns an excerpt of a kubelet's response, or nothing if it contains our `token`.
    pub(super) fn excerpt(body: &[u8], token: Option<&str>) -> Box<str> {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_EXCERPT_CHARS)]);
        // Part of a token is secret, too.
        let secret = token.is_some_and(|token| text.contains(token.get(..16).unwrap_or(token)));
        if secret { Box::default() } else { excerpt(text.trim(), MAX_EXCERPT_CHARS).into() }
    }

    pub(super) fn from_connect(address: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused { address: address.into() },
            io::ErrorKind::TimedOut => Self::Timeout { address: address.into(), doing: "connecting" },
            _ => Self::Unreachable { address: address.into(), source },
        }
    }

    /// Classifies an error of the TLS stream.
    pub(super) fn from_stream(error: io::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return own,
            Err(error) => error,
        };
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::ConnectionClosed(error);
        };
        Self::from_tls(tls)
    }

    pub(super) fn from_tls(error: &rustls::Error) -> Self {
        use rustls::{AlertDescription, CertificateError as Certificate, Error as Tls, InvalidMessage};
        if let Some(error) = x509::verification_error(error) {
            return Self::from_verification(error);
        }
        match error {
            Tls::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainHttp,
            Tls::AlertReceived(AlertDescription::InternalError) => Self::TlsNoCertificate,
            Tls::InvalidCertificate(certificate) => match certificate {
                Certificate::BadSignature => Self::TlsOther(NO_POSSESSION.into()),
                Certificate::NotValidForNameContext { presented, .. } => {
                    // Bounded, because the certificate is not under our control.
                    let names = || format!("its names are {}", excerpt(&presented.join(", "), 200));
                    let presented = if presented.is_empty() { NO_SANS.into() } else { names() };
                    Self::TlsNameMismatch { presented }
                }
                Certificate::Other(other) if let Some(mismatch) = other.0.downcast_ref::<PinMismatch>() => {
                    Self::TlsPinMismatch(mismatch.clone())
                }
                _ => Self::TlsOther(certificate.to_string()),
            },
            _ => Self::TlsOther(error.to_string()),
        }
    }

    /// Classifies why a serving certificate does not verify.
    fn from_verification(error: &x509::Error) -> Self {
        match error {
            x509::Error::UnknownIssuer { issuer, unusable } => Self::TlsUnknownCa {
                detail: match (unusable, issuer) {
                    (Some((certificate, why)), _) => format!("{certificate} {why}"),
                    (None, Some(issuer)) => format!("issuer: {issuer}"),
                    (None, None) => String::new(),
                },
            },
            x509::Error::Expired { .. } => Self::TlsExpired(format!(
                "{error}; renew it on the node, or set serverTLSBootstrap so that the kubelet renews it"
            )),
            x509::Error::NotYetValid { .. } => Self::TlsExpired(format!("is {error}")),
            _ => Self::TlsOther(error.to_string()),
        }
    }
}

fn in_parentheses(response: &str) -> String {
    if response.is_empty() { String::new() } else { format!(" ({response})") }
}

fn body_details(bad: u32, beginning: &str) -> String {
    match (bad, beginning) {
        (0, "") => " (it is empty)".to_owned(),
        (0, _) => format!(" (it begins with {beginning:?})"),
        _ => format!(" ({bad} malformed series; it begins with {beginning:?})"),
    }
}

#[cfg(test)]
mod tests {
    use crds::cause::ScrapeCause;

    use super::Error;

    #[test]
    fn prefers_the_error_of_the_attempt_that_got_further() {
        let dns = || Error::Dns { host: "a".into(), source: std::io::Error::other("x") };
        let unknown_ca = || Error::TlsUnknownCa { detail: String::new() };
        let refused = || Error::ConnectionRefused { address: "a:1".into() };
        let dropped = || Error::Timeout { address: "a:1".into(), doing: "connecting" };
        assert!(
            unknown_ca().is_more_specific_than(1, &dns(), 0)
                && !dns().is_more_specific_than(0, &unknown_ca(), 1)
        );
        assert!(
            refused().is_more_specific_than(1, &dns(), 0) && dropped().is_more_specific_than(1, &dns(), 0)
        );
        // A kubelet that is down and also has an external address behind a firewall, and vice versa.
        assert!(
            refused().is_more_specific_than(0, &dropped(), 1)
                && !dropped().is_more_specific_than(1, &refused(), 0)
        );
        assert!(
            dropped().is_more_specific_than(0, &refused(), 1)
                && !refused().is_more_specific_than(1, &dropped(), 0)
        );
    }

    #[test]
    fn excerpts_of_responses_are_bounded_and_contain_no_token() {
        let response =
            Error::excerpt(b"Forbidden (user=x, verb=get, resource=nodes)\n", Some("abcdefghijklmnopqrst"));
        assert_eq!(
            Error::Forbidden { response }.to_string(),
            "the kubelet returned 403 Forbidden (Forbidden (user=x, verb=get, resource=nodes)); grant get on \
             nodes/metrics to the ServiceAccount of metrics-core"
        );
        assert_eq!(&*Error::excerpt(b"you sent abcdefghijklmnopqrst", Some("abcdefghijklmnopqrst")), "");
        assert_eq!(Error::excerpt(&[b'x'; 5000], None).chars().count(), super::MAX_EXCERPT_CHARS);
        let error = Error::NoMetrics { path: "/p".into(), bad: 0, beginning: "<html>".into() };
        assert_eq!(error.cause(), ScrapeCause::InvalidBody);
        assert!(error.to_string().contains(r#"begins with "<html>""#), "{error}");
    }
}
