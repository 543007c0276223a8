//! Credentials in a kubeconfig, as files or as inline data.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Config;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};
use secrecy::ExposeSecret;

use super::identity::IdentityFiles;
use super::{Error, error_chain};
use crate::watched_file::Source;

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The default credentials for kubelets and the default CA to verify them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KubeletDefaults {
    /// The cluster's CA.
    pub(crate) ca: Option<Source>,
    /// A bearer token.
    pub(crate) token: Option<Source>,
    /// A client certificate and its key.
    pub(crate) client_certificate: Option<(Source, Source)>,
}

/// Returns the configuration of clients for kube-apiserver, and the files of the client certificate if it is in files.
pub(super) async fn for_apiserver(path: &Path) -> Result<(Config, Option<IdentityFiles>), Error> {
    let mut kubeconfig = read(path)?;
    let invalid = |problem: String| Error::Kubeconfig { path: path.to_owned(), problem };
    let (mut ca_file, mut identity) = (None, None);
    if let Some((cluster, user)) = current_context(&mut kubeconfig) {
        if let Some(user) = user {
            supported(user).map_err(invalid)?;
            // A token file takes precedence over an inline token (kubeconfig reference).
            if user.token_file.is_some() {
                user.token = None;
            }
            if let (Some(certificate), None, Some(key), None) = (
                &user.client_certificate,
                &user.client_certificate_data,
                &user.client_key,
                &user.client_key_data,
            ) {
                identity = Some([certificate.into(), key.into()]);
            }
        }
        if let Some(cluster) = cluster.filter(|cluster| cluster.certificate_authority_data.is_none()) {
            ca_file = cluster.certificate_authority.as_ref().map(PathBuf::from);
        }
    }
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| invalid(error_chain(&error)))?;
    if let Some(proxy) = &config.proxy_url {
        return Err(invalid(format!(
            "requests to kube-apiserver through the proxy {} are not supported; remove proxy-url from the kubeconfig, and \
             HTTPS_PROXY from the environment",
            proxy.host().unwrap_or_default()
        )));
    }
    // Read again for new connections when it changes.
    config.root_cert_file = ca_file;
    Ok((config, identity))
}

/// Returns the files of the pod's service account, or the CA and the credentials of the kubeconfig's current context.
pub(crate) fn for_kubelets(kubeconfig: Option<&Path>) -> Result<KubeletDefaults, Error> {
    match kubeconfig {
        None => {
            let file = |name| Some(Source::File(Path::new(SERVICE_ACCOUNT).join(name)));
            Ok(KubeletDefaults { ca: file("ca.crt"), token: file("token"), client_certificate: None })
        }
        Some(path) => from_kubeconfig(read(path)?)
            .map_err(|problem| Error::Kubeconfig { path: path.to_owned(), problem }),
    }
}

fn from_kubeconfig(mut kubeconfig: Kubeconfig) -> Result<KubeletDefaults, String> {
    let Some((cluster, user)) = current_context(&mut kubeconfig) else {
        return Ok(KubeletDefaults::default());
    };
    let mut found = KubeletDefaults::default();
    if let Some(cluster) = cluster {
        let data = cluster.certificate_authority_data.as_deref();
        found.ca = source("certificate-authority-data", data, cluster.certificate_authority.as_ref())?;
    }
    if let Some(user) = user {
        supported(user)?;
        let token = user.token.as_ref().map(ExposeSecret::expose_secret);
        found.token = match &user.token_file {
            Some(file) => Some(Source::File(file.into())),
            None => token.map(|token| Source::inline("token", token.as_bytes().to_vec())),
        };
        let certificate = user.client_certificate_data.as_deref();
        let certificate = source("client-certificate-data", certificate, user.client_certificate.as_ref())?;
        let key = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
        found.client_certificate = certificate.zip(source("client-key-data", key, user.client_key.as_ref())?);
    }
    Ok(found)
}

/// Returns the inline data, which take precedence, or the file.
fn source(field: &'static str, data: Option<&str>, file: Option<&String>) -> Result<Option<Source>, String> {
    match data.filter(|data| !data.is_empty()) {
        // The error could quote a part of a key.
        Some(data) => match STANDARD.decode(data.trim()) {
            Ok(content) => Ok(Some(Source::inline(field, content))),
            Err(_) => Err(format!("{field} is not base64")),
        },
        None => Ok(file.map(|path| Source::File(path.into()))),
    }
}

/// Returns the cluster and the user of the current context.
fn current_context(kubeconfig: &mut Kubeconfig) -> Option<(Option<&mut Cluster>, Option<&mut AuthInfo>)> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == *current)?;
    let context = context.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter_mut().find(|cluster| cluster.name == context.cluster);
    let user = kubeconfig.auth_infos.iter_mut().find(|user| Some(&user.name) == context.user.as_ref());
    Some((cluster.and_then(|named| named.cluster.as_mut()), user.and_then(|named| named.auth_info.as_mut())))
}

/// Rejects credentials from other programs, which the image does not contain.
fn supported(user: &AuthInfo) -> Result<(), String> {
    let unsupported = match user {
        AuthInfo { exec: Some(_), .. } => "exec",
        AuthInfo { auth_provider: Some(_), .. } => "auth-provider",
        _ => return Ok(()),
    };
    Err(format!(
        "the user of the current context has credentials of type {unsupported}, which metrics-core does not support; \
         use tokenFile, token or a client certificate"
    ))
}

fn read(path: &Path) -> Result<Kubeconfig, Error> {
    Kubeconfig::read_from(path)
        .map_err(|error| Error::Kubeconfig { path: path.to_owned(), problem: error_chain(&error) })
}
