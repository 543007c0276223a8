//! Path validation, with the rules of Go's `Certificate.Verify`.

use crate::extensions::AlternativeNames;
use crate::signature::SignatureError;
use crate::{Certificate, Error, Unusable, printable};

/// The maximum number of issuers that one verification tries. It limits signature checks and the depth of the search.
///
/// Go tries 100 (CVE-2018-16875). A client sends them before it is authenticated, and chooses their keys: 100 signatures
/// of P-521 take 57 ms of CPU. Chains have less than ten certificates.
pub(crate) const MAX_ISSUERS: usize = 32;

/// The maximum number of times that one verification compares a name with a name constraint, as in Go 1.10 to 1.25. A CA
/// of the path can choose both.
const MAX_NAME_COMPARISONS: usize = 250_000;

/// anyExtendedKeyUsage, 2.5.29.37.0.
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The authentication of a TLS server.
    Server,
    /// The authentication of a TLS client.
    Client,
}

impl Purpose {
    /// Returns the object identifier of the extended key usage.
    const fn usage(self) -> &'static [u8] {
        match self {
            Self::Server => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
            Self::Client => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Server => "serverAuth",
            Self::Client => "clientAuth",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Anchor,
    Intermediate,
}

/// Verifies that a path leads from `leaf` to one of `anchors`, or that `leaf` is one of them.
pub(crate) fn verify(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Certificate],
    purpose: Purpose,
    now: i64,
) -> Result<(), Error> {
    let mut search =
        Search { anchors, intermediates, purpose, now, tried: 0, compared: 0, unusable: None, refused: None };
    let found =
        if anchors.contains(leaf) { search.accepts(&[leaf]) } else { search.extend(&mut vec![leaf])? };
    if !found {
        return Err(search.refused.unwrap_or_else(|| Error::UnknownIssuer {
            issuer: (!leaf.is_self_issued()).then(|| printable(&leaf.issuer().to_string())),
            unusable: search.unusable,
        }));
    }
    // After the path, because an unknown issuer matters more than an expired certificate.
    if let Some(extension) = &leaf.extensions.unknown_critical {
        Err(Error::UnknownCriticalExtension(extension.clone()))
    } else if now < leaf.not_before() {
        Err(Error::NotYetValid { not_before: leaf.not_before() })
    } else if now > leaf.not_after() {
        Err(Error::Expired { not_after: leaf.not_after() })
    } else {
        Ok(())
    }
}

/// A depth-first search for a path.
struct Search<'a> {
    anchors: &'a [Certificate],
    intermediates: &'a [Certificate],
    purpose: Purpose,
    now: i64,
    /// The number of issuers that were tried.
    tried: usize,
    /// The number of comparisons with name constraints.
    compared: usize,
    /// The most important reason why a certificate with an issuer's name was not used.
    unusable: Option<(String, Unusable)>,
    /// Why the first complete path is not acceptable.
    refused: Option<Error>,
}

impl<'a> Search<'a> {
    /// Returns whether a path that begins with `path` is acceptable.
    fn extend(&mut self, path: &mut Vec<&'a Certificate>) -> Result<bool, Error> {
        let Some(child) = path.last().copied() else { return Ok(false) };
        for (role, issuer) in self.issuers(child) {
            self.tried += 1;
            if self.tried > MAX_ISSUERS {
                return Err(Error::TooManyIssuers);
            }
            if contains(path, issuer) {
                continue;
            }
            if let Err(why) = self.check_issuer(child, issuer, role, path.len() - 1) {
                self.note(issuer, why);
                continue;
            }
            path.push(issuer);
            let found = match role {
                Role::Anchor => self.accepts(path),
                Role::Intermediate => self.extend(path)?,
            };
            path.pop();
            if found {
                return Ok(true);
            }
            if role == Role::Intermediate {
                self.note(issuer, Unusable::NotTrusted);
            }
        }
        Ok(false)
    }

    /// Returns the certificates with the name of the child's issuer in Go's order: anchors first, then those whose key
    /// identifier is that in the child, as far as both have one (RFC 5280, section 4.2.1.1).
    fn issuers(&self, child: &Certificate) -> Vec<(Role, &'a Certificate)> {
        let wanted = &child.extensions.issuer_key_identifier;
        let anchors = self.anchors.iter().map(|anchor| (Role::Anchor, anchor));
        let intermediates = self.intermediates.iter().map(|one| (Role::Intermediate, one));
        let all = anchors.chain(intermediates);
        let mut issuers: Vec<_> = all.filter(|(_, one)| one.subject() == child.issuer()).collect();
        issuers.sort_by_key(|(role, issuer)| {
            let identifier = &issuer.extensions.key_identifier;
            (*role, identifier != wanted, identifier.is_empty() == wanted.is_empty())
        });
        issuers
    }

