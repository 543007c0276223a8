//! The estimators of addon-resizer 1.8: `base + extra × n`, where `n` is the number of nodes or containers, or the
//! next of a few steps above it; and its rule of when an amount is near enough.

use std::cmp::Ordering;

use super::size::Size;

/// Base and extra of both resources, in billionths of a core and of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// CPU: base and extra.
    pub cpu: (u128, u128),
    /// Memory: base and extra.
    pub memory: (u128, u128),
}

/// The size for `n` nodes or containers.
#[must_use]
pub fn linear(parameters: Parameters, n: u64) -> Size {
    let of = |(base, extra): (u128, u128)| base.saturating_add(extra.saturating_mul(u128::from(n)));
    Size::from_nanos(of(parameters.cpu), of(parameters.memory))
}

/// The size for the first of the steps `smallest`, ⌊1.5 × that⌋, … that is not below `n`.
#[must_use]
pub fn exponential(parameters: Parameters, smallest: u64, n: u64) -> Size {
    linear(parameters, step(smallest, n))
}

/// addon-resizer computes ⌊1.5 n + 0.01⌋ in floating point, the 0.01 against rounding: in whole numbers ⌊3 n / 2⌋.
/// From 1 that would stay 1 for ever.
fn step(smallest: u64, n: u64) -> u64 {
    let mut step = smallest.max(2);
    while step < n {
        step = step.saturating_add(step / 2);
    }
    step
}

/// Whether an amount is to be changed: up (`Less`) or down (`Greater`), where the quotient of what is set and what is
/// expected, cut to two decimals, differs from 1 by more than the threshold in percent.
#[must_use]
pub fn compare(set: u64, expected: u64, threshold: u64) -> Ordering {
    let percent = u128::from(set) * 100 / u128::from(expected.max(1));
    if percent < u128::from(100_u64.saturating_sub(threshold)) {
        Ordering::Less
    } else if percent > u128::from(100 + threshold) {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

#[cfg(test)]
mod tests;
