//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Shows and checks the resource-metrics pipeline of a cluster; changes nothing
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kubectl metrics-pipeline",
    bin_name = "kubectl metrics-pipeline",
    version,
    after_help = "Exit codes: 0 if the result is ok or a warning, 1 if it is an error or waiting, 2 if it is unknown or the \
                  command failed."
)]
pub(crate) struct Arguments {
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Path to the kubeconfig file [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Name of the kubeconfig context [default: the current context]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// Namespace of the operator [default: the namespace of the operator's Deployment]
    #[arg(long, short, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Output format of `status` and `doctor`
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    pub(crate) output: Output,

    /// When to use color: `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Prints the pipeline as a tree, from kubelets to HorizontalPodAutoscalers
    Status,
    /// Runs all checks, also before the operator is installed
    Doctor,
    /// Prints kube-apiserver's flags for the front-proxy certificate, ready to paste
    Flags {
        /// Format of the flags
        #[arg(value_enum, default_value_t = FlagsForm::Steps, value_name = "FORMAT")]
        form: FlagsForm,
    },
}

/// A format of kube-apiserver's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlagsForm {
    /// Numbered steps with all commands
    Steps,
    /// One flag per line
    Lines,
    /// A JSON array, which is also a YAML list
    Json,
    /// A kubeadm ClusterConfiguration
    Kubeadm,
    /// A systemd drop-in
    Systemd,
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A tree
    Text,
    /// JSON, for scripts
    Json,
}

/// When to use color.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
