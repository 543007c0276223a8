//! Names that several modules write or read: objects, labels, ports, field managers.

/// The name of every namespaced object of metrics-core, of its container, and the value of the label
/// [`NAME_LABEL`].
pub const METRICS_CORE: &str = "metrics-core";

/// The name of the Lease, and of the operator in events and managed fields.
pub const LEASE: &str = FIELD_MANAGER;

/// The field manager of all fields but the container's resources.
pub const FIELD_MANAGER: &str = "metrics-pipeline-operator";

/// The field manager of the container's resources.
pub const NANNY_FIELD_MANAGER: &str = "metrics-pipeline-nanny";

/// The label that names an application (Kubernetes, "Recommended Labels").
pub const NAME_LABEL: &str = "app.kubernetes.io/name";

/// The label that says which tool manages an object (Kubernetes, "Recommended Labels").
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on every object that the operator manages.
pub const MANAGED_BY: &str = "metrics-pipeline-operator";

/// The name of metrics-core's port in its container and its Service.
pub const PORT_NAME: &str = "https";

/// The API group of cert-manager.
pub const CERT_MANAGER_GROUP: &str = "cert-manager.io";
