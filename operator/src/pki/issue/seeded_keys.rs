//! Keys of unit tests that are the same in each run. Never compiled into the operator.

use std::cell::Cell;

use rcgen::{Error, KeyPair};

/// A P-256 key in PKCS #8 (RFC 5958, RFC 5915), up to the 32 octets of the private key.
const PREFIX: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
    0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04,
    0x20,
];

thread_local! {
    /// The seed of this thread, and the count of keys since.
    static STATE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// Makes the P-256 keys of this thread follow from a seed; `None` makes them random again.
pub(crate) fn seed(seed: Option<u64>) {
    STATE.set(seed.map(|seed| (seed, 0)));
}

/// Returns the next key; `None` without a seed.
pub(super) fn next() -> Option<Result<KeyPair, Error>> {
    let (seed, count) = STATE.get()?;
    STATE.set(Some((seed, count + 1)));
    let mut random = fastrand::Rng::with_seed(seed ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut key = PREFIX.to_vec();
    // Below the order of the curve, whose first octets are all ones.
    key.push(0x7f);
    key.extend(std::iter::repeat_with(|| random.u8(..)).take(31));
    Some(KeyPair::try_from(key))
}
