//! Mutates inputs.

use fastrand::Rng;

/// Generates inputs; the same seed generates the same sequence.
pub(crate) struct Mutator<'a> {
    random: Rng,
    words: &'a [&'a str],
}

impl<'a> Mutator<'a> {
    /// Returns a mutator. `words` are tokens of the input format.
    pub(crate) fn new(seed: u64, words: &'a [&'a str]) -> Self {
        Self { random: Rng::with_seed(seed), words }
    }

    /// Returns a copy of one of the inputs with a few changes.
    pub(crate) fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.one_of(corpus).clone();
        for _ in 0..1 << self.random.u32(0..4) {
            self.change(&mut input, corpus);
        }
        input
    }

    fn one_of<'b, T>(&mut self, all: &'b [T]) -> &'b T {
        &all[self.random.usize(..all.len())]
    }

    fn place(&mut self, input: &[u8]) -> usize {
        self.random.usize(..=input.len())
    }

    /// Returns a range of a few bytes, often empty.
    fn piece(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(input);
        let longest = 1 << self.random.u32(0..10);
        start..(start + self.random.usize(..longest)).min(input.len())
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let (piece, at) = (self.piece(input), self.place(input));
        match self.random.u8(..9) {
            0 => drop(input.drain(piece)),
            1 => {
                let copy = input[piece].to_vec();
                input.splice(at..at, copy);
            }
            2 => {
                let word = self.one_of(self.words).bytes();
                input.splice(at..at, word);
            }
            3 => {
                let word = self.one_of(self.words).bytes();
                input.splice(piece, word);
            }
            4 => {
                // The start of this input and the end of another one.
                let other = self.one_of(corpus);
                let from = self.place(other);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            5 => input.insert(at, self.random.u8(..)),
            kind => {
                let random = self.random.u8(..);
                let Some(byte) = input.get_mut(at) else { return };
                *byte = match kind {
                    6 => random,
                    7 => *byte ^ 1 << (random % 8),
                    // Parsers branch on digits and punctuation.
                    _ => b"0123456789-+.eE\"\\{}=, \n\0\xff"[usize::from(random) % 25],
                };
            }
        }
    }
}
