//! Creates a client from the kubeconfig, as kubectl does.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use operator::inspect::error_chain;

use crate::arguments::Arguments;

/// An error in the configuration of the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the kubeconfig is not usable: {}; select another one with --kubeconfig or --context", error_chain(.0))]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("no cluster is configured: {}; select a kubeconfig with --kubeconfig or $KUBECONFIG", error_chain(.0))]
    Infer(#[from] kube::config::InferConfigError),
    #[error("the client could not be created: {}", error_chain(.0))]
    Client(#[from] kube::Error),
}

/// Returns a client for the cluster that the arguments select. It does not connect yet.
pub(crate) async fn client(arguments: &Arguments) -> Result<Client, ConnectError> {
    let options = KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
    let config = match &arguments.kubeconfig {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        None if arguments.context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await?,
    };
    Ok(Client::try_from(config)?)
}
