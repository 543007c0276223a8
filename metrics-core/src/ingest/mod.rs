//! From the kubelet to the store: discover nodes and pods, scrape kubelets, decode their responses, store the samples.

pub mod decode;
pub mod discover;
pub mod scrape;
pub mod store;
