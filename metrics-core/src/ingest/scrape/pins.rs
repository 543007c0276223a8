//! Kubelets that no CA vouches for, told again by their public key.
//!
//! The key is pinned at first sight, per Node UID, and a change is refused. What is pinned is the key and not the
//! certificate, so one that was renewed with its key, or has expired (a kubelet never replaces the certificate it
//! made for itself), goes on. Pins live as long as the process and the Node.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::digest::sha256_hex;

/// What is known of the kubelets. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pins(Arc<Mutex<HashMap<Box<str>, Known>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// A CA vouched for it: nothing less will do from then on.
    Vouched,
    /// The SHA-256 of its public key (SubjectPublicKeyInfo, DER).
    Key(Box<str>),
}

/// A kubelet that is not the one that was seen first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mismatch {
    /// The pinned key; nothing when a CA vouched for the kubelet before.
    pub pinned: Option<Box<str>>,
    /// The key it shows.
    pub shown: Box<str>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pinned {
            Some(pinned) => write!(
                f,
                "the kubelet shows another key than at first sight (pinned sha256:{pinned}, now sha256:{})",
                self.shown
            )?,
            None => write!(
                f,
                "no CA vouches for the kubelet's certificate (key sha256:{}), and one did before",
                self.shown
            )?,
        }
        f.write_str(
            "; somebody may pose as it. If its key was replaced on purpose, restart metrics-core, which forgets \
             all pins, or delete the Node object and restart the kubelet; to be rid of pins, let the cluster's CA \
             sign kubelets' certificates (serverTLSBootstrap)",
        )
    }
}

impl Pins {
    /// Whether the kubelet of this Node may show `certificate`, for which a CA vouches or not.
    pub(super) fn check(
        &self,
        uid: &str,
        certificate: &CertificateDer<'_>,
        vouched: bool,
    ) -> Result<(), Mismatch> {
        if vouched {
            return Ok(());
        }
        let pinned = match self.0.lock().get(uid) {
            None => return Ok(()),
            Some(Known::Vouched) => None,
            Some(Known::Key(key)) => Some(key.clone()),
        };
        let shown = fingerprint(certificate);
        if pinned.as_ref() == Some(&shown) { Ok(()) } else { Err(Mismatch { pinned, shown }) }
    }

    /// Remembers how the kubelet of this Node showed itself, in a handshake in which it proved to hold the key.
    pub(super) fn remember(
        &self,
        uid: &str,
        certificate: &CertificateDer<'_>,
        vouched: bool,
    ) -> Result<(), Mismatch> {
        self.check(uid, certificate, vouched)?;
        let known = if vouched { Known::Vouched } else { Known::Key(fingerprint(certificate)) };
        self.0.lock().insert(uid.into(), known);
        Ok(())
    }

    /// The Node is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// How many kubelets are told by a pinned key.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().values().filter(|known| **known != Known::Vouched).count()
    }
}

/// The SHA-256 of the certificate's public key, as `openssl x509 -pubkey | openssl pkey -pubin -outform DER` gives
/// it to `sha256sum`; of the whole certificate if that can't be read.
fn fingerprint(certificate: &CertificateDer<'_>) -> Box<str> {
    let parsed = X509Certificate::from_der(certificate);
    let key =
        parsed.as_ref().map_or(certificate.as_ref(), |(_, parsed)| parsed.tbs_certificate.subject_pki.raw);
    sha256_hex(key).into()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::CertificateDer;

    use super::{Mismatch, Pins};

    fn certificate(key: &KeyPair, name: &str) -> CertificateDer<'static> {
        CertificateParams::new([name.to_owned()]).unwrap().self_signed(key).unwrap().der().clone()
    }

    #[test]
    fn the_first_key_counts_for_as_long_as_the_node_is_there() {
        let (pins, old, new) = (Pins::default(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (first, renewed, other) =
            (certificate(&old, "a"), certificate(&old, "b"), certificate(&new, "a"));
        assert!(pins.check("1", &other, false).is_ok(), "nothing is pinned by a look");
        pins.remember("1", &first, false).unwrap();
        assert!(pins.remember("1", &renewed, false).is_ok(), "the same key in another certificate");
        let Mismatch { pinned, shown } = pins.remember("1", &other, false).unwrap_err();
        assert!(pinned.is_some_and(|pinned| pinned != shown && shown.len() == 64));
        assert!(pins.check("2", &other, false).is_ok(), "another Node is another matter");
        assert_eq!(pins.count(), 1);
        pins.forget("1");
        assert!(pins.remember("1", &other, false).is_ok());
    }

    #[test]
    fn what_a_ca_vouched_for_is_never_taken_on_sight_again() {
        let (pins, key) = (Pins::default(), KeyPair::generate().unwrap());
        let first = certificate(&key, "a");
        pins.remember("1", &first, false).unwrap();
        pins.remember("1", &certificate(&KeyPair::generate().unwrap(), "a"), true).unwrap();
        assert_eq!(pins.count(), 0);
        let error = pins.check("1", &first, false).unwrap_err();
        assert!(error.pinned.is_none() && error.to_string().contains("one did before"), "{error}");
    }
}
