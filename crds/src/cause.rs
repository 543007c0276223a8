//! The vocabulary of causes: what may be wrong between two parts of the pipeline, each with a code.
//!
//! Codes are part of the API: they are label values of metrics, values in [`crate::report::Report`] and in
//! status, so a code is never renamed. A reader that is older than the writer takes a code that it does not
//! know as the last variant.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares an enum of causes with codes in `snake_case`.
macro_rules! causes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal),+ $(,)? } otherwise $(#[$other_doc:meta])* $other:ident = $other_code:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $code)] $variant,)+
            $(#[$other_doc])* #[serde(rename = $other_code, other)] $other,
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+ Self::$other];

            /// The code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ Self::$other => $other_code }
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
    /// Why a kubelet gave no samples, in the order of how far the scrape came.
    ScrapeCause {
        /// The Node has no address of a configured type.
        NoAddress = "no_address",
        /// The name does not resolve.
        Dns = "dns",
        /// Nothing listens there.
        ConnectionRefused = "connection_refused",
        /// There is no route.
        Unreachable = "unreachable",
        /// No connection came about in time: the packets are dropped on their way, or the machine is down.
        Timeout = "timeout",
        /// The connection broke.
        ConnectionClosed = "connection_closed",
        /// The connection stands, and no answer came in time.
        SlowResponse = "slow_response",
        /// The port speaks HTTP without TLS.
        PlainHttp = "plain_http",
        /// Nobody who is trusted signed the kubelet's certificate.
        TlsUnknownCa = "tls_unknown_ca",
        /// The kubelet's certificate bears none of the Node's names and addresses.
        TlsNameMismatch = "tls_name_mismatch",
        /// The kubelet's certificate is past its time, or its time has not come.
        TlsExpired = "tls_expired",
        /// The kubelet shows another key than the one that was pinned.
        TlsPinMismatch = "tls_pin_mismatch",
        /// The handshake failed for another reason.
        TlsOther = "tls_other",
        /// The kubelet does not accept our credentials (401).
        Unauthorized = "unauthorized",
        /// The kubelet does not let us (403).
        Forbidden = "forbidden",
        /// The kubelet has no such path (404).
        NotFound = "not_found",
        /// Another HTTP status.
        HttpStatus = "http_status",
        /// The answer is beyond the limits.
        BodyTooLarge = "body_too_large",
        /// The answer is no HTTP, no gzip, or has no resource metrics in it.
        InvalidBody = "invalid_body",
        /// A file of metrics-core can't be used.
        FileUnreadable = "file_unreadable",
        /// The node went while it was asked.
        NodeDeleted = "node_deleted",
    }
    otherwise
    /// One that this reader does not know.
    Other = "other"
}

causes! {
    /// Why metrics-core refused a credential.
    CredentialCause {
        /// No known CA signed the certificate.
        UnknownCa = "unknown_ca",
        /// The certificate is malformed or breaks a rule of its chain.
        BadCertificate = "bad_certificate",
        /// The certificate is not for clients (extended key usage).
        NotForClients = "not_for_clients",
        /// The certificate's time has not come.
        NotYetValid = "not_yet_valid",
        /// The certificate is past its time.
        Expired = "expired",
        /// The certificate's common name is not among the front proxy's.
        CnNotAllowed = "cn_not_allowed",
        /// The certificate is a front proxy's, but no header that is read named a user.
        NoUsername = "no_username",
        /// The API server does not know the token.
        TokenRejected = "token_rejected",
        /// The API server could not be asked about the token.
        TokenReviewFailed = "token_review_failed",
    }
    otherwise
    /// One that this reader does not know.
    Other = "other"
}

causes! {
    /// Why a client's connection to metrics-core came to no TLS.
    HandshakeCause {
        /// The client closed the connection without a word. kube-apiserver's availability checks and TCP probes do.
        Closed = "closed",
        /// The client went away during the handshake.
        ClosedMidway = "closed_midway",
        /// The client did not complete the handshake in time.
        Timeout = "timeout",
        /// The client spoke HTTP without TLS.
        PlainHttp = "plain_http",
        /// The client spoke something else than TLS.
        NotTls = "not_tls",
        /// The client refused metrics-core: mostly its certificate.
        Alert = "alert",
        /// There is no TLS version, cipher suite or group in common.
        Incompatible = "incompatible",
        /// The client could not prove that it holds the key of the certificate it showed.
        ClientCertificate = "client_certificate",
    }
    otherwise
    /// Another one, or one that this reader does not know.
    Other = "other"
}
