//! X.509 path validation with the rules of Go's crypto/x509.
//!
//! All programs of Kubernetes verify certificates with Go. A certificate that works with kube-apiserver must work here, and
//! one that kube-apiserver refuses must be refused here. Libraries for public web sites are stricter where private PKIs
//! are not (version 1, CA certificates as end entities, times before 1970), and do not check some properties of trust
//! anchors (CA flag, key usage, path length). `docs/interop.md` compares both, and its test runs both.
//!
//! - [`CaBundle`] verifies chains. [`Certificate`] is a parsed certificate.
//! - [`ServerVerifier`] verifies the servers of rustls clients.
//! - [`verify_tls12_handshake`] and [`verify_tls13_handshake`] verify possession of a certificate's key.
//!
//! The cryptography is that of webpki and aws-lc-rs.

mod bundle;
mod certificate;
mod constraints;
mod der;
mod error;
mod extensions;
mod host;
mod key;
mod key_pair;
mod name;
mod path;
mod server;
mod signature;
mod time;
mod uri;

pub use bundle::{CaBundle, InvalidCertificate};
pub use certificate::{Certificate, public_key};
pub(crate) use error::printable;
pub use error::{Error, Malformed, Unusable};
pub use key_pair::{KeyMismatch, certified_key};
pub use name::DistinguishedName;
pub use path::Purpose;
pub use server::{ServerVerifier, verification_error};
pub use signature::{verify_tls12_handshake, verify_tls13_handshake};
