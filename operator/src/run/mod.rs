//! Runs the operator: acquires the Lease, reconciles when something changes, and stops on a signal.
//!
//! `reconcile.rs` is the loop's body, `requeue.rs` computes its pauses, `client.rs` builds the clients, `endpoints.rs` serves
//! health and metrics. `leader.rs` runs the election (`election.rs`) beside the loop, and `lease_hold.rs` keeps a process
//! without the Lease from writing.

mod client;
mod election;
mod endpoints;
mod leader;
mod lease_hold;
mod reconcile;
mod requeue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::apply::ApiServers;
use crate::common::request::within;
use crate::report::Telemetry;
use crate::settings::{FlagError, Flags, Settings};
use client::Clients;
use election::Election;
use endpoints::Health;
use leader::Leader;
use lease_hold::LeaseHold;
use reconcile::Reconciler;

/// Changes come in bursts: the loop waits this long for the rest of one.
const BURST: Duration = Duration::from_millis(100);

/// The timeout of the request that finds out whether kube-apiserver responds.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

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
    /// The thread of the election could not be started.
    #[error("cannot start the thread of the leader election: {0}")]
    Thread(std::io::Error),
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
    let clients = Clients::infer().await?;
    let servers = ApiServers::of(clients.config());
    let hold = flags.leader_elect.then(LeaseHold::default);
    let client = clients.client(hold.clone())?;
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
    let mut leader = None;
    let act = async {
        if let Some(hold) = hold {
            wait_for_kube_apiserver(&client, &health).await;
            let leader = leader.insert(elect(&clients, &settings, hold).map_err(RunError::Thread)?);
            leader.acquired().await;
            tracing::info!("acquired the Lease");
        }
        telemetry.set_leader(true);
        let reconciler = Reconciler::new(&client, servers, settings, telemetry.clone());
        let reconcile = Box::pin(reconcile_forever(reconciler, &health, &telemetry));
        match &mut leader {
            // Whichever ends first cancels the other. The Lease comes first: nothing more is sent once it is lost.
            Some(leader) => tokio::select! {
                biased;
                () = leader.lost() => Err(RunError::LeaseLost),
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
    if let (Ok(()), Some(leader)) = (&ended, leader) {
        leader.release().await;
    }
    ended
}

fn elect(clients: &Clients, settings: &Settings, hold: LeaseHold) -> std::io::Result<Leader> {
    let clients = clients.clone();
    // The Lease is written before anything may be written.
    let connect = Box::new(move || clients.client(None));
    let (namespace, identity) = (settings.namespace.clone(), settings.identity.clone());
    Leader::start(Election::new(connect, namespace, identity, settings.lease, hold))
}

/// Waits until kube-apiserver responds: an operator that stands by is ready, too.
async fn wait_for_kube_apiserver(client: &Client, health: &Health) {
    while let Err(error) = within(FIRST_REQUEST, client.apiserver_version()).await {
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
