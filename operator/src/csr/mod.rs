//! Approval of the kubelets' serving certificates.
//!
//! A kubelet with `serverTLSBootstrap: true` asks for its serving certificate by a CertificateSigningRequest of the
//! signer `kubernetes.io/kubelet-serving`, which nobody in Kubernetes approves. An approval too many lets whoever
//! asked for it impersonate another server of the cluster, so [`request`] reads only what a kubelet would write, to
//! the byte, and [`claims`] grants only names and addresses that are that Node's and nobody else's. Everything else
//! is left alone, never denied: a person or another approver may know more.

mod claims;
mod der;
mod refusal;
mod request;

pub use claims::Claims;
pub use refusal::Refusal;
pub use request::{Request, is_pending};

/// The signer of kubelets' serving certificates (KEP-1513).
pub const SIGNER: &str = "kubernetes.io/kubelet-serving";