    /// Checks that `issuer` signed `child` and may do so, with `below` intermediates between it and the leaf.
    fn check_issuer(
        &self,
        child: &Certificate,
        issuer: &Certificate,
        role: Role,
        below: usize,
    ) -> Result<(), Unusable> {
        let constraints = issuer.extensions.basic_constraints;
        let is_ca = match constraints {
            Some(constraints) => constraints.is_ca,
            // Before version 3 nothing says what a CA is. As an anchor it was chosen.
            None => !issuer.is_version_3 && role == Role::Anchor,
        };
        if !is_ca {
            return Err(Unusable::NotACa);
        }
        if issuer.extensions.key_cert_sign == Some(false) {
            return Err(Unusable::MayNotSign);
        }
        match child.signed.verify(issuer) {
            Err(SignatureError::OtherKey) => Err(Unusable::OtherKey),
            Err(SignatureError::Unsupported) => Err(Unusable::UnsupportedAlgorithm),
            Ok(()) => self.check_validity(issuer, below),
        }
    }

    fn check_validity(&self, issuer: &Certificate, below: usize) -> Result<(), Unusable> {
        if let Some(extension) = &issuer.extensions.unknown_critical {
            return Err(Unusable::UnknownCriticalExtension(extension.clone()));
        }
        if self.now < issuer.not_before() {
            return Err(Unusable::NotYetValid(issuer.not_before()));
        }
        if self.now > issuer.not_after() {
            return Err(Unusable::Expired(issuer.not_after()));
        }
        let path_length = issuer.extensions.basic_constraints.and_then(|constraints| constraints.path_length);
        match path_length {
            Some(max) if u32::try_from(below).map_or(true, |below| below > max) => {
                Err(Unusable::PathTooLong(max))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a path that ends with an anchor is acceptable as a whole: usages, name constraints, policies.
    fn accepts(&mut self, path: &[&Certificate]) -> bool {
        let refused = path.iter().enumerate().find_map(|(at, certificate)| {
            let usages = &certificate.extensions.extended_key_usages;
            // A CA that lists usages can sign for these only. RFC 5280 does not say so, but everybody does it.
            let allows = |usage: &[u8]| usages.iter().any(|one| **one == *usage);
            if !usages.is_empty() && !allows(ANY_USAGE) && !allows(self.purpose.usage()) {
                return Some(Error::WrongUsage {
                    certificate: certificate.label(),
                    purpose: self.purpose.name(),
                });
            }
            // Go ignores the anchor's policies.
            if certificate.extensions.needs_policies && at + 1 < path.len() {
                return Some(Error::PoliciesNotSupported { certificate: certificate.label() });
            }
            let constraints = certificate.extensions.name_constraints.as_ref()?;
            let mut below = path[..at].iter().filter_map(|one| one.extensions.names.as_ref());
            let names: usize = below.clone().map(AlternativeNames::count).sum();
            self.compared = self.compared.saturating_add(names.saturating_mul(constraints.count()));
            if self.compared > MAX_NAME_COMPARISONS {
                return Some(Error::TooManyNames { ca: certificate.label() });
            }
            below
                .find_map(|names| constraints.violated_by(names))
                .map(|name| Error::NameNotPermitted { ca: certificate.label(), name: printable(&name) })
        });
        let accepted = refused.is_none();
        self.refused = self.refused.take().or(refused);
        accepted
    }

    fn note(&mut self, issuer: &Certificate, why: Unusable) {
        if self.unusable.as_ref().is_none_or(|(_, known)| *known < why) {
            self.unusable = Some((issuer.label(), why));
        }
    }
}

/// Returns whether a path has a certificate with the same subject, key and names. Cross-signed CAs would make loops.
fn contains(path: &[&Certificate], candidate: &Certificate) -> bool {
    path.iter().any(|certificate| {
        certificate.subject() == candidate.subject()
            && certificate.public_key == candidate.public_key
            && certificate.extensions.names.as_ref().map(|names| &names.der)
                == candidate.extensions.names.as_ref().map(|names| &names.der)
    })
}

#[cfg(test)]
mod tests;
