//! Responses that hold memory until their clients read them.
//!
//! A client that reads nothing could keep its memory until the request times out. When memory is short, the response
//! that has stalled longest is revoked: the task of its stream resets the stream. Where that task has ended, because
//! HTTP/2 holds the rest of the response, only the end of the connection frees the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{MemoryBudget, MemoryClass, Reservation};

/// A response whose client has read nothing for this time may be revoked. Until then the client may be slow.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// All responses that hold memory.
#[derive(Debug, Default)]
pub(super) struct HolderRegistry {
    holders: Mutex<Vec<Arc<HolderState>>>,
    revoked: AtomicU64,
}

#[derive(Debug)]
struct HolderState {
    /// When its client last made progress.
    progressed: Mutex<Instant>,
    /// Whether it keeps rows.
    keeps_rows: AtomicBool,
    is_revoked: AtomicBool,
    revoked: Notify,
    /// The number of tasks that wait for the revocation.
    listening: AtomicUsize,
    /// Ends the connection.
    connection: Mutex<Option<Arc<Notify>>>,
}

/// The response that holds a [`Lease`], for whoever drives it: the task of its stream.
#[derive(Clone, Debug)]
pub(crate) struct Holder(Arc<HolderState>);

/// The memory of one response, until its last byte is sent.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<MemoryBudget>,
    reservation: Mutex<Reservation>,
    kept_rows: Mutex<Reservation>,
    holder: Holder,
    /// The number of parts that are not sent.
    unsent: AtomicUsize,
    /// Woken when all parts are sent.
    sent: AtomicWaker,
}

impl MemoryBudget {
    /// Reserves memory for a response, and leaves at least `spare` bytes to others. Without memory, revokes the
    /// response that has stalled longest, so that a retry succeeds.
    pub(crate) fn lease(self: &Arc<Self>, bytes: usize, spare: usize) -> Option<Lease> {
        let mut reservation = self.empty(MemoryClass::Responses);
        if !reservation.try_grow_sparing(bytes, spare) {
            self.revoke_stalled(|_| true);
            return None;
        }
        let holder = Holder(Arc::new(HolderState {
            progressed: Mutex::new(Instant::now()),
            keeps_rows: AtomicBool::new(false),
            is_revoked: AtomicBool::new(false),
            revoked: Notify::new(),
            listening: AtomicUsize::new(0),
            connection: Mutex::new(None),
        }));
        self.holders.holders.lock().push(holder.0.clone());
        let (reservation, kept_rows) =
            (Mutex::new(reservation), Mutex::new(self.empty(MemoryClass::KeptRows)));
        let (unsent, sent) = (AtomicUsize::new(0), AtomicWaker::new());
        Some(Lease { budget: self.clone(), reservation, kept_rows, holder, unsent, sent })
    }

    /// Returns how many responses were revoked.
    pub(super) fn revoked(&self) -> u64 {
        self.holders.revoked.load(Ordering::Relaxed)
    }

    fn revoke_stalled(&self, concerns: impl Fn(&HolderState) -> bool) {
        let now = Instant::now();
        let holders = self.holders.holders.lock();
        let stalled = holders.iter().filter_map(|holder| {
            let since = *holder.progressed.lock();
            let is_stalled = now.saturating_duration_since(since) >= STALLED_AFTER;
            let revocable = is_stalled && concerns(holder) && !holder.is_revoked.load(Ordering::Relaxed);
            revocable.then_some((since, holder))
        });
        if let Some((_, holder)) = stalled.min_by_key(|(since, _)| *since) {
            self.revoke(holder);
        }
    }

    fn revoke(&self, holder: &HolderState) {
        self.holders.revoked.fetch_add(1, Ordering::Relaxed);
        holder.is_revoked.store(true, Ordering::Relaxed);
        holder.revoked.notify_one();
        if holder.listening.load(Ordering::SeqCst) == 0
            && let Some(connection) = &*holder.connection.lock()
        {
            connection.notify_one();
        }
    }
}

impl Lease {
    /// Releases all but `bytes`.
    pub(crate) fn shrink_to(&self, bytes: usize) {
        self.reservation.lock().shrink_to(bytes);
    }

    /// Reserves `bytes` in total for rows that are kept. Without memory, revokes the response that keeps rows and has
    /// stalled longest, and returns false. The only response that keeps rows may exceed the maximum of the class, as
    /// long as the whole budget has room.
    pub(crate) fn try_keep_rows(&self, bytes: usize) -> bool {
        let mut kept_rows = self.kept_rows.lock();
        let more = bytes.saturating_sub(kept_rows.bytes());
        let kept = kept_rows.grow_alone(more) || kept_rows.try_grow(more);
        if !kept {
            self.want_rows();
        }
        kept
    }

    /// Records that this response may add to the rows that are kept, so that it is revoked if it stalls while others
    /// wait for that.
    pub(crate) fn may_keep_rows(&self) {
        self.holder.0.keeps_rows.store(true, Ordering::Relaxed);
    }

    /// Revokes the response that keeps rows and has stalled longest.
    pub(crate) fn want_rows(&self) {
        self.budget.revoke_stalled(|holder| holder.keeps_rows.load(Ordering::Relaxed));
    }

    /// Reserves `bytes` in total for rows that are kept, even if memory is short.
    pub(crate) fn must_keep_rows(&self, bytes: usize) {
        let mut kept_rows = self.kept_rows.lock();
        let more = bytes.saturating_sub(kept_rows.bytes());
        kept_rows.overdraw(more);
    }

    /// Ends this response.
    pub(crate) fn revoke(&self) {
        self.budget.revoke(&self.holder.0);
    }

