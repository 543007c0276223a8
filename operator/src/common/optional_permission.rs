//! Permissions that the operator has only where a chart value grants them.

use crds::Reason;

use super::Problem;

/// An optional permission. One chart value adds the RBAC rules and sets the operator's flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalPermission {
    /// To manage the Secrets and the ConfigMap of the front proxy.
    FrontProxy,
    /// To approve kubelets' CertificateSigningRequests.
    CsrApproval,
    /// To manage a Certificate of cert-manager.
    CertManager,
}

/// The optional permissions that are granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionalPermissions {
    /// [`OptionalPermission::FrontProxy`].
    pub front_proxy: bool,
    /// [`OptionalPermission::CsrApproval`].
    pub csr_approval: bool,
    /// [`OptionalPermission::CertManager`].
    pub cert_manager: bool,
}

impl OptionalPermissions {
    /// Whether a permission is granted.
    #[must_use]
    pub const fn has(self, permission: OptionalPermission) -> bool {
        match permission {
            OptionalPermission::FrontProxy => self.front_proxy,
            OptionalPermission::CsrApproval => self.csr_approval,
            OptionalPermission::CertManager => self.cert_manager,
        }
    }
}

impl OptionalPermission {
    /// Returns the chart value that grants it.
    #[must_use]
    pub const fn chart_value(self) -> &'static str {
        match self {
            Self::FrontProxy => "frontProxy.enabled",
            Self::CsrApproval => "csrApproval.enabled",
            Self::CertManager => "certManager.enabled",
        }
    }

    /// Returns the problem of a spec whose `field` needs the permission without having it.
    #[must_use]
    pub fn missing(self, field: &str, namespace: &str) -> Problem {
        let value = self.chart_value();
        Problem::new(
            Reason::PermissionMissing,
            format!(
                "{field} requires permissions that the operator does not have. Grant them with the chart value \
                 {value}: `helm upgrade RELEASE CHART --namespace {namespace} --reset-then-reuse-values --set {value}=true`."
            ),
        )
    }
}
