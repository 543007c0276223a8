//! What of a list in protobuf is encoded before it is sent.
//!
//! Such an answer has megabytes for a while, of memory that is given back when it is sent. Allocated in pieces, its page
//! faults were a sixth of what the whole list cost. So what is not small lies in blocks that are huge pages where the
//! system has them, one fault each instead of hundreds.

use std::collections::VecDeque;

use bytes::Bytes;
use memmap2::{Advice, MmapMut};

use super::budget::Share;

/// A huge page, on x86-64 and on most of aarch64.
const BLOCK: usize = 2 << 20;

/// Up to here pieces are allocated one by one: most lists are short, and the system fills a huge page with zeros first.
const SMALL: usize = 512 << 10;

/// Encoded pieces of a list, in order, within what the list may hold.
pub(super) struct Held {
    share: Share,
    pieces: VecDeque<Piece>,
    /// How many bytes have been added.
    length: usize,
    /// What is being filled.
    block: Option<Block>,
    /// Where a piece is encoded that goes into a block.
    scratch: Vec<u8>,
}

struct Piece {
    bytes: Bytes,
    /// What may be given back once it is sent, beside what a block gives back.
    taken: usize,
}

/// Memory for pieces.
struct Block {
    map: MmapMut,
    /// Where in it a huge page may begin.
    start: usize,
    /// Where its pieces end, from there on.
    ends: Vec<usize>,
    share: Share,
}

/// The part of a block that is filled. The block is there until the last of its pieces is sent, and only then given back.
struct Filled {
    map: MmapMut,
    start: usize,
    end: usize,
    _share: Share,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.map.get(self.start..self.end).unwrap_or_default()
    }
}

impl Block {
    /// `None` if the system has no such memory.
    fn new(share: Share) -> Option<Self> {
        // Twice as much is reserved as is used, so that there is a whole huge page in it.
        let map = MmapMut::map_anon(2 * BLOCK).ok()?;
        let start = map.as_ptr().align_offset(BLOCK);
        // Without huge pages it is memory all the same.
        let _ = map.advise_range(Advice::HugePage, start, BLOCK);
        (start <= BLOCK).then(|| Self { map, start, ends: Vec::new(), share })
    }

    fn length(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn room(&self) -> usize {
        BLOCK - self.length()
    }

    /// Whether there was room.
    fn add(&mut self, piece: &[u8]) -> bool {
        let at = self.length();
        let room = self.map.get_mut(self.start + at..self.start + BLOCK);
        let Some(room) = room.and_then(|room| room.get_mut(..piece.len())) else { return false };
        room.copy_from_slice(piece);
        if !piece.is_empty() {
            self.ends.push(at + piece.len());
        }
        true
    }

    /// Its pieces.
    fn pieces(self) -> impl Iterator<Item = Piece> {
        let Self { map, start, ends, share } = self;
        let end = start + ends.last().copied().unwrap_or(0);
        let mut rest = Bytes::from_owner(Filled { map, start, end, _share: share });
        let lengths = ends.into_iter().scan(0, |before, end| Some(end - std::mem::replace(before, end)));
        lengths.map(move |length| Piece { bytes: rest.split_to(length.min(rest.len())), taken: 0 })
    }
}

impl Held {
    /// Nothing, but of `share` there may be more.
    pub(super) fn new(share: Share) -> Self {
        Self { share, pieces: VecDeque::new(), length: 0, block: None, scratch: Vec::new() }
    }

    /// How many bytes have been added.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Whether a piece of about `most` bytes may be added; the first one always may.
    pub(super) fn has_room(&mut self, most: usize) -> bool {
        if self.length < SMALL {
            return self.share.take(most) || self.length == 0;
        }
        if self.block.as_ref().is_some_and(|block| block.room() >= most) {
            return true;
        }
        self.close();
        if !self.share.take(BLOCK) {
            return false;
        }
        self.block = Block::new(self.share.split(BLOCK));
        self.block.is_some()
    }

    /// Adds what `encode` appends, for which there is room, about `most` bytes.
    pub(super) fn add(&mut self, most: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        out.reserve(most);
        encode(&mut out);
        self.length += out.len();
        if let Some(block) = &mut self.block
            && block.add(&out)
        {
            self.scratch = out;
            return;
        }
        // Beside a block only what is much longer than was expected, which nothing was taken for.
        let taken = if self.block.is_some() { 0 } else { most };
        self.close();
        // The last piece, or one cut short by a batch without matches, may be far from full.
        if out.len() < most / 2 {
            out.shrink_to_fit();
        }
        self.share.give_back(taken.saturating_sub(out.len()));
        if !out.is_empty() {
            self.pieces.push_back(Piece { taken: taken.min(out.len()), bytes: out.into() });
        }
    }

    /// Takes the next piece to send it.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.close();
        }
        let Piece { bytes, taken } = self.pieces.pop_front()?;
        self.share.give_back(taken);
        Some(bytes)
    }

    /// Nothing more goes into the block.
    fn close(&mut self) {
        self.pieces.extend(self.block.take().into_iter().flat_map(Block::pieces));
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Held, SMALL};
    use crate::api::budget::Budget;

    /// What a long list encodes at a time.
    const PIECE: usize = 100_000;
    const IN_ALL: usize = 8 << 20;

    fn drained(held: &mut Held) -> Vec<u8> {
        std::iter::from_fn(|| held.take()).flatten().collect()
    }

    #[test]
    fn what_is_added_comes_out_in_order_and_all_is_given_back() {
        let budget = Budget::new(IN_ALL);
        // The last is far longer than was expected.
        for lengths in
            [vec![], vec![0], vec![10, 0, PIECE], vec![PIECE; 60], [vec![PIECE; 30], vec![3 << 20]].concat()]
        {
            let mut held = Held::new(budget.share());
            let mut expected = Vec::new();
            for (number, length) in (0_u8..).zip(lengths) {
                assert!(held.has_room(PIECE));
                held.add(PIECE, |out| out.resize(length, number));
                expected.resize(expected.len() + length, number);
                assert_eq!(held.length(), expected.len());
            }
            assert!(drained(&mut held) == expected, "{}", expected.len());
            assert_eq!(budget.left(), IN_ALL, "{}", expected.len());
        }
    }

    #[test]
    fn a_list_holds_no_more_than_all_may() {
        let budget = Budget::new(IN_ALL);
        let fill = || {
            let mut held = Held::new(budget.share());
            while held.has_room(PIECE) {
                held.add(PIECE, |out| out.resize(PIECE, 1));
            }
            held
        };
        let mut first = fill();
        assert!(first.length() > IN_ALL - SMALL - BLOCK && first.length() <= IN_ALL, "{}", first.length());
        let mut second = Held::new(budget.share());
        assert!(second.has_room(PIECE), "one piece always");
        second.add(PIECE, |out| out.resize(PIECE, 2));
        assert_eq!(drained(&mut first).len(), first.length());
        drop((first, second));
        assert_eq!(budget.left(), IN_ALL);
        let mut slow = fill();
        let last: Vec<_> = std::iter::from_fn(|| slow.take()).last().into_iter().collect();
        drop(slow);
        assert_eq!(budget.left(), IN_ALL - BLOCK, "as long as one piece is being sent, its block is there");
        drop(last);
        assert_eq!(budget.left(), IN_ALL);
        let unfinished = fill();
        drop(unfinished);
        assert_eq!(budget.left(), IN_ALL);
    }
}
