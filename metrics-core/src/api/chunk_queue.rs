//! The chunks of a protobuf list that are encoded before they are sent.
//!
//! A list holds megabytes for a short time, and returns that memory when it is sent. When every chunk was an
//! allocation of its own, page faults took a sixth of the time of the whole list. Lists that are not small therefore
//! use blocks the size of a huge page, where the system has huge pages: one page fault each instead of hundreds.

use std::collections::VecDeque;

use bytes::Bytes;
use memmap2::{Advice, MmapMut};

use crate::memory::Reservation;

/// The size of a huge page on x86-64 and on most of aarch64.
const BLOCK: usize = 2 << 20;

/// Up to this length a list allocates its chunks one by one: most lists are short, and the system fills a huge page
/// with zeros before it can be used.
const SMALL: usize = 512 << 10;

/// The encoded chunks of a list, in order, within the memory that the list may reserve.
pub(super) struct ChunkQueue {
    reservation: Reservation,
    chunks: VecDeque<QueuedChunk>,
    /// The number of bytes added so far.
    length: usize,
    /// The block that is being filled.
    block: Option<Block>,
    /// The buffer in which a chunk is encoded before it is copied into a block.
    scratch: Vec<u8>,
}

struct QueuedChunk {
    bytes: Bytes,
    /// The bytes to release once the chunk is sent, besides those that a block releases.
    reserved: usize,
}

/// Memory for several chunks.
struct Block {
    map: MmapMut,
    /// The offset in `map` that is aligned to a huge page.
    start: usize,
    /// Where each chunk ends, relative to `start`.
    ends: Vec<usize>,
    reservation: Reservation,
}

/// The filled part of a block. Its memory is released when the last of its chunks is sent.
struct FilledBlock {
    map: MmapMut,
    start: usize,
    end: usize,
    _reservation: Reservation,
}

impl AsRef<[u8]> for FilledBlock {
    fn as_ref(&self) -> &[u8] {
        self.map.get(self.start..self.end).unwrap_or_default()
    }
}

impl Block {
    /// Returns `None` if the system can't map the memory.
    fn new(reservation: Reservation) -> Option<Self> {
        // Maps twice the size, so that it contains an aligned huge page. Unused pages take no memory.
        let map = MmapMut::map_anon(2 * BLOCK).ok()?;
        let start = map.as_ptr().align_offset(BLOCK);
        // Without huge pages the block still works.
        let _ = map.advise_range(Advice::HugePage, start, BLOCK);
        (start <= BLOCK).then(|| Self { map, start, ends: Vec::new(), reservation })
    }

    fn length(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn room(&self) -> usize {
        BLOCK - self.length()
    }

    /// Adds a chunk. Returns false if it does not fit.
    fn add(&mut self, chunk: &[u8]) -> bool {
        let at = self.length();
        let room = self.map.get_mut(self.start + at..self.start + BLOCK);
        let Some(room) = room.and_then(|room| room.get_mut(..chunk.len())) else { return false };
        room.copy_from_slice(chunk);
        if !chunk.is_empty() {
            self.ends.push(at + chunk.len());
        }
        true
    }

    fn into_chunks(self) -> impl Iterator<Item = QueuedChunk> {
        let Self { map, start, ends, reservation } = self;
        let end = start + ends.last().copied().unwrap_or(0);
        let mut rest = Bytes::from_owner(FilledBlock { map, start, end, _reservation: reservation });
        let lengths = ends.into_iter().scan(0, |before, end| Some(end - std::mem::replace(before, end)));
        lengths.map(move |length| QueuedChunk { bytes: rest.split_to(length.min(rest.len())), reserved: 0 })
    }
}

impl ChunkQueue {
    /// Creates an empty queue that grows `reservation` as it needs.
    pub(super) fn new(reservation: Reservation) -> Self {
        Self { reservation, chunks: VecDeque::new(), length: 0, block: None, scratch: Vec::new() }
    }

    /// Returns the number of bytes added so far.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Returns whether a chunk of about `expected` bytes may be added. The first chunk always may.
    pub(super) fn has_room(&mut self, expected: usize) -> bool {
        if self.length < SMALL {
            return self.reservation.try_grow(expected) || self.length == 0;
        }
        if self.block.as_ref().is_some_and(|block| block.room() >= expected) {
            return true;
        }
        self.close_block();
        if !self.reservation.try_grow(BLOCK) {
            return false;
        }
        self.block = Block::new(self.reservation.split(BLOCK));
        self.block.is_some()
    }

