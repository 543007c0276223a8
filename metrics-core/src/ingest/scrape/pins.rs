//! Pins the public keys of kubelets whose certificates are not signed by a trusted CA.
//!
//! Trust on first use (TOFU): the key is pinned when it is first seen, per Node UID, and another key is rejected.
//! Pinning the key rather than the certificate means that a certificate that was renewed with the same key, or that
//! has expired (a kubelet never renews its self-signed certificate), is still accepted. A pin lasts until the
//! process ends or the Node is deleted.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

use crate::digest::sha256_hex;

/// The pinned keys. Clones share their content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins(Arc<Mutex<HashMap<Box<str>, KnownKubelet>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum KnownKubelet {
    /// A trusted CA signed its certificate. Only CA-signed certificates are accepted from then on.
    CaSigned,
    /// The SHA-256 of its pinned public key (SubjectPublicKeyInfo, DER).
    Key(Box<str>),
}

/// A kubelet whose key is not the pinned one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct PinMismatch {
    /// The pinned key; `None` if the kubelet's certificate was signed by a trusted CA before.
    pub(crate) pinned: Option<Box<str>>,
    /// The key that the kubelet presented.
    pub(crate) presented: Box<str>,
}

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pinned {
            Some(pinned) => write!(
                f,
                "the kubelet's key differs from the pinned key (pinned sha256:{pinned}, presented sha256:{})",
                self.presented
            )?,
            None => write!(
                f,
                "the kubelet's serving certificate is not signed by a trusted CA (key sha256:{}), although an earlier \
                 certificate was",
                self.presented
            )?,
        }
        f.write_str(
            "; another host may impersonate the kubelet. If its key was replaced on purpose, restart metrics-core, which \
             clears all pins, or delete the Node object and restart the kubelet. To avoid pinning, let the cluster's \
             CA sign the kubelets' serving certificates (serverTLSBootstrap)",
        )
    }
}

impl Pins {
    /// Checks whether the kubelet of this Node may present `certificate`; `ca_signed` means that a trusted CA
    /// signed it.
    pub(super) fn check(
        &self,
        uid: &str,
        certificate: &CertificateDer<'_>,
        ca_signed: bool,
    ) -> Result<(), PinMismatch> {
        if ca_signed {
            return Ok(());
        }
        let pinned = match self.0.lock().get(uid) {
            None => return Ok(()),
            Some(KnownKubelet::CaSigned) => None,
            Some(KnownKubelet::Key(key)) => Some(key.clone()),
        };
        let presented = key_fingerprint(certificate);
        if pinned.as_ref() == Some(&presented) { Ok(()) } else { Err(PinMismatch { pinned, presented }) }
    }

    /// Records that the certificate is CA-signed, or pins its key. Call it after a handshake, in which the kubelet
    /// proved possession of the key.
    pub(super) fn remember(
        &self,
        uid: &str,
        certificate: &CertificateDer<'_>,
        ca_signed: bool,
    ) -> Result<(), PinMismatch> {
        self.check(uid, certificate, ca_signed)?;
        let known =
            if ca_signed { KnownKubelet::CaSigned } else { KnownKubelet::Key(key_fingerprint(certificate)) };
        self.0.lock().insert(uid.into(), known);
        Ok(())
    }

    /// Removes the pin of a deleted Node.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// Returns the number of kubelets that are identified by a pinned key.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.0.lock().values().filter(|known| **known != KnownKubelet::CaSigned).count()
    }
}

/// Returns the SHA-256 of the certificate's public key, as `openssl x509 -pubkey | openssl pkey -pubin -outform DER
/// | sha256sum` prints it; of the whole certificate if it cannot be parsed.
fn key_fingerprint(certificate: &CertificateDer<'_>) -> Box<str> {
    match x509::public_key(certificate) {
        Ok(key) => sha256_hex(&key).into(),
        Err(_) => sha256_hex(certificate).into(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::CertificateDer;

    use super::{PinMismatch, Pins};

    fn certificate(key: &KeyPair, name: &str) -> CertificateDer<'static> {
        CertificateParams::new([name.to_owned()]).unwrap().self_signed(key).unwrap().der().clone()
    }

    #[test]
    fn pins_the_first_key_until_the_node_is_deleted() {
        let (pins, old, new) = (Pins::default(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (first, renewed, other) =
            (certificate(&old, "a"), certificate(&old, "b"), certificate(&new, "a"));
        assert!(pins.check("1", &other, false).is_ok(), "a check pins nothing");
        pins.remember("1", &first, false).unwrap();
        assert!(pins.remember("1", &renewed, false).is_ok(), "the same key in another certificate");
        let PinMismatch { pinned, presented } = pins.remember("1", &other, false).unwrap_err();
        assert!(pinned.is_some_and(|pinned| pinned != presented && presented.len() == 64));
        assert!(pins.check("2", &other, false).is_ok(), "another Node is another matter");
        assert_eq!(pins.count(), 1);
        pins.forget("1");
        assert!(pins.remember("1", &other, false).is_ok());
    }

    #[test]
    fn a_ca_signed_kubelet_is_never_pinned_again() {
        let (pins, key) = (Pins::default(), KeyPair::generate().unwrap());
        let first = certificate(&key, "a");
        pins.remember("1", &first, false).unwrap();
        pins.remember("1", &certificate(&KeyPair::generate().unwrap(), "a"), true).unwrap();
        assert_eq!(pins.count(), 0);
        let error = pins.check("1", &first, false).unwrap_err();
        assert!(
            error.pinned.is_none() && error.to_string().contains("although an earlier certificate was"),
            "{error}"
        );
    }
}
