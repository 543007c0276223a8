//! The port from outside: real TLS connections against authentication, authorization and limits. Only the API
//! server's reviews are stood in for; on a real cluster the scenarios of `e2e` ask it.

#![allow(clippy::expect_used, clippy::unwrap_used)] // A test fails by panicking, its bench too.

mod attempts;
mod bench;
mod connections;
mod credentials;
mod report;
mod serving;
