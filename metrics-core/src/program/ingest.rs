//! Starts ingestion with the options.

use std::sync::Arc;

use crate::cluster::{self, Cluster};
use crate::flags::{KubeletTrust, Options};
use crate::ingest::discover::{self, AddressType};
use crate::ingest::scrape::{self, Credentials, KubeletTls};
use crate::ingest::store::{self, Store, StoreDirectory};
use crate::telemetry::WatchAges;
use crate::watched_file::Source;
use crds::report::WatchTarget;
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
    /// The tasks of these watches.
    pub(crate) discovering: Discovering,
    /// The task that scrapes.
    pub(crate) scraping: AbortHandle,
}

/// The tasks that watch nodes and pods.
pub(super) struct Discovering {
    pub(crate) nodes: AbortHandle,
    pub(crate) pods: AbortHandle,
}

/// Starts discovery and scraping.
pub(super) fn start(
    options: &Options,
    cluster: &Cluster,
    ages: &mut WatchAges,
    registry: &mut Registry,
    tasks: &mut JoinSet<()>,
) -> Result<Ingest, Error> {
    let (tls, credentials) = kubelet_access(options)?;
    let directory = Arc::new(StoreDirectory::new());
    let store = Arc::new(Store::new(directory.clone(), store::StoreConfig::new(options.metric_resolution)));
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
    let client = cluster.dated(&ages.add(WatchTarget::Nodes))?;
    let nodes = discover::watch_nodes(client, config, directory.clone(), watches.nodes.clone());
    let client = cluster.dated(&ages.add(WatchTarget::Pods))?;
    let pods = discover::watch_pods(client, directory.clone(), watches.pods.clone());
    let discovering = Discovering { nodes: tasks.spawn(endless(nodes)), pods: tasks.spawn(endless(pods)) };
    let config = scrape::ScrapeConfig {
        scrape_interval: options.metric_resolution,
        timeout: options.kubelet_timeout,
        tls,
        credentials,
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
    let default_ca = || -> Result<Source, Error> {
        defaults.ca.clone().ok_or_else(|| Error::Flag {
            flag: "kubelet-certificate-authority",
            problem: "is required: the kubeconfig contains no certificate authority".to_owned(),
        })
    };
    let verified = |ca| if options.kubelet_pin { KubeletTls::Pin { ca } } else { KubeletTls::Verify { ca } };
    let tls = match &options.kubelet_trust {
        KubeletTrust::ClusterCa => verified(default_ca()?),
        KubeletTrust::CaFile(ca_file) => verified(ca_file.clone().into()),
        KubeletTrust::Insecure => {
            tracing::warn!(
                "kubelets are not verified (--kubelet-insecure-tls): any host that impersonates one receives the credentials of metrics-core"
            );
            KubeletTls::Insecure
        }
    };
    let certificate = options.kubelet_client.clone().map(|(cert, key)| (cert.into(), key.into()));
    let credentials = match (certificate.or(defaults.client_certificate), defaults.token) {
        (Some((cert, key)), _) => Credentials::ClientCertificate { cert, key },
        (None, Some(token)) => Credentials::Token(token),
        (None, None) => {
            return Err(Error::Flag {
                flag: "kubelet-client-certificate",
                problem: "is required, with --kubelet-client-key: the kubeconfig contains neither a token nor a client certificate"
                    .to_owned(),
            });
        }
    };
    Ok((tls, credentials))
}
