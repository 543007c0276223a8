//! A real Kubernetes on one machine: the components, the network they run in, and the programs and images they run.

pub mod background;
pub mod binaries;
pub mod cgroups;
pub mod cluster;
pub(crate) mod fake_kubelet;
pub mod http;
pub mod images;
pub mod isolated;
pub mod kubeconfig;
pub mod kubectl;
pub mod mounts;
pub mod network;
pub mod pipeline;
pub mod pki;
pub mod plugin;
pub mod process;
pub mod requirements;
pub(crate) mod tls;
