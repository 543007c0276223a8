//! PEM into what rustls takes.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Result};
use crate::testbed::pki::Identity;

pub(super) fn invalid(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("TLS: {error}"))
}

pub(super) fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<std::result::Result<_, _>>().map_err(invalid)
}

pub(super) fn key(pem: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(invalid)
}

/// A client that trusts `authority` and shows `identity`.
pub(super) fn client(authority: &str, identity: &Identity) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(authority)?);
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(&identity.certificate)?, key(&identity.key)?);
    config.map(Arc::new).map_err(invalid)
}