    /// Records that the client received something or can receive more.
    pub(crate) fn progressed(&self) {
        self.holder.progressed();
    }

    /// Returns the same bytes as a part of the response, which keeps this lease until it is sent.
    pub(crate) fn part(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.unsent.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Part { bytes, lease: self.clone() })
    }

    /// Waits until all parts are sent.
    pub(crate) fn poll_sent(&self, context: &Context<'_>) -> Poll<()> {
        self.sent.register(context.waker());
        if self.unsent.load(Ordering::SeqCst) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Returns the holder, which is notified when this lease is revoked.
    pub(crate) fn holder(&self) -> Holder {
        self.holder.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.holders.holders.lock().retain(|holder| !Arc::ptr_eq(holder, &self.holder.0));
    }
}

impl Holder {
    /// Records that the client received a part.
    pub(crate) fn progressed(&self) {
        *self.0.progressed.lock() = Instant::now();
    }

    /// Notifies `connection` when the response must end and no task waits for that any more.
    pub(crate) fn end_connection(&self, connection: Arc<Notify>) {
        *self.0.connection.lock() = Some(connection);
    }

    /// Resolves when the response must end because its memory is needed. For one task.
    pub(crate) async fn revoked(&self) {
        self.0.listening.fetch_add(1, Ordering::SeqCst);
        let _listening = Listening(&self.0);
        while !self.0.is_revoked.load(Ordering::Relaxed) {
            self.0.revoked.notified().await;
        }
    }
}

/// A task that waits for the revocation.
struct Listening<'a>(&'a HolderState);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A part of a response. It keeps the memory of the response until it is sent.
struct Part {
    bytes: Bytes,
    lease: Arc<Lease>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.lease.unsent.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.lease.sent.wake();
        }
    }
}

/// Returns the same bytes, which keep `memory` until they are sent and dropped.
pub(crate) fn keep_until_sent<T: Send + Sync + 'static>(bytes: Bytes, memory: Arc<T>) -> Bytes {
    Bytes::from_owner(Kept { bytes, _memory: memory })
}

struct Kept<T> {
    bytes: Bytes,
    _memory: Arc<T>,
}

impl<T> AsRef<[u8]> for Kept<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures::FutureExt as _;
    use tokio::time::advance;

    use super::{MemoryBudget, MemoryClass, STALLED_AFTER, keep_until_sent};

    const TOTAL: usize = 100_000;

    #[tokio::test(start_paused = true)]
    async fn revokes_the_longest_stalled_response_when_memory_is_short() {
        let budget = MemoryBudget::new(TOTAL);
        let third = budget.max(MemoryClass::Responses) / 3;
        let (first, second) = (budget.lease(third, 0).unwrap(), budget.lease(third, 0).unwrap());
        advance(STALLED_AFTER * 9 / 10).await;
        let third_one = budget.lease(third, 0).unwrap();
        assert!(budget.lease(third, 0).is_none());
        assert_eq!(budget.revoked(), 0, "the clients may just be slow");
        first.progressed();
        advance(STALLED_AFTER / 2).await;
        assert!(budget.lease(third, 0).is_none());
        assert!(second.holder().revoked().now_or_never().is_some());
        assert!(first.holder().revoked().now_or_never().is_none());
        assert!(third_one.holder().revoked().now_or_never().is_none());
        drop(second);
        assert!(budget.lease(third, 0).is_some());
        drop((first, third_one));
        assert_eq!((budget.reserved(), budget.holders.holders.lock().len()), (0, 0));
    }

    #[test]
    fn leaves_memory_to_others() {
        let budget = MemoryBudget::new(TOTAL);
        let max = budget.max(MemoryClass::Responses);
        let direct = budget.lease(max / 2, max / 4).unwrap();
        assert!(budget.lease(max / 2, max / 4).is_none());
        assert!(budget.lease(max / 2, 0).is_some());
        drop(direct);
    }

    #[tokio::test(start_paused = true)]
    async fn revokes_only_a_response_that_keeps_rows_when_memory_for_rows_is_short() {
        let budget = MemoryBudget::new(TOTAL);
        let max = budget.max(MemoryClass::KeptRows);
        let leases = [1, 2, 3].map(|bytes| budget.lease(bytes, 0).unwrap());
        leases[1].may_keep_rows();
        assert!(leases[1].try_keep_rows(max));
        advance(STALLED_AFTER).await;
        assert!(!leases[2].try_keep_rows(1));
        let revoked = leases.each_ref().map(|lease| lease.holder().revoked().now_or_never().is_some());
        assert_eq!(revoked, [false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn revocation_ends_the_connection_once_the_stream_has_no_task() {
        let budget = MemoryBudget::new(TOTAL);
        for has_task in [true, false] {
            let (lease, connection) = (budget.lease(1, 0).unwrap(), Arc::new(tokio::sync::Notify::new()));
            let holder = lease.holder();
            holder.end_connection(connection.clone());
            let mut task = Some(Box::pin(holder.revoked()));
            assert!(task.as_mut().is_some_and(|task| task.as_mut().now_or_never().is_none()));
            task = task.filter(|_| has_task);
            lease.revoke();
            assert_eq!(connection.notified().now_or_never().is_none(), has_task);
            drop(task);
        }
    }

    #[test]
    fn memory_is_kept_until_the_last_part_is_dropped() {
        let memory = Arc::new(());
        let mut bytes = keep_until_sent(Bytes::from_static(b"abc"), memory.clone());
        let rest = bytes.split_off(1);
        drop(bytes);
        assert_eq!((Arc::strong_count(&memory), &rest[..]), (2, &b"bc"[..]));
        drop(rest);
        assert_eq!(Arc::strong_count(&memory), 1);
    }
}
