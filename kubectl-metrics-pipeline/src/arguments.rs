//! The command line of the plugin.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Shows and explains the resource-metrics pipeline of a cluster. It changes nothing.
#[derive(Clone, Debug, Parser)]
#[command(name = "kubectl metrics-pipeline", bin_name = "kubectl metrics-pipeline", version)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// The kubeconfig file [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context in the kubeconfig file [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// The namespace that the operator is installed in [default: the one where it is found]
    #[arg(long, short, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// How the answer is written
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub(crate) output: Output,

    /// Whether with colours; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub(crate) color: Colour,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Shows the pipeline as a tree, from the kubelets to the autoscalers
    Status,
    /// Makes all checks, also before anything is installed; the exit code is 1 when something is wrong
    Doctor,
    /// Prints kube-apiserver's flags for the front-proxy certificate, in a form to paste
    Flags {
        /// Which form
        #[arg(value_enum, default_value_t = FlagsForm::Steps, value_name = "FORM")]
        form: FlagsForm,
    },
}

/// The forms of kube-apiserver's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlagsForm {
    /// What to do, step by step.
    Steps,
    /// One argument a line.
    Lines,
    /// The arguments as a JSON array, which is a YAML list too.
    Json,
    /// kubeadm's ClusterConfiguration.
    Kubeadm,
    /// A drop-in for systemd.
    Systemd,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Whether with colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
