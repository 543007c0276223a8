//! Reads DER (X.690, section 10): definite lengths in their shortest form, tags below 31.

use std::fmt::Write as _;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Returns the context-specific tag of a primitive element.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// Returns the context-specific tag of a constructed element.
pub(crate) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// An element: its tag, its content, and its bytes including tag and length.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) bytes: &'a [u8],
}

/// Reads elements in order. Each method returns `None` if the next element is not as expected.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the next element has this tag.
    pub(crate) fn peek(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// Reads an element of any tag.
    pub(crate) fn any(&mut self) -> Option<Element<'a>> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        // Tags above 30 take several bytes. X.509 has none.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, content) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (bytes, content) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
                if bytes.first() == Some(&0) || length < 0x80 {
                    return None;
                }
                (usize::try_from(length).ok()?, content)
            }
            _ => return None,
        };
        let (content, after) = content.split_at_checked(length)?;
        let bytes = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element { tag: *tag, content, bytes })
    }

    /// Reads an element of this tag.
    pub(crate) fn element(&mut self, tag: u8) -> Option<Element<'a>> {
        if self.peek(tag) { self.any() } else { None }
    }

    /// Reads the content of an element of this tag.
    pub(crate) fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element(tag).map(|element| element.content)
    }

    /// Returns a reader of the content of the next element, which has this tag.
    pub(crate) fn nested(&mut self, tag: u8) -> Option<Self> {
        self.content(tag).map(Self)
    }

    /// Reads the content of the next element if it has this tag; `Some(None)` if it has another one.
    #[allow(clippy::option_option, reason = "the outer one is malformed DER, the inner one is absence")]
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.peek(tag) { self.content(tag).map(Some) } else { Some(None) }
    }

    /// Reads an object identifier (X.690, section 8.19). As in Go, its numbers are below 2^31.
    pub(crate) fn object_identifier(&mut self) -> Option<&'a [u8]> {
        let bytes = self.content(OBJECT_IDENTIFIER)?;
        each_number(bytes, |_| ()).map(|()| bytes)
    }

    /// Reads an object identifier whose numbers have any size, as Go does for policies.
    pub(crate) fn long_object_identifier(&mut self) -> Option<&'a [u8]> {
        let bytes = self.content(OBJECT_IDENTIFIER)?;
        let is_first = |at: usize| at == 0 || bytes[at - 1] & 0x80 == 0;
        let is_padded = bytes.iter().enumerate().any(|(at, byte)| *byte == 0x80 && is_first(at));
        (!is_padded && bytes.last()? & 0x80 == 0).then_some(bytes)
    }

    pub(crate) fn boolean(&mut self) -> Option<bool> {
        match self.content(BOOLEAN)? {
            [0] => Some(false),
            [0xff] => Some(true),
            _ => None,
        }
    }

    /// Reads an integer as its two's complement, big endian, in its shortest form.
    pub(crate) fn integer(&mut self) -> Option<&'a [u8]> {
        self.content(INTEGER).filter(|bytes| is_integer(bytes))
    }

    /// Reads an integer from 0 to 2^32 - 1.
    pub(crate) fn unsigned(&mut self) -> Option<u32> {
        let bytes = self.integer()?;
        if bytes[0] & 0x80 != 0 {
            return None;
        }
        let number = bytes.iter().try_fold(0_u64, |number, byte| {
            if number > u64::from(u32::MAX) { None } else { Some(number << 8 | u64::from(*byte)) }
        })?;
        u32::try_from(number).ok()
    }

    /// Reads a bit string. Returns the number of unused bits in its last byte, and its bytes.
    pub(crate) fn bit_string(&mut self) -> Option<(u8, &'a [u8])> {
        let [unused @ 0..=7, bytes @ ..] = self.content(BIT_STRING)? else { return None };
        let last = bytes.last().copied();
        let padding = (1_u8 << unused) - 1;
        if *unused > 0 && last.is_none_or(|last| last & padding != 0) {
            return None;
        }
        Some((*unused, bytes))
    }
}

