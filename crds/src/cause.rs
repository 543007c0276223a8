//! The vocabulary of causes: failures between two parts of the pipeline, each with a code.
//!
//! Codes are part of the API: they are label values of metrics, and values in [`crate::report::Report`] and in
//! the status. A released code is never renamed. A reader parses a code that it does not know, written by a newer
//! version, as the last variant.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares an enum of causes with codes in `snake_case`.
macro_rules! causes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal),+ $(,)? } otherwise $(#[$other_doc:meta])* $other:ident = $other_code:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $code)] $variant,)+
            $(#[$other_doc])* #[serde(rename = $other_code, other)] $other,
        }

        impl $name {
            /// All causes.
            pub const ALL: &[Self] = &[$(Self::$variant,)+ Self::$other];

            /// Returns the code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ Self::$other => $other_code }
            }

            /// Returns the cause with this code.
            #[must_use]
            pub fn from_code(code: &str) -> Self {
                match code { $($code => Self::$variant,)+ _ => Self::$other }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

causes! {
    /// Why a scrape failed, ordered by how far the scrape proceeded.
    ScrapeCause {
        /// The Node has no address of a configured type.
        NoAddress = "no_address",
        /// The host name does not resolve.
        Dns = "dns",
        /// The port refuses the connection: no process listens on it.
        ConnectionRefused = "connection_refused",
        /// There is no route to the host.
        Unreachable = "unreachable",
        /// The connection timed out: packets are dropped, or the machine is down.
        Timeout = "timeout",
        /// The connection was closed before the response was complete.
        ConnectionClosed = "connection_closed",
        /// The connection was established, but the response did not arrive before the timeout.
        SlowResponse = "slow_response",
        /// The port speaks plain HTTP instead of TLS.
        PlainHttp = "plain_http",
        /// The kubelet has no serving certificate yet: its CertificateSigningRequest is not approved.
        TlsNoCertificate = "tls_no_certificate",
        /// The kubelet's serving certificate is not signed by a trusted CA.
        TlsUnknownCa = "tls_unknown_ca",
        /// The kubelet's serving certificate contains no name or address of the Node.
        TlsNameMismatch = "tls_name_mismatch",
        /// The kubelet's serving certificate has expired or is not valid yet.
        TlsExpired = "tls_expired",
        /// The kubelet presents another key than the pinned one.
        TlsPinMismatch = "tls_pin_mismatch",
        /// The TLS handshake failed for another reason.
        TlsOther = "tls_other",
        /// The kubelet rejects the credentials of metrics-core (401).
        Unauthorized = "unauthorized",
        /// The kubelet denies metrics-core the permission (403).
        Forbidden = "forbidden",
        /// The kubelet does not serve the path (404).
        NotFound = "not_found",
        /// The kubelet returned another HTTP status.
        HttpStatus = "http_status",
        /// The response exceeds the size limit.
        BodyTooLarge = "body_too_large",
        /// The response is not valid HTTP, not valid gzip, or contains no resource metrics.
        InvalidBody = "invalid_body",
        /// The response contains no samples: the kubelet reports that it could not collect them
        /// (`resource_scrape_error 1`).
        ScrapeError = "resource_scrape_error",
        /// metrics-core can't read a file that it needs for the scrape.
        FileUnreadable = "file_unreadable",
        /// The Node was deleted during the scrape.
        NodeDeleted = "node_deleted",
    }
    otherwise
    /// A code that this version does not know.
    Other = "other"
}

causes! {
    /// A problem of the samples in a successful response of a kubelet.
    SampleCause {
        /// The kubelet reports that it could not read all usage (`resource_scrape_error 1`).
        ScrapeError = "resource_scrape_error",
        /// The response contains no containers, although pods run on the node.
        NoContainers = "no_containers",
        /// The CPU or memory usage of containers or of the node is missing or zero.
        ZeroUsage = "zero_usage",
        /// Running pods are missing from the responses of their node.
        PodsMissing = "pods_missing",
        /// The timestamps of samples do not advance.
        TimestampsStalled = "timestamps_stalled",
        /// The node's clock differs from the clock of metrics-core.
        ClockSkew = "clock_skew",
        /// Two Nodes have the same address, port and path.
        DuplicateAddress = "duplicate_address",
        /// CPU usage exceeds what the node can do.
        ImplausibleUsage = "implausible_usage",
        /// A response contains several different series with the same labels.
        DuplicateSeries = "duplicate_series",
    }
    otherwise
    /// A code that this version does not know.
    Other = "other"
}

causes! {
    /// Why metrics-core rejected a credential.
    CredentialCause {
        /// The certificate is not signed by a known CA.
        UnknownCa = "unknown_ca",
        /// The certificate is malformed, or its chain is invalid.
        BadCertificate = "bad_certificate",
        /// The certificate is not for client authentication (extended key usage).
        NotForClients = "not_for_clients",
        /// The certificate is not valid yet.
        NotYetValid = "not_yet_valid",
        /// The certificate has expired.
        Expired = "expired",
        /// The certificate's common name is not an allowed name of the front proxy.
        CnNotAllowed = "cn_not_allowed",
        /// The certificate is a front proxy's, but no configured header contains a user name.
        NoUsername = "no_username",
        /// kube-apiserver rejected the token.
        TokenRejected = "token_rejected",
        /// The TokenReview request failed.
        TokenReviewFailed = "token_review_failed",
    }
    otherwise
    /// A code that this version does not know.
    Other = "other"
}

causes! {
    /// Why a TLS handshake with a client of metrics-core failed.
    HandshakeCause {
        /// The client closed the connection without sending data, as TCP probes and kube-apiserver's availability
        /// checks do.
        Closed = "closed",
        /// The client closed the connection during the handshake.
        ClosedMidway = "closed_midway",
        /// The client did not complete the handshake before the timeout.
        Timeout = "timeout",
        /// The client spoke plain HTTP instead of TLS.
        PlainHttp = "plain_http",
        /// The client spoke a protocol other than TLS or HTTP.
        NotTls = "not_tls",
        /// The client sent a TLS alert, usually because it does not accept the serving certificate.
        Alert = "alert",
        /// Client and server share no TLS version, cipher suite or key exchange group.
        Incompatible = "incompatible",
        /// The client could not prove possession of the key of its certificate.
        ClientCertificate = "client_certificate",
    }
    otherwise
    /// Another failure, or a code that this version does not know.
    Other = "other"
}
