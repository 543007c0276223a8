//! The way to the cluster, as kubectl finds it.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::arguments::Arguments;
use operator::inspect::error_chain;

/// Why there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The kubeconfig can't be used.
    #[error("the kubeconfig can't be used: {}; name another with --kubeconfig or --context", error_chain(.0))]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Nothing says where the cluster is.
    #[error("no cluster is named: {}; name a kubeconfig with --kubeconfig or $KUBECONFIG", error_chain(.0))]
    Infer(#[from] kube::config::InferConfigError),
    /// The connection can't be set up.
    #[error("the connection can't be set up: {}", error_chain(.0))]
    Client(#[from] kube::Error),
}

/// A client for the cluster that the arguments name.
pub(crate) async fn client(arguments: &Arguments) -> Result<Client, ConnectError> {
    let options = KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
    let config = match &arguments.kubeconfig {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        None if arguments.context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await?,
    };
    Ok(Client::try_from(config)?)
}