/// Returns whether this is the content of an integer in its shortest form.
pub(crate) const fn is_integer(bytes: &[u8]) -> bool {
    !matches!(bytes, [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..])
}

/// Passes on the numbers of an object identifier, the first two as one. Returns `None` if it is malformed.
fn each_number(bytes: &[u8], mut each: impl FnMut(u32)) -> Option<()> {
    let mut number = 0_u32;
    let mut first = true;
    for byte in bytes {
        if number >= 1 << 24 || (first && *byte == 0x80) {
            return None;
        }
        number = number << 7 | u32::from(byte & 0x7f);
        first = byte & 0x80 == 0;
        if first {
            each(number);
            number = 0;
        }
    }
    (first && !bytes.is_empty()).then_some(())
}

/// Returns an object identifier in dotted form.
pub(crate) fn dotted(bytes: &[u8]) -> String {
    let mut text = String::new();
    let _ = each_number(bytes, |number| {
        let _ = if text.is_empty() {
            let root = (number / 40).min(2);
            write!(text, "{root}.{}", number - root * 40)
        } else {
            write!(text, ".{number}")
        };
    });
    text
}

#[cfg(test)]
mod tests {
    use super::{Reader, dotted};

    #[test]
    fn refuses_lengths_that_are_not_in_their_shortest_form() {
        assert_eq!(Reader::new(&[4, 1, 7]).content(4), Some(&[7][..]));
        for bytes in [&[4][..], &[4, 2, 7], &[4, 0x81, 1, 7], &[4, 0x82, 0, 1, 7], &[4, 0x80, 7, 0, 0]] {
            assert!(Reader::new(bytes).any().is_none(), "{bytes:?}");
        }
        let long: Vec<u8> = [4, 0x81, 0x80].into_iter().chain([7; 128]).collect();
        assert_eq!(Reader::new(&long).content(4).unwrap().len(), 128);
        assert!(Reader::new(&[0x1f, 1, 1]).any().is_none(), "a tag of several bytes");
    }

    #[test]
    fn reads_integers_in_their_shortest_form_only() {
        assert_eq!(Reader::new(&[2, 2, 0, 0x80]).unsigned(), Some(128));
        assert_eq!(Reader::new(&[2, 5, 0, 0xff, 0xff, 0xff, 0xff]).unsigned(), Some(u32::MAX));
        for bytes in [&[2, 0][..], &[2, 2, 0, 1], &[2, 2, 0xff, 0x80], &[2, 1, 0x80], &[2, 5, 1, 0, 0, 0, 0]]
        {
            assert!(Reader::new(bytes).unsigned().is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn reads_bit_strings_with_zero_padding_only() {
        assert_eq!(Reader::new(&[3, 2, 2, 0b100]).bit_string(), Some((2, &[0b100][..])));
        for bytes in [&[3, 0][..], &[3, 1, 1], &[3, 2, 3, 0b100], &[3, 2, 8, 0]] {
            assert!(Reader::new(bytes).bit_string().is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn writes_object_identifiers_in_dotted_form() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]), "1.2.840.113549");
        assert_eq!(dotted(&[0x55, 0x1d, 0x13]), "2.5.29.19");
        assert!(Reader::new(&[6, 2, 0x80, 1]).object_identifier().is_none());
        assert!(Reader::new(&[6, 1, 0x81]).object_identifier().is_none());
        assert!(Reader::new(&[6, 5, 0x88, 0x80, 0x80, 0x80, 0]).object_identifier().is_none(), "2^31");
        assert!(Reader::new(&[6, 0]).object_identifier().is_none());
    }

    #[test]
    fn reads_object_identifiers_with_large_numbers_for_policies() {
        assert!(Reader::new(&[6, 5, 0x88, 0x80, 0x80, 0x80, 0]).long_object_identifier().is_some());
        for bytes in [&[6, 0][..], &[6, 2, 0x80, 1], &[6, 3, 1, 0x80, 1], &[6, 1, 0x81]] {
            assert!(Reader::new(bytes).long_object_identifier().is_none(), "{bytes:?}");
        }
    }
}
