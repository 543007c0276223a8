//! The API server's address and our credentials for it and for kubelets: those of the pod, or of a kubeconfig.

use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kubeconfig can't be used.
    #[error("kubeconfig {}: {problem}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// There is no kubeconfig, and this is not a pod.
    #[error(
        "not in a pod ({0}), and no --kubeconfig is given; give one, or run with a service account whose token is mounted"
    )]
    NotInCluster(String),
    /// No client can be made of the configuration.
    #[error("can't make a client for the API server: {0}")]
    Client(String),
}

/// A client for the API server.
pub async fn client(kubeconfig: Option<&Path>) -> Result<kube::Client, Error> {
    let config = match kubeconfig {
        None => kube::Config::incluster().map_err(|error| Error::NotInCluster(error.to_string()))?,
        Some(path) => {
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(read(path)?, &options)
                .await
                .map_err(|error| broken(path, &error))?
        }
    };
    kube::Client::try_from(config).map_err(|error| Error::Client(error.to_string()))
}

/// What kubelets are shown and verified with unless flags say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForKubelets {
    /// The file with the cluster's CA.
    pub ca_file: Option<PathBuf>,
    /// The file with a bearer token.
    pub token_file: Option<PathBuf>,
    /// The files with a client certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// The pod's service account, or the files that a kubeconfig's current context names. Data inside a kubeconfig
/// has no file and is not used for kubelets.
pub fn for_kubelets(kubeconfig: Option<&Path>) -> Result<ForKubelets, Error> {
    match kubeconfig {
        None => {
            let file = |name| Some(Path::new(SERVICE_ACCOUNT).join(name));
            Ok(ForKubelets { ca_file: file("ca.crt"), token_file: file("token"), client_certificate: None })
        }
        Some(path) => Ok(of_kubeconfig(&read(path)?)),
    }
}

fn of_kubeconfig(config: &Kubeconfig) -> ForKubelets {
    let context =
        config.contexts.iter().find(|context| Some(&context.name) == config.current_context.as_ref());
    let Some(context) = context.and_then(|context| context.context.as_ref()) else {
        return ForKubelets::default();
    };
    let cluster: Option<&Cluster> = config
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|named| named.cluster.as_ref());
    let user: Option<&AuthInfo> = config
        .auth_infos
        .iter()
        .find(|user| Some(&user.name) == context.user.as_ref())
        .and_then(|named| named.auth_info.as_ref());
    let path = |path: Option<&String>| path.map(PathBuf::from);
    ForKubelets {
        ca_file: path(cluster.and_then(|cluster| cluster.certificate_authority.as_ref())),
        token_file: path(user.and_then(|user| user.token_file.as_ref())),
        client_certificate: path(user.and_then(|user| user.client_certificate.as_ref()))
            .zip(path(user.and_then(|user| user.client_key.as_ref()))),
    }
}

fn read(path: &Path) -> Result<Kubeconfig, Error> {
    Kubeconfig::read_from(path).map_err(|error| broken(path, &error))
}

fn broken(path: &Path, error: &dyn std::error::Error) -> Error {
    let mut problem = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        problem = format!("{problem}: {cause}");
        source = cause.source();
    }
    Error::Kubeconfig { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::of_kubeconfig;

    #[test]
    fn files_of_the_current_context_are_found() {
        let config = Kubeconfig::from_yaml(
            "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], \
              clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: /ca}}], \
              users: [{name: other, user: {tokenFile: /t}}, {name: u, user: {client-certificate: /crt, client-key: /key}}]}",
        )
        .unwrap();
        let found = of_kubeconfig(&config);
        assert_eq!(found.ca_file, Some("/ca".into()));
        assert_eq!(found.token_file, None);
        assert_eq!(found.client_certificate, Some(("/crt".into(), "/key".into())));
        assert_eq!(of_kubeconfig(&Kubeconfig::default()), super::ForKubelets::default());
    }
}
