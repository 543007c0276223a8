//! The budget and its reservations.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::class::{ClassLimits, MemoryClass, divide};
use super::holder::HolderRegistry;

const CLASSES: usize = MemoryClass::ALL.len();

/// A number of bytes that all classes reserve from.
#[derive(Debug)]
pub struct MemoryBudget {
    state: Mutex<BudgetState>,
    /// The responses that hold memory until their clients read.
    pub(super) holders: HolderRegistry,
    /// Notified when memory is released while somebody waits.
    released: Notify,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct BudgetState {
    total: usize,
    limits: [ClassLimits; CLASSES],
    pool: usize,
    reserved: [usize; CLASSES],
    rejected: [u64; CLASSES],
}

/// The state of one class, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClassState {
    pub(super) max: usize,
    pub(super) reserved: usize,
    pub(super) rejected: u64,
}

/// Reserved bytes of one class. Dropping it releases them.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    class: MemoryClass,
    bytes: usize,
}

impl BudgetState {
    /// Reserves, unless the class would have less than `spare` bytes left, also if others take the whole pool.
    fn reserve(&mut self, class: MemoryClass, bytes: usize, spare: usize) -> bool {
        let at = class as usize;
        let Some(reserved) = self.reserved[at].checked_add(bytes) else { return false };
        if reserved.saturating_add(spare) > self.limits[at].max {
            return false;
        }
        let beyond = |reserved: usize, limits: ClassLimits| reserved.saturating_sub(limits.guaranteed);
        let guaranteed = self.limits[at].guaranteed.saturating_sub(spare);
        // What is guaranteed is available even if the pool is overdrawn since the budget shrank.
        if reserved > guaranteed {
            let others: usize = (0..CLASSES)
                .filter(|other| *other != at)
                .map(|other| beyond(self.reserved[other], self.limits[other]))
                .sum();
            if others.saturating_add(reserved - guaranteed) > self.pool {
                return false;
            }
        }
        self.reserved[at] = reserved;
        true
    }
}

impl MemoryBudget {
    /// Creates a budget of `total` bytes.
    #[must_use]
    pub fn new(total: usize) -> Arc<Self> {
        let (limits, pool) = divide(total);
        Arc::new(Self {
            state: Mutex::new(BudgetState {
                total,
                limits,
                pool,
                reserved: [0; CLASSES],
                rejected: [0; CLASSES],
            }),
            holders: HolderRegistry::default(),
            released: Notify::new(),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Changes the size of the budget. What is reserved stays reserved.
    pub(crate) fn set_total(&self, total: usize) {
        let mut state = self.state.lock();
        state.total = total;
        (state.limits, state.pool) = divide(total);
        drop(state);
        self.wake();
    }

    /// Returns the size of the budget.
    #[must_use]
    pub(crate) fn total(&self) -> usize {
        self.state.lock().total
    }

    /// Reserves `bytes`. Returns `None`, and counts a rejection, if the class has less left.
    #[must_use]
    pub fn try_reserve(self: &Arc<Self>, class: MemoryClass, bytes: usize) -> Option<Reservation> {
        let mut reservation = self.empty(class);
        reservation.try_grow(bytes).then_some(reservation)
    }

    /// Returns an empty reservation, which can grow.
    #[must_use]
    pub fn empty(self: &Arc<Self>, class: MemoryClass) -> Reservation {
        Reservation { budget: self.clone(), class, bytes: 0 }
    }

    /// Returns the maximum of a class in bytes.
    #[must_use]
    pub(crate) fn max(&self, class: MemoryClass) -> usize {
        self.state.lock().limits[class as usize].max
    }

    /// Returns how many bytes are reserved.
    #[must_use]
    pub(crate) fn reserved(&self) -> usize {
        self.state.lock().reserved.iter().sum()
    }

    /// Returns the state of each class.
    pub(super) fn classes(&self) -> [ClassState; CLASSES] {
        let state = self.state.lock();
        std::array::from_fn(|at| ClassState {
            max: state.limits[at].max,
            reserved: state.reserved[at],
            rejected: state.rejected[at],
        })
    }

    /// Returns how many bytes of a class are reserved.
    #[cfg(test)]
    pub(crate) fn reserved_of(&self, class: MemoryClass) -> usize {
        self.state.lock().reserved[class as usize]
    }

    fn reject(&self, class: MemoryClass) {
        let rejected = &mut self.state.lock().rejected[class as usize];
        *rejected = rejected.saturating_add(1);
    }

    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.released.notify_waiters();
        }
    }
}

impl Reservation {
    /// Returns the number of reserved bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reserves `bytes` more. Returns false, reserves nothing and counts a rejection, if the class has less left.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        self.try_grow_sparing(bytes, 0)
    }

    /// Like [`Self::try_grow`], but leaves at least `spare` bytes to others of this class.
    #[must_use]
    pub(crate) fn try_grow_sparing(&mut self, bytes: usize, spare: usize) -> bool {
        let grown = self.grow(bytes, spare);
        if !grown {
            self.budget.reject(self.class);
        }
        grown
    }

    /// Reserves `bytes` more if nobody else has reserved memory of this class, and the whole budget has room.
    pub(super) fn grow_alone(&mut self, bytes: usize) -> bool {
        let mut state = self.budget.state.lock();
        let all: usize = state.reserved.iter().sum();
        let reserved = &state.reserved[self.class as usize];
        let may = *reserved == self.bytes && all.saturating_add(bytes) <= state.total;
        if may {
            state.reserved[self.class as usize] += bytes;
            self.bytes += bytes;
        }
        may
    }

    /// Reserves `bytes` more than there may be.
    pub(super) fn overdraw(&mut self, bytes: usize) {
        self.budget.state.lock().reserved[self.class as usize] += bytes;
        self.bytes += bytes;
    }

    /// Reserves `bytes` more, and waits up to `patience` until the class has them. Returns false, and reserves
    /// nothing, if it still has less.
    pub(crate) async fn grow_within(&mut self, bytes: usize, patience: Duration) -> bool {
        if self.grow(bytes, 0) {
            return true;
        }
        let deadline = Instant::now() + patience;
        let budget = self.budget.clone();
        let _waiting = Waiting::new(&budget.waiting);
        loop {
            let mut released = std::pin::pin!(budget.released.notified());
            // From here on no release is missed.
            released.as_mut().enable();
            if self.grow(bytes, 0) {
                return true;
            }
            if timeout_at(deadline, released).await.is_err() {
                budget.reject(self.class);
                return false;
            }
        }
    }

    fn grow(&mut self, bytes: usize, spare: usize) -> bool {
        let grown = self.budget.state.lock().reserve(self.class, bytes, spare);
        self.bytes += if grown { bytes } else { 0 };
        grown
    }

    /// Moves `bytes`, or all if fewer are reserved, to a reservation of their own.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), class: self.class, bytes }
    }

    /// Releases `bytes`, or all if fewer are reserved.
    pub fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        self.budget.state.lock().reserved[self.class as usize] -= bytes;
        self.budget.wake();
    }

    /// Releases all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.release(self.bytes.saturating_sub(bytes));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

/// Counts a task that waits for memory.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
