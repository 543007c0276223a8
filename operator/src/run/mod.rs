//! The process's life: wait for the Lease, reconcile when something changes, stop in order.

mod election;
mod endpoints;
mod reconcile;
mod requeue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Telemetry;
use crate::settings::{FlagError, Flags};
use election::Election;
use endpoints::Health;
use reconcile::Reconciler;

/// Changes come in bursts; so long is waited for the rest of one.
const BURST: Duration = Duration::from_millis(100);

const USER_AGENT: &str = concat!("metrics-pipeline-operator/", env!("CARGO_PKG_VERSION"));

const FIRST_RETRY: Duration = Duration::from_secs(1);
/// No watch tells that a refusal is over, and a condition is to be true again within half a minute.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Why the operator stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A flag is missing.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// There is no way to kube-apiserver.
    #[error("no configuration for kube-apiserver was found, neither of a pod nor in KUBECONFIG: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be made.
    #[error("the client for kube-apiserver could not be made: {0}")]
    Client(#[from] kube::Error),
    /// The address is taken.
    #[error("--bind-address {0}: can't be listened on: {1}")]
    Bind(std::net::SocketAddr, std::io::Error),
    /// Signals can't be handled.
    #[error("signals can't be handled: {0}")]
    Signal(std::io::Error),
    /// Another operator may act now.
    #[error(
        "the Lease {} was lost; this process must not write any more and is to be started again",
        crate::common::names::LEASE
    )]
    LeaseLost,
}

/// Runs until a signal or until the Lease is lost.
pub async fn run(flags: Flags) -> Result<(), RunError> {
    let settings = flags.settings()?;
    let mut config = Config::infer().await?;
    // Whether and when to try again is decided here, where it is known what for.
    config.default_retry = false;
    // The audit log and API priority and fairness tell clients apart by it.
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    let auth = config.auth_info.clone();
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
        tracing::warn!("--metrics-core-image is not set: every MetricsPipeline must name its image");
    }
    let serve = endpoints::serve(listener, health.clone(), telemetry.clone());
    let mut election = flags
        .leader_elect
        .then(|| Election::new(client.clone(), &settings.namespace, settings.identity.clone()));
    let act = async {
        if let Some(election) = &mut election {
            reach(&client, &health).await;
            election.acquire().await;
            tracing::info!("acting");
        }
        telemetry.leads(true);
        let reconciler = Reconciler::new(&client, settings, telemetry.clone(), &auth);
        let reconcile = reconcile_forever(reconciler, &health, &telemetry);
        match &mut election {
            // Whichever ends first drops the other in the middle of what it does, and nothing is written after.
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

/// Waits until kube-apiserver answers: who stands by is ready too.
async fn reach(client: &Client, health: &Health) {
    while let Err(error) = client.apiserver_version().await {
        tracing::warn!(%error, "kube-apiserver can't be reached");
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
    let mut told = String::new();
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
                told.clear();
                pause
            }
            Err(error) => {
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
                // The same error again is no news.
                let message = error.to_string();
                if message == told {
                    tracing::debug!(%error, "the reconcile failed again");
                } else {
                    tracing::warn!(%error, seconds = pause.as_secs(), "the reconcile failed; it is tried again");
                    told = message;
                }
                pause
            }
        };
        tokio::select! {
            () = changes.changed() => {
                // What failed is not tried again faster because its own retries change something.
                tokio::time::sleep(if failed { pause.min(Duration::from_secs(1)) } else { BURST }).await;
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// SIGTERM, as the kubelet sends, or SIGINT, as a terminal does.
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
