//! Starts ingestion with the options.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cluster;
use crate::flags::{KubeletTrust, Options};
use crate::ingest::discover::{self, AddressType};
use crate::ingest::scrape::{self, Credentials, KubeletTls};
use crate::ingest::store::{self, Store, StoreDirectory};
use crate::memory::MemoryBudget;
use prometheus_client::registry::Registry;
use tokio::task::{AbortHandle, JoinSet};

use super::error::Error;

/// The running ingestion and its data.
pub(super) struct Ingest {
    /// The nodes and pods.
    pub(crate) directory: Arc<StoreDirectory>,
    /// The samples.
    pub(crate) store: Arc<Store>,
    /// The results of scrapes.
    pub(crate) findings: scrape::Findings,
    /// The progress of the watches of nodes and pods.
    pub(crate) watches: discover::Heartbeats,
    /// The task that watches nodes and pods.
    pub(crate) discovering: AbortHandle,
    /// The task that scrapes.
    pub(crate) scraping: AbortHandle,
}

/// Starts discovery and scraping.
pub(super) fn start(
    options: &Options,
    client: &kube::Client,
    memory: &Arc<MemoryBudget>,
    registry: &mut Registry,
    tasks: &mut JoinSet<()>,
) -> Result<Ingest, Error> {
    let (tls, credentials) = kubelet_access(options)?;
    let directory = Arc::new(StoreDirectory::new());
    let store = Store::new(directory.clone(), store::StoreConfig::new(options.metric_resolution));
    let store = Arc::new(store.with_memory(memory.clone()));
    store::StoreMetrics::new(store.clone()).register(registry);
    let metrics = scrape::ScrapeMetrics::default();
    metrics.register(registry);

    let config = discover::DiscoveryConfig {
        node_selector: options.node_selector.clone(),
        kubelet_port: options.kubelet_port,
        use_node_status_port: options.use_node_status_port,
        address_types: address_types(options)?,
    };
    let watches = discover::Heartbeats::default();
    let run = discover::run(client.clone(), config, directory.clone(), watches.clone());
    let discovering = tasks.spawn(endless(run));
    let config = scrape::ScrapeConfig {
        scrape_interval: options.metric_resolution,
        timeout: options.kubelet_timeout,
        tls,
        credentials,
        memory: memory.clone(),
    };
    let findings = scrape::Findings::new(options.metric_resolution);
    findings.samples.register(registry);
    let run = scrape::run(config, directory.clone(), store.clone(), metrics, findings.clone());
    let scraping = tasks.spawn(endless(run));
    Ok(Ingest { directory, store, findings, watches, discovering, scraping })
}

/// Runs a loop that should not end. If it does, its liveness check fails, so that the kubelet restarts the container.
async fn endless(run: impl Future<Output = ()>) {
    run.await;
    tracing::error!("a background task stopped unexpectedly");
}

fn address_types(options: &Options) -> Result<Vec<AddressType>, Error> {
    let flag = "kubelet-preferred-address-types";
    let parsed = options.address_types.iter().map(|name| name.parse::<AddressType>());
    let types = parsed
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Flag { flag, problem: error.to_string() })?;
    if types.is_empty() {
        return Err(Error::Flag {
            flag,
            problem: "contains no address type; set at least one, or remove the flag".to_owned(),
        });
    }
    Ok(types)
}

fn kubelet_access(options: &Options) -> Result<(KubeletTls, Credentials), Error> {
    let defaults = cluster::for_kubelets(options.kubeconfig.as_deref())?;
    let ca_file = || -> Result<PathBuf, Error> {
        defaults.ca_file.clone().ok_or_else(|| Error::Flag {
            flag: "kubelet-certificate-authority",
            problem: "is required: the kubeconfig does not set certificate-authority to a file".to_owned(),
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
                "kubelets are not verified (--kubelet-insecure-tls): any host that impersonates one receives the credentials of metrics-core"
            );
            KubeletTls::Insecure
        }
    };
    let certificate = options.kubelet_client.clone().or(defaults.client_certificate);
    let credentials = match (certificate, defaults.token_file) {
        (Some((cert, key)), _) => Credentials::ClientCertificate { cert, key },
        (None, Some(token)) => Credentials::TokenFile(token),
        (None, None) => {
            return Err(Error::Flag {
                flag: "kubelet-client-certificate",
                problem: "is required, with --kubelet-client-key: the kubeconfig sets neither tokenFile nor client-certificate"
                    .to_owned(),
            });
        }
    };
    Ok((tls, credentials))
}
