//! A metrics server for Kubernetes: discover → scrape → decode → store → serve.
//!
//! Data flows one way; each step is a module with one way in and one way out, and [`rows`] is the seam
//! between the half that knows kubelets and the half that knows HTTP clients.

pub mod decode;
pub mod discover;
pub mod labels;
pub mod request_info;
pub mod rows;
pub mod scrape;
pub mod store;
