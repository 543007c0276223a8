//! Why a scrape failed.

use std::io;
use std::path::PathBuf;

use crds::cause::ScrapeCause;
use rustls::pki_types::UnixTime;

use super::pins::Mismatch;
use crate::telemetry::excerpt;

/// What is said of a certificate that is for no server.
const NO_NAMES: &str = "it has no subject alternative names at all";
/// How much of a kubelet's own words is told.
const WORDS: usize = 160;

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
    /// No connection came about in time.
    #[error(
        "{address} does not answer ({doing} timed out); a firewall or NetworkPolicy drops the packets, or \
         the machine is down"
    )]
    Timeout {
        /// Where.
        address: Box<str>,
        /// At what.
        doing: &'static str,
    },
    /// The connection stands, and no answer came in time.
    #[error(
        "the kubelet took the connection and gave no answer in time ({doing}); it may be overloaded: see \
         its log, or raise --kubelet-request-timeout"
    )]
    SlowResponse {
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
        "the kubelet's certificate is signed by itself or by an authority that is not in \
         --kubelet-certificate-authority; let the cluster's CA sign it (serverTLSBootstrap), add its CA, or pin \
         its key (--kubelet-tls-pin)"
    )]
    TlsUnknownCa,
    /// The certificate names another host.
    #[error(
        "the kubelet's certificate bears none of the Node's names or addresses ({presented}); \
         it must be issued with the Node's name or address"
    )]
    TlsNameMismatch {
        /// Which it bears instead, in words.
        presented: String,
    },
    /// The certificate is outside its time of validity.
    #[error("the kubelet's certificate {0}")]
    TlsExpired(String),
    /// The kubelet shows another key than the one that was pinned.
    #[error(transparent)]
    TlsPinMismatch(Mismatch),
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
    #[error("the kubelet answers 403{}; grant our service account get on nodes/metrics", words(said))]
    Forbidden {
        /// The kubelet's words: they name the user and the right.
        said: Box<str>,
    },
    /// The kubelet has no such path.
    #[error("the kubelet answers 404: it does not serve {path}")]
    NotFound {
        /// The path.
        path: Box<str>,
    },
    /// The kubelet answers something else than 200.
    #[error("the kubelet answers HTTP status {code}{}", words(said))]
    HttpStatus {
        /// The code.
        code: u16,
        /// The kubelet's words.
        said: Box<str>,
    },
    /// The answer is beyond the limits.
    #[error("the answer is too large ({0})")]
    BodyTooLarge(&'static str),
    /// The answer is no HTTP, no gzip, or has no resource metrics in it.
    #[error("the answer makes no sense: {0}")]
    InvalidBody(&'static str),
    /// The answer is readable, and there are no resource metrics in it.
    #[error("the answer has no resource metrics in it{}; is {path} the kubelet's path?", told(*bad, began))]
    NoMetrics {
        /// The path.
        path: Box<str>,
        /// How many series of interest are malformed.
        bad: u32,
        /// How it begins.
        began: Box<str>,
    },
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
    /// The cause, for metrics and the report, and to tell whether it changed.
    #[must_use]
    pub const fn cause(&self) -> ScrapeCause {
        match self {
            Self::NoAddress => ScrapeCause::NoAddress,
            Self::Dns { .. } => ScrapeCause::Dns,
            Self::Refused { .. } => ScrapeCause::ConnectionRefused,
            Self::Unreachable { .. } => ScrapeCause::Unreachable,
            Self::Timeout { .. } => ScrapeCause::Timeout,
            Self::Broken(_) => ScrapeCause::ConnectionClosed,
            Self::SlowResponse { .. } => ScrapeCause::SlowResponse,
            Self::PlainHttp => ScrapeCause::PlainHttp,
            Self::TlsUnknownCa => ScrapeCause::TlsUnknownCa,
            Self::TlsNameMismatch { .. } => ScrapeCause::TlsNameMismatch,
            Self::TlsExpired(_) => ScrapeCause::TlsExpired,
            Self::TlsPinMismatch(_) => ScrapeCause::TlsPinMismatch,
            Self::TlsOther(_) => ScrapeCause::TlsOther,
            Self::Unauthorized => ScrapeCause::Unauthorized,
            Self::Forbidden { .. } => ScrapeCause::Forbidden,
            Self::NotFound { .. } => ScrapeCause::NotFound,
            Self::HttpStatus { .. } => ScrapeCause::HttpStatus,
            Self::BodyTooLarge(_) => ScrapeCause::BodyTooLarge,
            Self::InvalidBody(_) | Self::NoMetrics { .. } => ScrapeCause::InvalidBody,
            Self::File { .. } => ScrapeCause::FileUnreadable,
            Self::Gone => ScrapeCause::NodeDeleted,
        }
    }

    /// How far it came. Causes are in that order, but none of those without a connection came further than
    /// another, as long as the name resolved: where packets are dropped is no better known than where nothing
    /// listens.
    fn came(&self) -> ScrapeCause {
        match self.cause() {
            ScrapeCause::ConnectionRefused | ScrapeCause::Unreachable | ScrapeCause::Timeout => {
                ScrapeCause::ConnectionRefused
            }
            cause => cause,
        }
    }

    /// Whether this failure, at the address with the number `at`, says more than `other`: it came further, or as
    /// far at an address that is preferred.
    pub(super) fn says_more(&self, at: usize, other: &Self, other_at: usize) -> bool {
        (self.came(), std::cmp::Reverse(at)) > (other.came(), std::cmp::Reverse(other_at))
    }

    /// A kubelet's words. Whatever it says, our `token` is not repeated.
    pub(super) fn said(body: &[u8], token: Option<&str>) -> Box<str> {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * WORDS)]);
        // A token that was cut off is one, too.
        let secret = token.is_some_and(|token| text.contains(token.get(..16).unwrap_or(token)));
        if secret { Box::default() } else { excerpt(text.trim(), WORDS).into() }
    }

    pub(super) fn of_connect(address: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { address: address.into() },
            io::ErrorKind::TimedOut => Self::Timeout { address: address.into(), doing: "connecting" },
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

    pub(super) fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError as Certificate, Error as Tls, InvalidMessage};
        match error {
            Tls::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainHttp,
            Tls::InvalidCertificate(certificate) => match certificate {
                Certificate::UnknownIssuer | Certificate::BadSignature => Self::TlsUnknownCa,
                Certificate::NotValidForName => Self::TlsNameMismatch { presented: NO_NAMES.into() },
                Certificate::NotValidForNameContext { presented, .. } => {
                    // Bounded: the certificate is someone else's.
                    let bears = || format!("it bears {}", excerpt(&presented.join(", "), 200));
                    let presented = if presented.is_empty() { NO_NAMES.into() } else { bears() };
                    Self::TlsNameMismatch { presented }
                }
                Certificate::Other(other) if let Some(mismatch) = other.0.downcast_ref::<Mismatch>() => {
                    Self::TlsPinMismatch(mismatch.clone())
                }
                Certificate::Expired | Certificate::ExpiredContext { .. } => {
                    let at = match certificate {
                        Certificate::ExpiredContext { not_after, .. } => moment(" at ", *not_after),
                        _ => String::new(),
                    };
                    Self::TlsExpired(format!(
                        "expired{at}; renew it on the node, or have it renewed (serverTLSBootstrap)"
                    ))
                }
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                    let until = match certificate {
                        Certificate::NotValidYetContext { not_before, .. } => moment(" before ", *not_before),
                        _ => " yet".to_owned(),
                    };
                    Self::TlsExpired(format!("is not valid{until}; are the clocks of both machines right?"))
                }
                _ => Self::TlsOther(certificate.to_string()),
            },
            _ => Self::TlsOther(error.to_string()),
        }
    }
}

