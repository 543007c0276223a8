//! Names that several modules write or read: objects, labels, ports, field managers.

/// The name of every namespaced object of metrics-core, of its container, and the value of the label
/// [`NAME_LABEL`].
pub const METRICS_CORE: &str = "metrics-core";

/// The name of the Lease, and of the operator in events and managed fields.
pub const LEASE: &str = FIELD_MANAGER;

/// The field manager of all fields but the container's resources.
pub(crate) const FIELD_MANAGER: &str = "metrics-pipeline-operator";

/// The field manager of the container's resources.
pub(crate) const NANNY_FIELD_MANAGER: &str = "metrics-pipeline-nanny";

/// The label that names an application (Kubernetes, "Recommended Labels").
pub(crate) const NAME_LABEL: &str = "app.kubernetes.io/name";

/// Selects the pods and other objects of metrics-core.
pub(crate) const METRICS_CORE_SELECTOR: &str = "app.kubernetes.io/name=metrics-core";

/// The label that says which tool manages an object (Kubernetes, "Recommended Labels").
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on every object that the operator manages.
pub const MANAGED_BY: &str = "metrics-pipeline-operator";

/// The name of metrics-core's port in its container and its Service.
pub(crate) const PORT_NAME: &str = "https";

/// The API group of cert-manager.
pub(crate) const CERT_MANAGER_GROUP: &str = "cert-manager.io";
