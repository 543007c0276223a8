//! The address of kube-apiserver and the credentials for it and for kubelets: from the pod or from a kubeconfig.

use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// An error of connecting to kube-apiserver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig is invalid.
    #[error("kubeconfig {}: {problem}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The cause.
        problem: String,
    },
    /// The process runs outside a pod and without a kubeconfig.
    #[error(
        "the process does not run in a pod ({0}) and --kubeconfig is not set; set it, or mount a service account token"
    )]
    NotInCluster(String),
    /// The configuration is not usable for a client.
    #[error("can't create a client for kube-apiserver: {0}")]
    Client(String),
}

/// Returns a client for kube-apiserver.
pub(crate) async fn client(kubeconfig: Option<&Path>) -> Result<kube::Client, Error> {
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

/// The default credentials for kubelets and the default CA to verify them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KubeletDefaults {
    /// The file with the cluster's CA.
    pub(crate) ca_file: Option<PathBuf>,
    /// The file with a bearer token.
    pub(crate) token_file: Option<PathBuf>,
    /// The files with a client certificate and its key.
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
}

/// Returns the files of the pod's service account, or those of the kubeconfig's current context. Data embedded in a
/// kubeconfig are not used for kubelets.
pub(crate) fn for_kubelets(kubeconfig: Option<&Path>) -> Result<KubeletDefaults, Error> {
    match kubeconfig {
        None => {
            let file = |name| Some(Path::new(SERVICE_ACCOUNT).join(name));
            Ok(KubeletDefaults {
                ca_file: file("ca.crt"),
                token_file: file("token"),
                client_certificate: None,
            })
        }
        Some(path) => Ok(from_kubeconfig(&read(path)?)),
    }
}

fn from_kubeconfig(config: &Kubeconfig) -> KubeletDefaults {
    let context =
        config.contexts.iter().find(|context| Some(&context.name) == config.current_context.as_ref());
    let Some(context) = context.and_then(|context| context.context.as_ref()) else {
        return KubeletDefaults::default();
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
    KubeletDefaults {
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

    use super::from_kubeconfig;

    #[test]
    fn finds_the_files_of_the_current_context() {
        let config = Kubeconfig::from_yaml(
            "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], \
              clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: /ca}}], \
              users: [{name: other, user: {tokenFile: /t}}, {name: u, user: {client-certificate: /crt, client-key: /key}}]}",
        )
        .unwrap();
        let found = from_kubeconfig(&config);
        assert_eq!(found.ca_file, Some("/ca".into()));
        assert_eq!(found.token_file, None);
        assert_eq!(found.client_certificate, Some(("/crt".into(), "/key".into())));
        assert_eq!(from_kubeconfig(&Kubeconfig::default()), super::KubeletDefaults::default());
    }
}
