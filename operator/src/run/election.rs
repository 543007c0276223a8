//! Leader election: the Lease that lets only one of several operators write.
//!
//! The rules are those of client-go's leaderelection. Every write carries the resourceVersion that it was decided on, so
//! two candidates can't both succeed. A candidate measures the expiry of another holder's Lease with its own clock, from
//! when it saw the Lease change, so clocks need not agree. A holder that can't renew in time stops before its Lease expires.
//!
//! A candidate has connections of its own and drops them when a request fails. [`leader`](super::leader) runs it on a thread
//! of its own, so that neither a slow reconcile nor its requests delay a renewal.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::lease_hold::LeaseHold;
use crate::common::names::LEASE;
use crate::common::{FIELD_MANAGER, error_chain};
use crate::settings::LeaseTiming;

/// Creates a client with connections of its own.
pub(super) type Connect = Box<dyn Fn() -> Result<Client, kube::Error> + Send>;

/// A candidate.
pub(super) struct Election {
    connect: Connect,
    /// `None` until the first request, and after a request without a response.
    api: Option<Api<Lease>>,
    namespace: String,
    identity: String,
    timing: LeaseTiming,
    hold: LeaseHold,
    /// The Lease as it was last seen.
    seen: Option<Seen>,
    /// Whether it may have changed since, as the response to a write was lost.
    is_outdated: bool,
    /// When the last attempt began.
    attempted: Instant,
    /// When the last successful write was sent. No other candidate saw it earlier, however late the response came.
    renewed: Instant,
}

struct Seen {
    lease: Lease,
    since: Instant,
}

impl Election {
    /// Creates a candidate that does not hold the Lease. It extends `hold` whenever it renews the Lease.
    #[must_use]
    pub(super) fn new(
        connect: Connect,
        namespace: String,
        identity: String,
        timing: LeaseTiming,
        hold: LeaseHold,
    ) -> Self {
        Self {
            connect,
            api: None,
            namespace,
            identity,
            timing,
            hold,
            seen: None,
            is_outdated: false,
            attempted: Instant::now(),
            renewed: Instant::now(),
        }
    }

