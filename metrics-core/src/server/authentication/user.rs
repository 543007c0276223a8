//! The authenticated user.

use std::collections::BTreeMap;

/// The name of a user without credentials.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// A user, as Kubernetes' `authentication.k8s.io/v1` UserInfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name.
    pub name: String,
    /// The UID, or empty.
    pub uid: String,
    /// The groups, in the order of their source.
    pub groups: Vec<String>,
    /// Extra attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// Returns the user of a request without credentials.
    #[must_use]
    pub(crate) fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// Returns whether the user is anonymous.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS || self.groups.iter().any(|group| group == UNAUTHENTICATED)
    }

    /// Adds group system:authenticated, unless the user is anonymous or has it.
    #[must_use]
    pub(super) fn with_authenticated_group(mut self) -> Self {
        let marked = self.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED);
        if self.name != ANONYMOUS && !marked {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
