//! A metrics server for Kubernetes: discover → scrape → decode → store → serve.
//!
//! Data flows one way; each step is a module with one way in and one way out, and [`model::rows`] is the seam
//! between the half that knows kubelets and the half that knows HTTP clients.

pub mod api;
mod cluster;
pub mod digest;
pub mod flags;
pub mod ingest;
pub mod model;
pub mod program;
pub mod report;
pub mod server;
pub mod telemetry;
mod watched_file;