    /// Waits until this process holds the Lease.
    pub(super) async fn acquire(&mut self) {
        let mut reported = None;
        loop {
            let next = Instant::now() + self.timing.retry_period;
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {
                    let holder = self.seen.as_ref().and_then(|seen| holder(&seen.lease)).map(str::to_owned);
                    if reported != holder {
                        tracing::info!(holder, "waiting for the Lease: another operator holds it");
                        reported = holder;
                    }
                }
                Err(error) => tracing::warn!(error, "the Lease could not be read or written"),
            }
            sleep_until(next).await;
        }
    }

    /// Renews the Lease. Returns when it is lost or was not renewed in time: then another candidate may write.
    pub(super) async fn keep(&mut self) {
        loop {
            let deadline = self.renewed + self.timing.write_window();
            // At once after an attempt that had no response.
            let next = self.attempted + self.timing.retry_period;
            // The deadline also interrupts an attempt.
            match timeout_at(deadline, self.attempt_at(next)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => break,
                Ok(Err(error)) => tracing::warn!(error, "the Lease was not renewed; retrying"),
            }
        }
        self.hold.end();
    }

    /// Releases the Lease, so that the next candidate need not wait for its expiry. Nothing may be written any more.
    pub(super) async fn release(&mut self) {
        self.hold.end();
        let Some(seen) = self.seen.take().filter(|seen| holder(&seen.lease) == Some(&self.identity)) else {
            return;
        };
        let mut lease = seen.lease;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        let Some(api) = &self.api else { return };
        let response = timeout(self.timing.attempt(), api.replace(LEASE, &parameters(), &lease)).await;
        if !matches!(response, Ok(Ok(_))) {
            tracing::warn!("the Lease was not released; it expires by itself");
        }
    }

    async fn attempt_at(&mut self, time: Instant) -> Result<bool, String> {
        sleep_until(time).await;
        self.attempt().await
    }

    /// Tries once to acquire or renew the Lease. Returns whether this process holds it.
    async fn attempt(&mut self) -> Result<bool, String> {
        let sent = Instant::now();
        self.attempted = sent;
        // Also when the attempt is interrupted: it may have written the Lease.
        let was_outdated = std::mem::replace(&mut self.is_outdated, true);
        let error = match timeout(self.timing.attempt(), self.acquire_or_renew(was_outdated)).await {
            Ok(Ok(ours)) => {
                self.is_outdated = false;
                if ours {
                    self.renewed = sent;
                    self.hold.extend(sent + self.timing.write_window());
                }
                return Ok(ours);
            }
            Ok(Err(kube::Error::Api(status))) => return Err(status.to_string()),
            Ok(Err(error)) => error_chain(&error),
            Err(_) => format!("no response within {:.1} s", self.timing.attempt().as_secs_f64()),
        };
        // The connection may be dead, and the next attempt must not wait until that is noticed.
        self.api = None;
        Err(error)
    }

    async fn acquire_or_renew(&mut self, mut read: bool) -> Result<bool, kube::Error> {
        let api = if let Some(api) = &self.api {
            api.clone()
        } else {
            let api = Api::namespaced((self.connect)()?, &self.namespace);
            self.api.insert(api).clone()
        };
        // The second time after a conflict: another candidate was faster, or the response to the last write was lost.
        for is_last in [false, true] {
            // The holder knows the version.
            let own = self.seen.as_ref().filter(|seen| !read && holder(&seen.lease) == Some(&self.identity));
            let current = if let Some(seen) = own {
                Some(seen.lease.clone())
            } else {
                let read = api.get_opt(LEASE).await?;
                self.see(read.clone());
                read
            };
            let now = Timestamp::now();
            let written = match current {
                None => {
                    let mut lease = claimed(None, &self.identity, self.timing.duration, now);
                    lease.metadata.name = Some(LEASE.to_owned());
                    api.create(&parameters(), &lease).await
                }
                Some(current) if self.may_take(&current) => {
                    let lease = claimed(Some(current), &self.identity, self.timing.duration, now);
                    api.replace(LEASE, &parameters(), &lease).await
                }
                Some(_) => return Ok(false),
            };
            match written {
                Ok(lease) => {
                    self.see(Some(lease));
                    return Ok(true);
                }
                Err(kube::Error::Api(status))
                    if !is_last && (status.code == 409 || status.is_not_found()) =>
                {
                    read = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn see(&mut self, lease: Option<Lease>) {
        let Some(lease) = lease else {
            self.seen = None;
            return;
        };
        let unchanged = self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.lease.metadata.resource_version == lease.metadata.resource_version);
        if !unchanged {
            self.seen = Some(Seen { lease, since: Instant::now() });
        }
    }

    fn may_take(&self, lease: &Lease) -> bool {
        let ours_or_free = holder(lease).is_none_or(|holder| holder == self.identity);
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let recorded = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
        let duration = recorded.map_or(self.timing.duration, Duration::from_secs);
        ours_or_free || self.seen.as_ref().is_some_and(|seen| seen.since.elapsed() >= duration)
    }
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// Returns the Lease with this process as its holder. It keeps its version, so that the write fails if it changed.
fn claimed(current: Option<Lease>, identity: &str, duration: Duration, now: Timestamp) -> Lease {
    let before = current.unwrap_or_default();
    let spec = before.spec.clone().unwrap_or_default();
    let stays = holder(&before) == Some(identity);
    let transitions = spec.lease_transitions.unwrap_or(0);
    Lease {
        metadata: ObjectMeta { managed_fields: None, ..before.metadata.clone() },
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
            acquire_time: if stays { spec.acquire_time } else { Some(MicroTime(now)) },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if stays { transitions } else { transitions.saturating_add(1) }),
            ..spec
        }),
    }
}

#[cfg(test)]
mod tests;
