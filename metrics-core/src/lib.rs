//! metrics-core serves the Kubernetes Metrics API (`metrics.k8s.io`): it scrapes every kubelet and responds to
//! `kubectl top`, the HorizontalPodAutoscaler and other clients. It replaces metrics-server and the part of
//! k8s.io/apiserver that metrics-server uses.
//!
//! # Data flow
//!
//! ```text
//! ingest    discover: watch Nodes and Pods ─► Directory
//!           scrape:   kubelet /metrics/resource ─► decode: samples ─► store: two samples make a rate
//! model     rows: usage per node and pod, in API order; the interface between ingestion and the API
//! server    tls ─► authentication ─► authorization ─► listen: the handler chain
//! api       request ─► cursor over rows ─► encoder ─► response
//! report    what goes wrong, at /report, for the operator
//! ```
//!
//! Ingestion knows nothing about HTTP clients, and the API knows nothing about kubelets: both depend on [`model`] alone. The
//! modules import each other only in this order: `digest`, `watched_file`, [`model`], [`telemetry`], [`flags`], `cluster`,
//! [`ingest`], [`server`], [`api`], [`report`], [`program`].
//!
//! # Where to start
//!
//! - The program: [`program::Program::run`] creates and connects all parts.
//! - A kubelet response, from the socket to the client: in `ingest::scrape` the files `client`, `session` (TLS records),
//!   `response` (HTTP) and `target`; `ingest::decode`; in `ingest::store` the files `scrape_batch`, `mod` (`put`) and `rows`;
//!   [`model::rows`]; in `api` the files `cursor`, `encode`, `list` and `body`; `server::listen::body`.
//! - A list request: in `server::listen` the files `accept`, `handshake`, `connection` and `chain`; `server::authentication`;
//!   `server::authorization`; `program::metrics_api`; in `api` the files `mod`, `route`, `objects`, `list`, `cursor` and
//!   `encode`.
//! - A flag: [`flags::table`].

pub mod api;
mod cluster;
mod digest;
pub mod flags;
pub mod ingest;
pub mod model;
pub mod program;
pub mod report;
pub mod server;
mod telemetry;
mod watched_file;
