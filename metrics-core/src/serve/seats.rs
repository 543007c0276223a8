//! The places for watches, a bounded number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A watch whose client took nothing for this long gives its place to another.
const PATIENCE: Duration = Duration::from_secs(30);

/// All places.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    taken: Mutex<Vec<Arc<Seat>>>,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Seat {
    /// Since when events wait for the client to ask for more.
    waits_since: Mutex<Option<Instant>>,
    lost: AtomicBool,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    seats: Arc<Seats>,
    seat: Arc<Seat>,
}

impl Seats {
    /// So many places.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default(), closing: AtomicBool::new(false) })
    }

    /// Takes a place; `None` if all are taken and in use.
    pub(super) fn take(self: &Arc<Self>, now: Instant) -> Option<Taken> {
        let mut taken = self.taken.lock();
        if taken.len() >= self.most {
            let slow = taken.iter().position(|seat| {
                let since = *seat.waits_since.lock();
                since.is_some_and(|since| now.saturating_duration_since(since) > PATIENCE)
            })?;
            taken.swap_remove(slow).lost.store(true, Ordering::Relaxed);
        }
        let seat = Arc::new(Seat::default());
        taken.push(seat.clone());
        Some(Taken { seats: self.clone(), seat })
    }

    /// Has all watches end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl Taken {
    /// The client was given something.
    pub(super) fn gave(&self, now: Instant) {
        *self.seat.waits_since.lock() = Some(now);
    }

    /// The client can take more.
    pub(super) fn asked(&self) {
        *self.seat.waits_since.lock() = None;
    }

    /// Whether the place went to another.
    pub(super) fn is_lost(&self) -> bool {
        self.seat.lost.load(Ordering::Relaxed)
    }

    /// Whether all watches are to end.
    pub(super) fn is_closing(&self) -> bool {
        self.seats.closing.load(Ordering::Relaxed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.seats.taken.lock().retain(|seat| !Arc::ptr_eq(seat, &self.seat));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{PATIENCE, Seats};

    #[test]
    fn only_a_slow_watch_loses_its_place() {
        let (seats, now) = (Seats::new(2), Instant::now());
        let (a, b) = (seats.take(now).unwrap(), seats.take(now).unwrap());
        assert!(seats.take(now).is_none());
        a.gave(now);
        assert!(seats.take(now + PATIENCE).is_none());
        let c = seats.take(now + PATIENCE * 2).unwrap();
        assert!(a.is_lost() && !b.is_lost() && !c.is_lost());
        drop(a);
        assert!(seats.take(now + PATIENCE * 2).is_none());
        drop(c);
        assert!(seats.take(now).is_some());
        seats.close();
        assert!(b.is_closing());
    }
}
