//! Runs the election on a thread of its own.

use std::thread;

use tokio::sync::{oneshot, watch};

use super::election::Election;

/// The state of the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Leading,
    Ended,
}

/// The election of this process.
pub(super) struct Leader {
    state: watch::Receiver<State>,
    stop: oneshot::Sender<()>,
}

impl Leader {
    /// Starts the election.
    pub(super) fn start(mut election: Election) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (report, state) = watch::channel(State::Waiting);
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("election".to_owned()).spawn(move || {
            runtime.block_on(async {
                let lead = async {
                    election.acquire().await;
                    report.send_replace(State::Leading);
                    election.keep().await;
                };
                let is_stopped = tokio::select! {
                    () = lead => false,
                    _ = stopped => true,
                };
                if is_stopped {
                    election.release().await;
                }
                report.send_replace(State::Ended);
            });
        })?;
        Ok(Self { state, stop })
    }

    /// Waits until this process holds the Lease.
    pub(super) async fn acquired(&mut self) {
        self.reached(State::Leading).await;
    }

    /// Waits until the Lease is lost.
    pub(super) async fn lost(&mut self) {
        self.reached(State::Ended).await;
    }

    /// Releases the Lease, if this process holds it.
    pub(super) async fn release(mut self) {
        _ = self.stop.send(());
        _ = self.state.wait_for(|state| *state == State::Ended).await;
    }

    /// A thread that ended early has lost the Lease.
    async fn reached(&mut self, wanted: State) {
        if self.state.wait_for(|state| *state == wanted || *state == State::Ended).await.is_err() {
            tracing::error!("the thread of the election stopped");
        }
    }
}
