//! Why a request is left alone.

/// Why a request is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not made by a kubelet.
    #[error("{0}")]
    Requester(String),
    /// It asks for other uses than a server's.
    #[error("its usages are {0}, not digital signature, server auth and perhaps key encipherment")]
    Usages(String),
    /// It can't be read.
    #[error("spec.request {0}")]
    Malformed(String),
    /// Its subject is not the kubelet's.
    #[error("its subject is not exactly O=system:nodes, CN={0}")]
    Subject(String),
    /// It asks for more than names.
    #[error("it asks for more than names and addresses, or writes them otherwise than a kubelet does")]
    Extensions,
    /// Its key is too weak or of an unusual kind.
    #[error("its key is not RSA with 2048 to 8192 bits or ECDSA with P-256, P-384 or P-521")]
    Key,
    /// It has a name that no kubelet may have.
    #[error("it asks for {0}, which no kubelet may have")]
    Name(String),
    /// There is no such Node.
    #[error("there is no Node {0}")]
    UnknownNode(String),
    /// It has a name that is not the Node's.
    #[error("it asks for {name}, which is not among status.addresses of Node {node}")]
    NotTheNodes {
        /// The name or address.
        name: String,
        /// The Node.
        node: String,
    },
    /// It has a name that is somebody else's too.
    #[error("it asks for {name}, which is also {owner}")]
    Shared {
        /// The name or address.
        name: String,
        /// Whose it is.
        owner: String,
    },
}

impl Refusal {
    /// For metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Requester(_) => "requester",
            Self::Usages(_) => "usages",
            Self::Malformed(_) => "malformed",
            Self::Subject(_) => "subject",
            Self::Extensions => "extensions",
            Self::Key => "key",
            Self::Name(_) => "name",
            Self::UnknownNode(_) => "unknown_node",
            Self::NotTheNodes { .. } => "not_the_nodes",
            Self::Shared { .. } => "shared",
        }
    }
}
