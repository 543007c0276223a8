//! What the operator may do only where the chart was told to grant it.

use crds::Reason;

use super::Problem;

/// An optional power. The chart adds its rules and sets the operator's flag, both by one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalPermission {
    /// Owning the front proxy's Secrets and ConfigMap.
    FrontProxy,
    /// Approving CSRs of kubelets.
    CsrApproval,
    /// Owning a Certificate of cert-manager's.
    CertManager,
}

/// Which were granted.
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
    /// Whether one was granted.
    #[must_use]
    pub const fn has(self, power: OptionalPermission) -> bool {
        match power {
            OptionalPermission::FrontProxy => self.front_proxy,
            OptionalPermission::CsrApproval => self.csr_approval,
            OptionalPermission::CertManager => self.cert_manager,
        }
    }
}

impl OptionalPermission {
    /// The chart's value that grants it.
    #[must_use]
    pub const fn chart_value(self) -> &'static str {
        match self {
            Self::FrontProxy => "frontProxy.enabled",
            Self::CsrApproval => "csrApproval.enabled",
            Self::CertManager => "certManager.enabled",
        }
    }

    /// That `field` of the spec asks for it in vain.
    #[must_use]
    pub fn missing(self, field: &str, namespace: &str) -> Problem {
        let value = self.chart_value();
        Problem::new(
            Reason::PermissionMissing,
            format!(
                "{field} requires permissions that the operator does not have. Grant them with the chart value \
                 {value}: `helm upgrade RELEASE CHART --namespace {namespace} --reuse-values --set {value}=true`."
            ),
        )
    }
}
