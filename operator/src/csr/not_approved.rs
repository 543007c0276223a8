//! Why the operator does not approve a request.

use super::node_names::CONTROL_PLANE;

/// Why the operator does not approve a request. The text is a clause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotApproved {
    /// The requester is not a kubelet, or the signer is another one.
    #[error("{0}")]
    Requester(String),
    /// The usages are not those of a serving certificate.
    #[error("its usages are {0}, but must be digital signature, server auth and optionally key encipherment")]
    Usages(String),
    /// `spec.request` can't be parsed.
    #[error("spec.request {0}")]
    Malformed(String),
    /// The subject is not the kubelet's.
    #[error("its subject is not exactly O=system:nodes, CN={0}")]
    Subject(String),
    /// The request has other attributes or extensions than a subject alternative name, or another encoding than a
    /// kubelet's.
    #[error("it requests more than DNS names and IP addresses, or is not encoded as a kubelet encodes it")]
    Extensions,
    /// The key is too weak or has an unsupported algorithm.
    #[error("its key is not RSA with 2048 to 8192 bits or ECDSA with P-256, P-384 or P-521")]
    Key,
    /// A name or address is never valid for a kubelet.
    #[error("it requests {0}, which is not allowed in a kubelet's certificate")]
    Name(String),
    /// The Node does not exist.
    #[error("Node {0} does not exist")]
    UnknownNode(String),
    /// A name or address does not belong to the Node.
    #[error("it requests {name}, which is not in status.addresses of Node {node}")]
    NotInNodeStatus {
        /// The name or address.
        name: String,
        /// The Node.
        node: String,
    },
    /// A name or address is kube-apiserver's.
    #[error(
        "it requests {name}, which also belongs to kube-apiserver, and Node {node} does not have the label {CONTROL_PLANE}"
    )]
    ApiServer {
        /// The name or address.
        name: String,
        /// The Node.
        node: String,
    },
    /// An address is in a range of Services or pods.
    #[error("it requests {name}, which is in {owner}")]
    Network {
        /// The address.
        name: String,
        /// The range and what it is of.
        owner: String,
    },
    /// The administrator does not allow a name or address.
    #[error("it requests {0}, which no entry of spec.metricsCore.kubelet.tls.csrAllowList matches")]
    NotInAllowList(String),
    /// A name or address belongs to another object too.
    #[error("it requests {name}, which also belongs to {owner}")]
    Shared {
        /// The name or address.
        name: String,
        /// The other object.
        owner: String,
    },
}

impl NotApproved {
    /// Returns the value of the metric label `result`.
    #[must_use]
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Requester(_) => "requester",
            Self::Usages(_) => "usages",
            Self::Malformed(_) => "malformed",
            Self::Subject(_) => "subject",
            Self::Extensions => "extensions",
            Self::Key => "key",
            Self::Name(_) => "name",
            Self::UnknownNode(_) => "unknown_node",
            Self::NotInNodeStatus { .. } => "not_in_node_status",
            Self::ApiServer { .. } => "api_server",
            Self::Network { .. } => "network",
            Self::NotInAllowList(_) => "not_in_allow_list",
            Self::Shared { .. } => "shared",
        }
    }
}
