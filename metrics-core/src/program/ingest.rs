//! The half that knows kubelets: made of the options, and started.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cluster;
use crate::flags::{KubeletTrust, Options};
use crate::ingest::discover::{self, AddressType};
use crate::ingest::scrape::{self, Credentials, KubeletTls};
use crate::ingest::store::{self, Directory, Store};
use prometheus_client::registry::Registry;
use tokio::task::{AbortHandle, JoinSet};

use super::error::Error;

/// What runs, and what it fills.
pub struct Ingest {
    /// Who exists.
    pub directory: Arc<Directory>,
    /// The samples.
    pub store: Arc<Store>,
    /// How kubelets fare.
    pub findings: scrape::Findings,
    /// The task that watches nodes and pods.
    pub discovering: AbortHandle,
    /// The task that scrapes.
    pub scraping: AbortHandle,
}

/// Starts discovering and scraping.
pub fn start(
    options: &Options,
    client: &kube::Client,
    registry: &mut Registry,
    tasks: &mut JoinSet<()>,
) -> Result<Ingest, Error> {
    let (tls, credentials) = kubelet_access(options)?;
    let directory = Arc::new(Directory::new());
    let store = Arc::new(Store::new(directory.clone(), store::Config::new(options.metric_resolution)));
    store::Metrics::new(store.clone()).register(registry);
    let metrics = scrape::Metrics::default();
    metrics.register(registry);

    let config = discover::Config {
        node_selector: options.node_selector.clone(),
        kubelet_port: options.kubelet_port,
        use_node_status_port: options.use_node_status_port,
        address_types: address_types(options)?,
    };
    let discovering = tasks.spawn(endless(discover::run(client.clone(), config, directory.clone())));
    let config = scrape::Config {
        resolution: options.metric_resolution,
        timeout: options.kubelet_timeout,
        tls,
        credentials,
    };
    let findings = scrape::Findings::default();
    let run = scrape::run(config, directory.clone(), store.clone(), metrics, findings.clone());
    let scraping = tasks.spawn(endless(run));
    Ok(Ingest { directory, store, findings, discovering, scraping })
}

/// A loop that should not end. If it does, its liveness check fails, so that the process is started anew.
async fn endless(run: impl Future<Output = ()>) {
    run.await;
    tracing::error!("a loop that never ends has ended");
}

fn address_types(options: &Options) -> Result<Vec<AddressType>, Error> {
    let flag = "kubelet-preferred-address-types";
    let parsed = options.address_types.iter().map(|name| name.parse::<AddressType>());
    let types = parsed
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Flag { flag, problem: error.to_string() })?;
    if types.is_empty() {
        return Err(Error::Flag { flag, problem: "names no type; leave it out, or give some".to_owned() });
    }
    Ok(types)
}

fn kubelet_access(options: &Options) -> Result<(KubeletTls, Credentials), Error> {
    let found = cluster::for_kubelets(options.kubeconfig.as_deref())?;
    let ca_file = || -> Result<PathBuf, Error> {
        found.ca_file.clone().ok_or_else(|| Error::Flag {
            flag: "kubelet-certificate-authority",
            problem: "is needed: the kubeconfig names no file with the cluster's CA".to_owned(),
        })
    };
    let verified = |ca_file| {
        if options.kubelet_pin { KubeletTls::Pin { ca_file } } else { KubeletTls::Verify { ca_file } }
    };
    let tls = match &options.kubelet_trust {
        KubeletTrust::ClusterCa => verified(ca_file()?),
        KubeletTrust::CaFile(ca_file) => verified(ca_file.clone()),
        KubeletTrust::Insecure => {
            tracing::warn!(
                "kubelets are not verified (--kubelet-insecure-tls): who poses as one gets our credentials"
            );
            KubeletTls::Insecure
        }
    };
    let certificate = options.kubelet_client.clone().or(found.client_certificate);
    let credentials = match (certificate, found.token_file) {
        (Some((cert, key)), _) => Credentials::ClientCertificate { cert, key },
        (None, Some(token)) => Credentials::TokenFile(token),
        (None, None) => {
            return Err(Error::Flag {
                flag: "kubelet-client-certificate",
                problem: "is needed, with --kubelet-client-key: the kubeconfig names no file with a token or client certificate"
                    .to_owned(),
            });
        }
    };
    Ok((tls, credentials))
}
