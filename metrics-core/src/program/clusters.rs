//! The connections to kube-apiserver: one set of credentials each for watches and the two kinds of reviews.

use std::path::PathBuf;

use tokio::task::JoinSet;

use crate::cluster::{Cluster, Error};
use crate::flags::Options;

/// kube-apiserver by the purpose of requests. Without flags of their own all share one set of connections.
pub(super) struct Clusters {
    /// For everything else.
    pub(super) main: Cluster,
    /// For TokenReviews and the authentication ConfigMap.
    pub(super) authentication: Cluster,
    /// For SubjectAccessReviews.
    pub(super) authorization: Cluster,
}

impl Clusters {
    /// Reads the kubeconfigs, or the credentials of the pod.
    pub(super) async fn new(options: &Options, tasks: &mut JoinSet<()>) -> Result<Self, Error> {
        let main = Cluster::new(options.kubeconfig.as_deref(), tasks).await?;
        let authentication = or_main(options.authentication_kubeconfig.as_ref(), &main, tasks).await?;
        let authorization = or_main(options.authorization_kubeconfig.as_ref(), &main, tasks).await?;
        Ok(Self { main, authentication, authorization })
    }
}

async fn or_main(
    kubeconfig: Option<&PathBuf>,
    main: &Cluster,
    tasks: &mut JoinSet<()>,
) -> Result<Cluster, Error> {
    match kubeconfig {
        Some(path) => Cluster::new(Some(path), tasks).await,
        None => Ok(main.clone()),
    }
}
