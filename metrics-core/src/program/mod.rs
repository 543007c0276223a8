//! The program: starts ingestion and the HTTPS server, and shuts them down.

mod clusters;
mod error;
mod health;
mod ingest;
mod liveness;
mod metrics_api;
mod readiness;
mod security;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::api::Api;
use crate::flags;
use crate::flags::Options;
use crate::server::authorization::AlwaysAllow;
use crate::server::listen::{self, Chain, Handlers, Limits};
use crate::server::{authentication, tls};
use crate::telemetry::WatchAges;
use crate::{report, telemetry};
use http::HeaderValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use self::clusters::Clusters;
use self::error::Error;
use self::metrics_api::MetricsApi;
use self::readiness::Readiness;

/// The program before its start.
#[derive(Debug)]
pub struct Program {
    options: Options,
    tls_policy: tls::TlsPolicy,
    always_allow: AlwaysAllow,
}

impl Program {
    /// Validates the options whose values other modules define.
    pub fn new(mut options: Options) -> Result<Self, flags::Error> {
        let tls_policy = settings::tls_policy(&options.tls, &mut options.notes)?;
        let always_allow = settings::always_allow(&options.always_allow_paths)?;
        Ok(Self { options, tls_policy, always_allow })
    }

    /// Starts the log. Must be called once.
    pub fn start_log(&self) -> Result<(), impl std::error::Error + use<>> {
        telemetry::start_log(self.options.logging)
    }

    /// Runs until SIGTERM or SIGINT, then until open requests are finished.
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
    let mut registry = telemetry::registry();
    // Dropping it at the end aborts all tasks.
    let mut tasks = JoinSet::new();
    let clusters = Clusters::new(&options, &mut tasks).await?;
    clusters.main.register(&mut registry);
    let mut ages = WatchAges::default();

    let serving = security::serving_certificate(&options, &clusters.main, &mut ages, &mut tasks)?;
    let trust = security::trust(&options, &clusters.authentication, &mut ages, &mut tasks)?;
    let ingest = ingest::start(&options, &clusters.main, &mut ages, &mut registry, &mut tasks)?;
    ages.register(&mut registry);

    let (request_metrics, credentials, connections) = (
        listen::RequestMetrics::default(),
        authentication::CredentialMetrics::default(),
        listen::ConnectionMetrics::default(),
    );
    request_metrics.register(&mut registry);
    credentials.register(&mut registry);
    connections.register(&mut registry);

    let shutting_down = Arc::new(AtomicBool::new(false));
    let readiness = Arc::new(Readiness::default());
    tasks.spawn(readiness::watch_other_replicas(clusters.main.client()?, readiness.clone()));
    let max_scrape_pause = liveness::max_scrape_pause(options.metric_resolution, options.kubelet_timeout);
    let health = health::checks(&ingest, max_scrape_pause, &serving, &trust, &shutting_down, readiness);
    let limits = Limits {
        request: options.request_timeout,
        in_flight: options.max_in_flight,
        streams: options.http2_max_streams,
        ..Limits::default()
    };
    let hsts = options.strict_transport_security.as_deref().map(HeaderValue::from_str).transpose()?;
    let api = Api::new(ingest.store.clone(), settings::api_config(&options));
    api.register(&mut registry);
    let api = Arc::new(MetricsApi::new(api));
    let authenticator = security::authenticator(&options, &clusters.authentication, trust, credentials)?;
    let report = report::ReportSources {
        started,
        store: ingest.store.clone(),
        kubelets: ingest.findings.clone(),
        connections: connections.clone(),
        serving: serving.clone(),
        watches: ages,
        credentials: authenticator.history().clone(),
    };
    let handlers = Handlers {
        authenticator,
        authorizer: security::authorizer(&options, always_allow, &clusters.authorization)?,
        health,
        registry: Arc::new(registry),
        request_metrics,
        report: Box::new(move || report.report()),
        api: api.clone(),
    };
    let chain = Chain::new(handlers, &limits, hsts);
    let config = tls::server_config(&tls_policy, serving, options.http2)?;
    let listener = listen::bind(options.bind_address, options.secure_port).await?;
    let signal = shutdown_signal(options.shutdown_delay, shutting_down)?;
    let stop = async {
        signal.await;
        api.end_watches();
    };
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving the Metrics API");
    listen::serve(listener, config, Arc::new(chain), limits, connections, stop).await;
    tracing::info!("stopped");
    Ok(())
}

/// Returns a future that resolves `delay` after SIGTERM or SIGINT, or at the second signal. In between, `/readyz`
/// fails and requests are still served.
fn shutdown_signal(
    delay: Duration,
    shutting_down: Arc<AtomicBool>,
) -> Result<impl Future<Output = ()>, Error> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutting_down.store(true, Ordering::Relaxed);
        tracing::info!("shutting down; requests are still served for {delay:?}");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