    /// Adds the chunk that `encode` appends, of about `expected` bytes. The caller must have checked that there is
    /// room.
    pub(super) fn add(&mut self, expected: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        out.reserve(expected);
        encode(&mut out);
        self.length += out.len();
        if let Some(block) = &mut self.block
            && block.add(&out)
        {
            self.scratch = out;
            return;
        }
        // A chunk that does not fit the block is much longer than expected. Nothing was reserved for it.
        let reserved = if self.block.is_some() { 0 } else { expected };
        self.close_block();
        // The last chunk, or that of a batch that selected few rows, may be much shorter than its buffer.
        if out.len() < expected / 2 {
            out.shrink_to_fit();
        }
        self.reservation.release(reserved.saturating_sub(out.len()));
        if !out.is_empty() {
            self.chunks.push_back(QueuedChunk { reserved: reserved.min(out.len()), bytes: out.into() });
        }
    }

    /// Removes the next chunk, to be sent.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.close_block();
        }
        let QueuedChunk { bytes, reserved } = self.chunks.pop_front()?;
        self.reservation.release(reserved);
        Some(bytes)
    }

    /// Queues the chunks of the current block.
    fn close_block(&mut self) {
        self.chunks.extend(self.block.take().into_iter().flat_map(Block::into_chunks));
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, ChunkQueue, SMALL};
    use crate::memory::{MemoryBudget, MemoryClass, Reservation};

    /// The length of the chunks of a long list.
    const CHUNK: usize = 100_000;
    const BUDGET: usize = 8 << 20;

    /// A budget of which encoded lists may take [`BUDGET`].
    struct Budget(std::sync::Arc<MemoryBudget>, Reservation);

    impl Budget {
        fn new() -> Self {
            let memory = MemoryBudget::new(64 << 20);
            let rest = memory.max(MemoryClass::EncodedLists) - BUDGET;
            let taken = memory.try_reserve(MemoryClass::EncodedLists, rest).unwrap();
            Self(memory, taken)
        }

        fn reservation(&self) -> Reservation {
            self.0.empty(MemoryClass::EncodedLists)
        }

        fn available(&self) -> usize {
            BUDGET - (self.0.reserved() - self.1.bytes())
        }
    }

    fn drain(queue: &mut ChunkQueue) -> Vec<u8> {
        std::iter::from_fn(|| queue.pop()).flatten().collect()
    }

    #[test]
    fn chunks_come_out_in_order_and_release_their_memory() {
        let budget = Budget::new();
        // The last chunk of the last case is much longer than expected.
        for lengths in
            [vec![], vec![0], vec![10, 0, CHUNK], vec![CHUNK; 60], [vec![CHUNK; 30], vec![3 << 20]].concat()]
        {
            let mut queue = ChunkQueue::new(budget.reservation());
            let mut expected = Vec::new();
            for (number, length) in (0_u8..).zip(lengths) {
                assert!(queue.has_room(CHUNK));
                queue.add(CHUNK, |out| out.resize(length, number));
                expected.resize(expected.len() + length, number);
                assert_eq!(queue.length(), expected.len());
            }
            assert!(drain(&mut queue) == expected, "{}", expected.len());
            assert_eq!(budget.available(), BUDGET, "{}", expected.len());
        }
    }

    #[test]
    fn queues_together_stay_within_the_budget() {
        let budget = Budget::new();
        let fill = || {
            let mut queue = ChunkQueue::new(budget.reservation());
            while queue.has_room(CHUNK) {
                queue.add(CHUNK, |out| out.resize(CHUNK, 1));
            }
            queue
        };
        let mut first = fill();
        assert!(first.length() > BUDGET - SMALL - BLOCK && first.length() <= BUDGET, "{}", first.length());
        let mut second = ChunkQueue::new(budget.reservation());
        assert!(second.has_room(CHUNK), "the first chunk is always allowed");
        second.add(CHUNK, |out| out.resize(CHUNK, 2));
        assert_eq!(drain(&mut first).len(), first.length());
        drop((first, second));
        assert_eq!(budget.available(), BUDGET);
        let mut slow = fill();
        let last: Vec<_> = std::iter::from_fn(|| slow.pop()).last().into_iter().collect();
        drop(slow);
        assert_eq!(budget.available(), BUDGET - BLOCK, "a block is kept until its last chunk is sent");
        drop(last);
        assert_eq!(budget.available(), BUDGET);
        let unfinished = fill();
        drop(unfinished);
        assert_eq!(budget.available(), BUDGET);
    }
}
