//! Tests of the HTTPS port from outside: real TLS connections against authentication, authorization and limits. Only
//! kube-apiserver's reviews are faked; the scenarios of `e2e` use a real cluster.

#![allow(clippy::expect_used, clippy::unwrap_used)] // Tests fail by panicking.

mod attempts;
mod connections;
mod credentials;
mod deadlines;
mod floods;
mod front_proxies;
mod memory;
mod raw_http2;
mod report;
mod serving;
mod slow_readers;
mod test_server;