fn moment(before: &str, time: UnixTime) -> String {
    let second = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(second).map_or_else(|_| String::new(), |time| format!("{before}{time}"))
}

fn words(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

fn told(bad: u32, began: &str) -> String {
    match (bad, began) {
        (0, "") => " (it is empty)".to_owned(),
        (0, _) => format!(" (it begins with {began:?})"),
        _ => format!(" ({bad} series are malformed; it begins with {began:?})"),
    }
}

#[cfg(test)]
mod tests {
    use crds::cause::ScrapeCause;

    use super::Error;

    #[test]
    fn the_failure_that_came_further_is_told() {
        let dns = || Error::Dns { host: "a".into(), source: std::io::Error::other("x") };
        let refused = || Error::Refused { address: "a:1".into() };
        let dropped = || Error::Timeout { address: "a:1".into(), doing: "connecting" };
        assert!(Error::TlsUnknownCa.says_more(1, &dns(), 0) && !dns().says_more(0, &Error::TlsUnknownCa, 1));
        assert!(refused().says_more(1, &dns(), 0) && dropped().says_more(1, &dns(), 0));
        // A kubelet that is down behind an external address that a firewall guards, and the other way round.
        assert!(refused().says_more(0, &dropped(), 1) && !dropped().says_more(1, &refused(), 0));
        assert!(dropped().says_more(0, &refused(), 1) && !refused().says_more(1, &dropped(), 0));
    }

    #[test]
    fn a_kubelets_words_are_bounded_and_hold_no_token() {
        let said =
            Error::said(b"Forbidden (user=x, verb=get, resource=nodes)\n", Some("abcdefghijklmnopqrst"));
        assert_eq!(
            Error::Forbidden { said }.to_string(),
            "the kubelet answers 403 (Forbidden (user=x, verb=get, resource=nodes)); grant our service account \
             get on nodes/metrics"
        );
        assert_eq!(&*Error::said(b"you sent abcdefghijklmnopqrst", Some("abcdefghijklmnopqrst")), "");
        assert_eq!(Error::said(&[b'x'; 5000], None).chars().count(), super::WORDS);
        let error = Error::NoMetrics { path: "/p".into(), bad: 0, began: "<html>".into() };
        assert_eq!(error.cause(), ScrapeCause::InvalidBody);
        assert!(error.to_string().contains(r#"begins with "<html>""#), "{error}");
    }
}
