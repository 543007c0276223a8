//! Runs the operator: acquires the Lease, reconciles when something changes, and stops on a signal.
//!
//! `reconcile.rs` is the loop's body, `requeue.rs` computes its pauses, `election.rs` holds the Lease, `endpoints.rs` serves
//! health and metrics.

mod election;
mod endpoints;
mod reconcile;
mod requeue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};

use crate::apply::ApiServers;
use crate::report::Telemetry;
use crate::settings::{FlagError, Flags};
use election::Election;
use endpoints::Health;
use reconcile::Reconciler;

/// Changes come in bursts: the loop waits this long for the rest of one.
const BURST: Duration = Duration::from_millis(100);

const USER_AGENT: &str = concat!("metrics-pipeline-operator/", env!("CARGO_PKG_VERSION"));

const FIRST_RETRY: Duration = Duration::from_secs(1);
/// No watch reports that an error is over, and a condition must be correct again within half a minute.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Why the operator stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting is missing.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// No configuration for kube-apiserver was found.
    #[error("found neither an in-cluster configuration nor a kubeconfig (KUBECONFIG): {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be created.
    #[error("the client for kube-apiserver could not be created: {0}")]
    Client(#[from] kube::Error),
    /// The address is in use or not allowed.
    #[error("cannot listen on --bind-address {0}: {1}")]
    Bind(std::net::SocketAddr, std::io::Error),
    /// The process cannot handle signals.
    #[error("cannot handle signals: {0}")]
    Signal(std::io::Error),
    /// Another operator may write now.
    #[error(
        "the Lease {} was lost; the process exits, because only the holder of the Lease may write",
        crate::common::names::LEASE
    )]
    LeaseLost,
}

/// Runs the operator until a signal arrives or the Lease is lost.
pub async fn run(flags: Flags) -> Result<(), RunError> {
    let settings = flags.settings()?;
    let mut config = Config::infer().await?;
    // The operator decides itself what it retries, and when.
    config.default_retry = false;
    // The audit log and API Priority and Fairness identify clients by it.
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    let servers = ApiServers::of(&config);
    let client = Client::try_from(config)?;
    let telemetry = Telemetry::default();
    let health = Arc::new(Health::default());
    let listener = endpoints::bind(flags.bind_address)
        .await
        .map_err(|error| RunError::Bind(flags.bind_address, error))?;
    let mut stop = Stop::new().map_err(RunError::Signal)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = settings.namespace,
        image = settings.image,
        identity = settings.identity,
        "started"
    );
    if settings.image.is_none() {
        tracing::warn!(
            "--metrics-core-image is not set: every MetricsPipeline must set spec.metricsCore.image"
        );
    }
    let serve = endpoints::serve(listener, health.clone(), telemetry.clone());
    let mut election = flags
        .leader_elect
        .then(|| Election::new(client.clone(), &settings.namespace, settings.identity.clone()));
    let act = async {
        if let Some(election) = &mut election {
            wait_for_kube_apiserver(&client, &health).await;
            election.acquire().await;
            tracing::info!("acquired the Lease");
        }
        telemetry.set_leader(true);
        let reconciler = Reconciler::new(&client, servers, settings, telemetry.clone());
        let reconcile = reconcile_forever(reconciler, &health, &telemetry);
        match &mut election {
            // Whichever ends first cancels the other, so that nothing is written after the Lease is lost.
            Some(election) => tokio::select! {
                () = election.keep() => Err(RunError::LeaseLost),
                never = reconcile => match never {},
            },
            None => match reconcile.await {},
        }
    };
    let ended = tokio::select! {
        ended = act => ended,
        () = serve => Ok(()),
        () = stop.requested() => {
            tracing::info!("stopping");
            Ok(())
        }
    };
    if let (Ok(()), Some(election)) = (&ended, &mut election) {
        election.release().await;
    }
    ended
}

/// Waits until kube-apiserver responds: an operator that stands by is ready, too.
async fn wait_for_kube_apiserver(client: &Client, health: &Health) {
    while let Err(error) = client.apiserver_version().await {
        tracing::warn!(%error, "cannot reach kube-apiserver");
        tokio::time::sleep(FIRST_RETRY).await;
    }
    health.ready();
}

async fn reconcile_forever(
    mut reconciler: Reconciler,
    health: &Health,
    telemetry: &Telemetry,
) -> std::convert::Infallible {
    let changes = reconciler.changes();
    let mut retry = FIRST_RETRY;
    let mut reported = String::new();
    loop {
        let started = Instant::now();
        let result = reconciler.reconcile().await;
        telemetry.reconciled(result.is_ok(), started.elapsed());
        health.beat();
        let failed = result.is_err();
        let pause = match result {
            Ok(pause) => {
                health.ready();
                retry = FIRST_RETRY;
                reported.clear();
                pause
            }
            Err(error) => {
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
                // A repeated error is logged at debug level only.
                let message = error.to_string();
                if message == reported {
                    tracing::debug!(%error, "the reconcile failed again");
                } else {
                    tracing::warn!(%error, seconds = pause.as_secs(), "the reconcile failed; retrying");
                    reported = message;
                }
                pause
            }
        };
        tokio::select! {
            () = changes.changed() => {
                // A failed reconcile may itself cause changes; they must not make its retries faster.
                tokio::time::sleep(if failed { pause.min(Duration::from_secs(1)) } else { BURST }).await;
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// SIGTERM, which the kubelet sends, or SIGINT, which a terminal sends.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
