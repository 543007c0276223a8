//! The kubectl plugin `kubectl metrics-pipeline`: shows and checks the resource-metrics pipeline of a cluster.
//!
//! The plugin is read-only. Start at [`run`]: it connects ([`connect`]), reads a [`snapshot`] of the cluster, and prints
//! the tree of [`status`], of [`doctor`] (which also reads [`checks`]), or kube-apiserver's [`flags`]. Both trees consist of
//! [`tree`] nodes. The diagnosis is the operator's: the plugin prints its conditions, and only checks the cluster itself
//! where no operator is running. It uses [`operator::inspect`] and nothing else of the operator.

mod arguments;
mod checks;
mod connect;
mod doctor;
mod flags;
mod leftovers;
mod run;
mod snapshot;
mod status;
mod tree;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    run::run(&arguments::Arguments::parse())
}
