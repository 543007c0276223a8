//! Turns for the expensive part of TLS handshakes, fair by source.
//!
//! The key exchange and the signature take about a millisecond of CPU. If thousands of clients begin a handshake at
//! once, thousands of tasks are ready to run and each request in between waits for all of them. With turns one
//! handshake computes at a time, and the next one is that of another source.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::places::Source;

/// The queue of handshakes.
#[derive(Default)]
pub(super) struct Turns(Mutex<TurnQueue>);

#[derive(Default)]
struct TurnQueue {
    /// Whether a turn is in use.
    taken: bool,
    waiting: HashMap<Source, VecDeque<oneshot::Sender<Turn>>>,
    /// The sources with waiting handshakes, the next one first.
    order: VecDeque<Source>,
}

/// A turn. The next one begins when this is dropped.
pub(super) struct Turn(Arc<Turns>);

impl Turns {
    /// Waits for the next turn of `source`.
    pub(super) async fn next(self: &Arc<Self>, source: Source) -> Turn {
        let turn = {
            let mut queue = self.0.lock();
            if !queue.taken {
                queue.taken = true;
                return Turn(self.clone());
            }
            let (sender, turn) = oneshot::channel();
            let waiting = queue.waiting.entry(source).or_default();
            waiting.push_back(sender);
            if waiting.len() == 1 {
                queue.order.push_back(source);
            }
            turn
        };
        match turn.await {
            Ok(turn) => turn,
            // Not reached: senders are dropped only after they sent.
            Err(_) => Turn(self.clone()),
        }
    }
}

impl TurnQueue {
    /// Removes the next waiting handshake, if there is one.
    fn pop(&mut self) -> Option<oneshot::Sender<Turn>> {
        let source = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&source)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&source);
        } else {
            self.order.push_back(source);
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.0.0.lock();
        while let Some(next) = queue.pop() {
            if next.is_closed() {
                continue;
            }
            drop(queue);
            // If the handshake has been given up meanwhile, the turn that comes back is dropped and passed on.
            drop(next.send(Turn(self.0.clone())));
            return;
        }
        queue.taken = false;
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use futures::FutureExt;

    use super::Turns;
    use crate::server::listen::places::Source;

    fn source(last: u8) -> Source {
        IpAddr::from([10, 0, 0, last]).into()
    }

    #[test]
    fn takes_turns_by_source() {
        let turns = Arc::new(Turns::default());
        let mut running = turns.next(source(1)).now_or_never().expect("free");
        let mut waiting = Vec::new();
        for (name, from) in [("a1", 1), ("a2", 1), ("a3", 1), ("b1", 2), ("c1", 3), ("b2", 2)] {
            let mut next = Box::pin(turns.next(source(from)));
            assert!(next.as_mut().now_or_never().is_none(), "{name} waits");
            waiting.push((name, next));
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(running);
            let mut ready = None;
            waiting.retain_mut(|(name, next)| match next.as_mut().now_or_never() {
                Some(turn) => {
                    assert!(ready.is_none(), "one at a time");
                    ready = Some((*name, turn));
                    false
                }
                None => true,
            });
            let (name, turn) = ready.expect("the next turn");
            order.push(name);
            running = turn;
        }
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn passes_on_the_turn_of_a_handshake_that_was_given_up() {
        let turns = Arc::new(Turns::default());
        let first = turns.next(source(1)).now_or_never().unwrap();
        let (mut second, mut third) = (Box::pin(turns.next(source(1))), Box::pin(turns.next(source(2))));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(second);
        drop(first);
        assert!(third.now_or_never().is_some());
        assert!(turns.next(source(3)).now_or_never().is_some(), "the turn came back");
        // One that is given up after it was sent, but before it was received.
        let first = turns.next(source(1)).now_or_never().unwrap();
        let mut second = Box::pin(turns.next(source(1)));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        drop(second);
        assert!(turns.next(source(1)).now_or_never().is_some(), "the turn came back");
    }
}
