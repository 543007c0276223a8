//! A metrics server for Kubernetes: discover → scrape → decode → store → serve.
//!
//! Data flows one way; each step is a module with one way in and one way out, and [`rows`] is the seam
//! between the half that knows kubelets and the half that knows HTTP clients.

pub mod authenticate;
pub mod authorize;
pub mod cluster;
pub mod decode;
pub mod discover;
pub mod flags;
pub mod freshness;
pub mod labels;
pub mod listen;
pub mod report;
pub mod request_info;
pub mod review;
pub mod review_cache;
pub mod rows;
pub mod scrape;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod tls;
mod watched_file;
