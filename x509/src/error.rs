//! Why a certificate is not accepted.

use crate::time::rfc3339;

/// The maximum length of a name from a certificate in a message.
const MAX_NAME: usize = 120;

/// A part of a certificate that is not as X.509 requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub(crate) &'static str);

/// Why a certificate is not accepted. The message is a clause about the certificate, and names other certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The certificate, or one that was presented with it, can't be parsed.
    #[error("certificate {number} of the chain has a {cause}; reissue it")]
    Malformed {
        /// Its position, from 1.
        number: usize,
        /// The part.
        cause: Malformed,
    },
    /// The chain is empty.
    #[error("no certificate was presented")]
    NoCertificate,
    /// No chain of signatures leads to a certificate of the CA bundle.
    #[error(
        "signed by an unknown authority ({}){}",
        issuer.as_deref().unwrap_or("it is self-signed"),
        unusable.as_ref().map(|(name, why)| format!(": {name} {why}")).unwrap_or_default()
    )]
    UnknownIssuer {
        /// The issuer of the certificate; `None` if it is self-signed.
        issuer: Option<String>,
        /// A certificate with the issuer's name that can't be its issuer, and the reason.
        unusable: Option<(String, Unusable)>,
    },
    /// The validity has ended.
    #[error("expired at {}", rfc3339(*not_after))]
    Expired {
        /// The end in seconds since the Unix epoch.
        not_after: i64,
    },
    /// The validity has not begun.
    #[error("not valid before {}; check the clocks of both machines", rfc3339(*not_before))]
    NotYetValid {
        /// The start in seconds since the Unix epoch.
        not_before: i64,
    },
    /// It has a critical extension that is not known.
    #[error("critical extension {0} is not supported; reissue the certificate without it")]
    UnknownCriticalExtension(String),
    /// The extended key usage of a certificate of the chain excludes the purpose.
    #[error("the extended key usage of {certificate} does not include {purpose}; reissue it with that usage")]
    WrongUsage {
        /// The certificate.
        certificate: String,
        /// The missing usage.
        purpose: &'static str,
    },
    /// A CA of the chain may not sign a name of the certificate.
    #[error("the name constraints of {ca} do not permit {name}")]
    NameNotPermitted {
        /// The CA.
        ca: String,
        /// The name.
        name: String,
    },
    /// A certificate of the chain demands certificate policies.
    #[error("{certificate} requires certificate policies, which are not supported")]
    PoliciesNotSupported {
        /// The certificate.
        certificate: String,
    },
    /// Too many certificates have the names of issuers.
    #[error(
        "no chain found among the first {} certificates that could be issuers; send only the certificates of the chain",
        crate::path::MAX_ISSUERS
    )]
    TooManyIssuers,
    /// Too many names would have to be compared with name constraints.
    #[error("{ca} has too many name constraints for the number of names in the chain")]
    TooManyNames {
        /// The CA.
        ca: String,
    },
}

/// Why a certificate with the right name can't be the issuer. The message continues the certificate's name.
///
/// The order is that of importance: of several, the greatest is reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unusable {
    /// Another key made the signature.
    #[error("has the issuer's name, but another key")]
    OtherKey,
    /// The signature can't be verified.
    #[error(
        "made a signature with an unsupported algorithm or key (SHA-1, or RSA below 2048 bits); reissue the certificate"
    )]
    UnsupportedAlgorithm,
    /// A chain through it does not reach the CA bundle.
    #[error("is not signed by a CA of the bundle")]
    NotTrusted,
    /// It has a critical extension that is not known.
    #[error("has critical extension {0}, which is not supported")]
    UnknownCriticalExtension(String),
    /// The validity has not begun.
    #[error("is not valid before {}", rfc3339(*.0))]
    NotYetValid(i64),
    /// The validity has ended.
    #[error("expired at {}; replace it", rfc3339(*.0))]
    Expired(i64),
    /// Its basic constraints allow fewer intermediates.
    #[error("allows at most {0} intermediate CAs below it (pathlen)")]
    PathTooLong(u32),
    /// Its key usage does not include signing certificates.
    #[error("must not sign certificates (its key usage lacks keyCertSign); reissue it as a CA")]
    MayNotSign,
    /// It is not a CA.
    #[error(
        "is not a CA (no basicConstraints CA:TRUE), so it is trusted as itself only; add the CA that issued it"
    )]
    NotACa,
}

/// Returns a text from a certificate for a message: printable and of limited length.
pub(crate) fn printable(text: &str) -> String {
    let mut printable: String =
        text.chars().filter(|character| !character.is_control()).take(MAX_NAME + 1).collect();
    if let Some((end, _)) = printable.char_indices().nth(MAX_NAME) {
        printable.truncate(end);
        printable.push('…');
    }
    printable
}
