//! The destination of an encoder: a buffer, or a counter of bytes.

/// Receives encoded bytes.
pub(in crate::api) trait Output: Sized {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends a byte.
    fn put_byte(&mut self, byte: u8);

    /// Appends an integer in decimal.
    fn put_decimal(&mut self, value: u64);

    /// Appends what `body` appends, after its length as a varint. The varint is expected to take `expected` bytes; if
    /// it takes another number, the body is moved.
    fn put_counted(&mut self, expected: usize, body: impl FnOnce(&mut Self));
}

impl Output for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn put_byte(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline]
    fn put_decimal(&mut self, value: u64) {
        self.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    #[inline]
    fn put_counted(&mut self, expected: usize, body: impl FnOnce(&mut Self)) {
        let at = self.len();
        let body_at = at + expected;
        self.resize(body_at, 0);
        body(self);
        let end = self.len();
        let mut length = end - body_at;
        // The most common case: messages of a few bytes.
        if let (1, Ok(byte @ ..0x80)) = (expected, u8::try_from(length)) {
            self[at] = byte;
            return;
        }
        let bytes = varint_length(length as u64);
        if bytes > expected {
            self.resize(end + bytes - expected, 0);
        }
        if bytes != expected {
            self.copy_within(body_at..end, at + bytes);
            self.truncate(end + bytes - expected);
        }
        for byte in &mut self[at..at + bytes - 1] {
            *byte = length.to_le_bytes()[0] | 0x80;
            length >>= 7;
        }
        self[at + bytes - 1] = length.to_le_bytes()[0];
    }
}

/// Counts bytes instead of storing them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct ByteCounter(pub(in crate::api) usize);

impl Output for ByteCounter {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn put_byte(&mut self, _: u8) {
        self.0 += 1;
    }

    #[inline]
    fn put_decimal(&mut self, value: u64) {
        self.0 += value.checked_ilog10().unwrap_or(0) as usize + 1;
    }

    #[inline]
    fn put_counted(&mut self, _: usize, body: impl FnOnce(&mut Self)) {
        let before = self.0;
        body(self);
        self.0 += varint_length((self.0 - before) as u64);
    }
}

/// Returns the number of bytes of a varint.
fn varint_length(value: u64) -> usize {
    1 + (value.checked_ilog2().unwrap_or(0) / 7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ByteCounter, Output};

    fn write(out: &mut impl Output, lengths: &[(usize, usize)], value: u64) {
        for (length, expected) in lengths {
            out.put_counted(*expected, |out| {
                out.put(&vec![7; *length]);
                out.put_counted(1, |out| out.put_decimal(value));
            });
        }
    }

    proptest! {
        #[test]
        fn counts_the_bytes_that_a_buffer_gets(
            lengths in proptest::collection::vec((prop_oneof![0_usize..200, 120_usize..20_000], 1_usize..4), 0..5),
            value in any::<u64>(), shift in 0_u32..64,
        ) {
            let (mut bytes, mut count) = (Vec::new(), ByteCounter::default());
            write(&mut bytes, &lengths, value >> shift);
            write(&mut count, &lengths, value >> shift);
            prop_assert_eq!(bytes.len(), count.0);
            // The output must also parse.
            let mut rest = bytes.as_slice();
            for (length, _) in &lengths {
                let digits = (value >> shift).to_string();
                let (mut total, mut at) = (0_usize, 0);
                loop {
                    total |= usize::from(rest[at] & 0x7f) << (7 * at);
                    at += 1;
                    if rest[at - 1] & 0x80 == 0 {
                        break;
                    }
                }
                prop_assert_eq!(total, length + 1 + digits.len());
                prop_assert!(rest[at + length + 1..].starts_with(digits.as_bytes()));
                rest = &rest[at + total..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
