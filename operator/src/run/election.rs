//! Leader election: the Lease that lets only one of several operators write.
//!
//! The rules are those of client-go's leaderelection. Every write carries the resourceVersion that it was decided on, so
//! two candidates can't both succeed. A candidate measures the expiry of another holder's Lease with its own clock, from
//! when it saw the Lease change, so clocks need not agree. A holder that can't renew in time stops before its Lease expires.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::common::names::LEASE;
use crate::common::{FIELD_MANAGER, error_chain};

const DURATION: Duration = Duration::from_secs(15);
/// A holder stops this long after it sent its last successful renewal: 5 s before another candidate may start.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(4);

/// A candidate.
pub(super) struct Election {
    api: Api<Lease>,
    identity: String,
    seen: Option<Seen>,
    /// When the last successful write was sent. No other candidate saw it earlier, however late the response came.
    renewed: Instant,
}

struct Seen {
    lease: Lease,
    since: Instant,
}

impl Election {
    /// Creates a candidate that does not hold the Lease.
    #[must_use]
    pub(super) fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), identity, seen: None, renewed: Instant::now() }
    }

    /// Waits until this process holds the Lease.
    pub(super) async fn acquire(&mut self) {
        let mut reported = false;
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) if !reported => {
                    let holder = self.seen.as_ref().and_then(|seen| holder(&seen.lease)).unwrap_or_default();
                    tracing::info!(holder, "waiting for the Lease: another operator holds it");
                    reported = true;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the Lease could not be read or written"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews the Lease. Returns when it is lost or was not renewed in time: then another candidate may write.
    pub(super) async fn keep(&mut self) {
        loop {
            let left = RENEW_DEADLINE.saturating_sub(self.renewed.elapsed());
            // The deadline also interrupts a pause or an attempt.
            match tokio::time::timeout(left, self.renew()).await {
                Ok(true) => {}
                // Another candidate holds it, or may hold it soon.
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Renews once, and retries until it is known whether this process still holds the Lease.
    async fn renew(&mut self) -> bool {
        let mut pause = RENEW_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            match self.attempt().await {
                Ok(ours) => return ours,
                Err(error) => tracing::warn!(%error, "the Lease was not renewed"),
            }
            pause = RETRY;
        }
    }

    /// Releases the Lease, so that the next candidate need not wait for its expiry.
    pub(super) async fn release(&mut self) {
        let Some(seen) = self.seen.take().filter(|seen| holder(&seen.lease) == Some(&self.identity)) else {
            return;
        };
        let mut lease = seen.lease;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        let response = tokio::time::timeout(REQUEST, self.api.replace(LEASE, &parameters(), &lease)).await;
        if let Ok(Err(error)) = response {
            tracing::warn!(%error, "the Lease was not released; it expires by itself");
        }
    }

    /// Tries once to acquire or renew the Lease. Returns whether this process holds it.
    async fn attempt(&mut self) -> Result<bool, String> {
        let sent = Instant::now();
        let ours = tokio::time::timeout(REQUEST, self.try_attempt())
            .await
            .map_err(|_| format!("no response within {} s", REQUEST.as_secs()))?
            .map_err(|error| error_chain(&error))?;
        if ours {
            self.renewed = sent;
        }
        Ok(ours)
    }

    async fn try_attempt(&mut self) -> Result<bool, kube::Error> {
        // The holder knows the version; it reads the Lease only after a conflict.
        let own = self.seen.as_ref().filter(|seen| holder(&seen.lease) == Some(&self.identity));
        let current = if let Some(seen) = own {
            Some(seen.lease.clone())
        } else {
            let read = self.api.get_opt(LEASE).await?;
            self.see(read.clone());
            read
        };
        let now = Timestamp::now();
        let written = match current {
            None => {
                let mut lease = claimed(None, &self.identity, now);
                lease.metadata.name = Some(LEASE.to_owned());
                self.api.create(&parameters(), &lease).await
            }
            Some(current) if self.may_take(&current) => {
                self.api.replace(LEASE, &parameters(), &claimed(Some(current), &self.identity, now)).await
            }
            Some(_) => return Ok(false),
        };
        match written {
            Ok(lease) => {
                self.see(Some(lease));
                Ok(true)
            }
            Err(error) => {
                // Another candidate was faster, or the response was lost: read it before the next attempt.
                self.seen = None;
                Err(error)
            }
        }
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
        let ours_or_nobodys = holder(lease).is_none_or(|holder| holder == self.identity);
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        ours_or_nobodys || self.seen.as_ref().is_some_and(|seen| seen.since.elapsed() >= duration)
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
fn claimed(current: Option<Lease>, identity: &str, now: Timestamp) -> Lease {
    let before = current.unwrap_or_default();
    let spec = before.spec.clone().unwrap_or_default();
    let stays = holder(&before) == Some(identity);
    let transitions = spec.lease_transitions.unwrap_or(0);
    Lease {
        metadata: ObjectMeta { managed_fields: None, ..before.metadata.clone() },
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if stays { spec.acquire_time } else { Some(MicroTime(now)) },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if stays { transitions } else { transitions.saturating_add(1) }),
            ..spec
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_keeps_the_version_and_counts_transitions() {
        let mut theirs = claimed(None, "them", Timestamp::UNIX_EPOCH);
        theirs.metadata.resource_version = Some("7".to_owned());
        let later = Timestamp::from_second(60).expect("a time");
        let ours = claimed(Some(theirs), "us", later);
        assert_eq!(ours.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(holder(&ours), Some("us"));
        let spec = ours.spec.clone().expect("a spec");
        assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(2), Some(MicroTime(later))));
        let renewed = claimed(Some(ours), "us", Timestamp::from_second(65).expect("a time"));
        let spec = renewed.spec.expect("a spec");
        assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(2), Some(MicroTime(later))));
    }
}
