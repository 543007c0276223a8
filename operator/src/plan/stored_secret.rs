//! Reads the certificates of a stored Secret.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::common::ManagedObject;
use crate::common::ownership::is_ours;
use crate::observe::Observed;

/// The data of a managed Secret. It is empty when the Secret does not exist or is foreign.
pub(super) struct StoredSecret(BTreeMap<String, ByteString>);

impl StoredSecret {
    pub(super) fn read(observed: &Observed, object: ManagedObject) -> Self {
        let is_managed = observed.object(object).is_some_and(is_ours);
        let secret = is_managed.then(|| observed.typed::<Secret>(object)).flatten();
        Self(secret.and_then(|secret| secret.data).unwrap_or_default())
    }

    /// Removes and returns the value of a key.
    pub(super) fn take(&mut self, key: &str) -> Option<Vec<u8>> {
        self.0.remove(key).map(|bytes| bytes.0)
    }

    /// Removes and returns a certificate and its key; `None` when either is missing.
    pub(super) fn take_pair(&mut self, certificate: &str, key: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        self.take(certificate).zip(self.take(key))
    }
}
