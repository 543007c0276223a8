//! discover → scrape → store → serve, and the port beside them: started, watched and ended.

mod access;
mod api;
mod error;
mod handover;
mod ingest;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::api as metrics_api;
use crate::flags;
use crate::flags::Options;
use crate::server::authorization::AlwaysAllow;
use crate::server::listen::health::Health;
use crate::server::listen::{self, Chain, Limits};
use crate::server::{authentication, tls};
use crate::{cluster, report, telemetry};
use http::HeaderValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use self::error::Error;
use self::handover::Handover;

/// The program, configured and not yet started.
#[derive(Debug)]
pub struct Program {
    options: Options,
    tls_policy: tls::Policy,
    always_allow: AlwaysAllow,
}

impl Program {
    /// Validates the options that the flags' table alone can't judge.
    pub fn new(mut options: Options) -> Result<Self, flags::Error> {
        let tls_policy = settings::tls_policy(&options.tls, &mut options.notes)?;
        let always_allow = settings::always_allow(&options.always_allow_paths)?;
        Ok(Self { options, tls_policy, always_allow })
    }

    /// Returns the log's settings.
    #[must_use]
    pub fn logging(&self) -> telemetry::Logging {
        self.options.logging
    }

    /// Runs until SIGTERM or SIGINT, and then until open requests are answered.
    pub async fn run(self) -> Result<(), Error> {
        run(self).await
    }
}

async fn run(Program { options, tls_policy, always_allow }: Program) -> Result<(), Error> {
    let started = jiff::Timestamp::now();
    for note in &options.notes {
        tracing::warn!("{note}");
    }
    let _ = tls::provider().install_default();
    let client = cluster::client(options.kubeconfig.as_deref()).await?;
    let mut registry = telemetry::registry();
    // Dropped at the end, and all these tasks with it.
    let mut tasks = JoinSet::new();

    let serving = access::serving_certificate(&options, &client, &mut tasks)?;
    let trust = access::trust(&options, &client, &mut tasks).await?;
    let ingest = ingest::start(&options, &client, &mut registry, &mut tasks)?;

    let (requests, credentials, connections) =
        (listen::RequestMetrics::default(), authentication::Metrics::default(), listen::Metrics::default());
    requests.register(&mut registry);
    credentials.register(&mut registry);
    connections.register(&mut registry);

    let ending = Arc::new(AtomicBool::new(false));
    let handover = Arc::new(Handover::default());
    tasks.spawn(handover::watch(client.clone(), handover.clone()));
    let health = health(&ingest, &serving, &trust, &ending, handover);
    let limits = Limits {
        request: options.request_timeout,
        in_flight: options.max_in_flight,
        streams: options.http2_max_streams,
        ..Limits::default()
    };
    let hsts = options.strict_transport_security.as_deref().map(HeaderValue::from_str).transpose()?;
    let metrics_api = metrics_api::Api::new(ingest.store.clone(), settings::api_config(&options));
    metrics_api.register(&mut registry);
    let resources = Arc::new(api::MetricsApi::new(metrics_api));
    let authenticator = access::authenticator(&options, &client, trust, credentials).await?;
    let report = report::Sources {
        started,
        store: ingest.store.clone(),
        kubelets: ingest.findings.clone(),
        connections: connections.clone(),
        serving: serving.clone(),
        credentials: authenticator.evidence().clone(),
    };
    let chain = Chain::new(
        authenticator,
        access::authorizer(&options, always_allow, &client).await?,
        health,
        Arc::new(registry),
        requests,
        Box::new(move || report.write()),
        resources.clone(),
        &limits,
        hsts,
    );
    let config = tls::server_config(&tls_policy, serving, options.http2)?;
    let listener = listen::bind(options.bind_address, options.secure_port).await?;
    let told = stop(options.shutdown_delay, ending)?;
    let stop = async {
        told.await;
        resources.end_watches();
    };
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving the Metrics API");
    listen::serve(listener, config, Arc::new(chain), limits, connections, stop).await;
    tracing::info!("ended");
    Ok(())
}

fn health(
    ingest: &ingest::Ingest,
    serving: &Arc<tls::ServingCertificate>,
    trust: &Arc<authentication::trust::LiveTrust>,
    ending: &Arc<AtomicBool>,
    handover: Arc<Handover>,
) -> Health {
    let passes = |good: bool, why: &str| if good { Ok(()) } else { Err(why.to_owned()) };
    let (discovering, scraping) = (ingest.discovering.clone(), ingest.scraping.clone());
    let (directory, store) = (ingest.directory.clone(), ingest.store.clone());
    let (serving, trust, ending) = (serving.clone(), trust.clone(), ending.clone());
    Health::new()
        .live("discovery-loop", move || {
            passes(!discovering.is_finished(), "the task that watches nodes and pods has ended")
        })
        .live("scrape-loop", move || {
            passes(!scraping.is_finished(), "the task that scrapes kubelets has ended")
        })
        .ready("directory-synced", move || passes(directory.synced(), "nodes and pods are not listed yet"))
        .ready("samples-cover-nodes", move || {
            if store.ready() {
                return handover.check(Instant::now(), || store.coverage());
            }
            let coverage = store.coverage();
            Err(format!(
                "{} of {} nodes have been scraped twice, {} fail",
                coverage.nodes_covered, coverage.nodes, coverage.nodes_failing
            ))
        })
        .ready("serving-certificate", move || {
            passes(serving.ready(), "the serving certificate is not there yet")
        })
        .ready("authentication-config", move || {
            passes(
                trust.ready(),
                "ConfigMap kube-system/extension-apiserver-authentication has not been read yet",
            )
        })
        .ready("shutdown", move || passes(!ending.load(Ordering::Relaxed), "process is shutting down"))
}

/// Resolves some time after SIGTERM or SIGINT, while which `/readyz` fails and requests are still taken; at once
/// at the second signal.
fn stop(delay: std::time::Duration, ending: Arc<AtomicBool>) -> Result<impl Future<Output = ()>, Error> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ending.store(true, Ordering::Relaxed);
        tracing::info!("told to end; requests are still taken for {delay:?}");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
