//! The cluster's certificate authorities, and the certificates that they sign.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::error::{Doing as _, Error, Result};

/// A certificate and its private key, both as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

/// A certificate authority with its private key.
#[derive(Clone)]
pub struct Authority {
    identity: Identity,
}

/// The contents of a certificate.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The common name: the name of a user.
    pub common_name: String,
    /// The organization: the group of a user.
    pub organization: Option<String>,
    /// DNS names of a server.
    pub names: Vec<String>,
    /// IP addresses of a server.
    pub addresses: Vec<IpAddr>,
    /// Whether the certificate authenticates a server; otherwise it authenticates a client.
    pub server: bool,
    /// Whether the certificate has expired.
    pub expired: bool,
}

impl Subject {
    /// Returns a user, optionally in a group.
    #[must_use]
    pub fn user(name: &str, group: Option<&str>) -> Self {
        Self { common_name: name.to_owned(), organization: group.map(str::to_owned), ..Self::default() }
    }

    /// Returns a server with these names and addresses.
    #[must_use]
    pub fn server(common_name: &str, names: &[&str], addresses: &[IpAddr]) -> Self {
        Self {
            common_name: common_name.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.to_owned(),
            server: true,
            ..Self::default()
        }
    }
}

impl Identity {
    /// Reads `name.crt` and `name.key`; `None` if either is missing.
    #[must_use]
    pub fn load(directory: &Path, name: &str) -> Option<Self> {
        let read = |kind: &str| fs::read_to_string(directory.join(format!("{name}.{kind}"))).ok();
        Some(Self { certificate: read("crt")?, key: read("key")? })
    }

    /// Writes `name.key` and `name.crt`.
    pub fn save(&self, directory: &Path, name: &str) -> Result<()> {
        write_private(&directory.join(format!("{name}.key")), &self.key)?;
        write_private(&directory.join(format!("{name}.crt")), &self.certificate)
    }
}

impl Authority {
    /// Creates a self-signed authority.
    pub fn create(common_name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 1, 1));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { identity: Identity { certificate, key: key.serialize_pem() } })
    }

    /// Reads the authority `name` from `directory`, or creates it there.
    pub fn keep(directory: &Path, name: &str, common_name: &str) -> Result<Self> {
        if let Some(identity) = Identity::load(directory, name) {
            return Ok(Self { identity });
        }
        let authority = Self::create(common_name)?;
        authority.identity.save(directory, name)?;
        Ok(authority)
    }

    /// Returns the authority's own certificate as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.identity.certificate
    }

    /// Returns the authority's certificate and key, for another program that signs with them.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Signs a certificate for a new key.
    pub fn issue(&self, subject: &Subject) -> Result<Identity> {
        let issuer =
            Issuer::from_ca_cert_pem(&self.identity.certificate, KeyPair::from_pem(&self.identity.key)?)?;
        let key = KeyPair::generate()?;
        let certificate = params(subject)?.signed_by(&key, &issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// Signs a certificate (PEM) for an existing key (PEM).
    pub fn issue_for(&self, subject: &Subject, key: &str) -> Result<String> {
        let issuer =
            Issuer::from_ca_cert_pem(&self.identity.certificate, KeyPair::from_pem(&self.identity.key)?)?;
        Ok(params(subject)?.signed_by(&KeyPair::from_pem(key)?, &issuer)?.pem())
    }

    /// Reads the identity `name` from `directory`, or issues it there.
    pub fn keep_issued(&self, directory: &Path, name: &str, subject: &Subject) -> Result<Identity> {
        if let Some(identity) = Identity::load(directory, name) {
            return Ok(identity);
        }
        let identity = self.issue(subject)?;
        identity.save(directory, name)?;
        Ok(identity)
    }
}

/// Returns a certificate signing request (PEM) for a new key.
pub fn signing_request(subject: &Subject) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = &subject.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, subject.common_name.as_str());
    for name in &subject.names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(Error::Pki)?));
    }
    params.subject_alt_names.extend(subject.addresses.iter().copied().map(SanType::IpAddress));
    Ok(params.serialize_request(&KeyPair::generate()?)?.pem()?)
}

/// Returns a self-signed certificate.
pub fn self_signed(subject: &Subject) -> Result<Identity> {
    let key = KeyPair::generate()?;
    let certificate = params(subject)?.self_signed(&key)?.pem();
    Ok(Identity { certificate, key: key.serialize_pem() })
}

/// Creates the key pair that signs service-account tokens, `name.key` and `name.pub` in `directory`, unless it
/// exists.
pub fn keep_key_pair(directory: &Path, name: &str) -> Result<()> {
    let (private, public) = (directory.join(format!("{name}.key")), directory.join(format!("{name}.pub")));
    if private.exists() && public.exists() {
        return Ok(());
    }
    let key = KeyPair::generate()?;
    write_private(&private, &key.serialize_pem())?;
    write_private(&public, &key.public_key_pem())
}

fn params(subject: &Subject) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject.common_name.as_str());
    if let Some(organization) = &subject.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    for name in &subject.names {
        let name = name.as_str().try_into().map_err(Error::Pki)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(subject.addresses.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![if subject.server {
        ExtendedKeyUsagePurpose::ServerAuth
    } else {
        ExtendedKeyUsagePurpose::ClientAuth
    }];
    params.use_authority_key_identifier_extension = true;
    let last_year = if subject.expired { 2021 } else { 2049 };
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(last_year, 1, 1));
    Ok(params)
}

/// Writes a file that only its owner can read, atomically.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, "").doing(|| format!("write {}", temporary.display()))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::write(&temporary, text))
        .and_then(|()| fs::rename(&temporary, path))
        .doing(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stored_authority_that_can_sign() {
        let directory = std::env::temp_dir().join(format!("pki-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let first = Authority::keep(&directory, "ca", "a test authority").unwrap();
        let again = Authority::keep(&directory, "ca", "a test authority").unwrap();
        assert_eq!(first.certificate(), again.certificate());
        let identity = again.issue(&Subject::user("jane", Some("dev"))).unwrap();
        assert!(identity.certificate.contains("BEGIN CERTIFICATE"));
        let mode = fs::metadata(directory.join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&directory).unwrap();
    }
}
