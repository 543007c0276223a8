//! The estimators of addon-resizer 1.8: `base + extra × n`, where `n` is the number of nodes or containers, or that
//! number rounded up to a step, and its threshold for changes.

use std::cmp::Ordering;

use super::size::Size;

/// Base and extra of both resources, in nanocores and in billionths of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// CPU: base and extra.
    pub cpu: (u128, u128),
    /// Memory: base and extra.
    pub memory: (u128, u128),
}

/// Returns the size for `n` nodes or containers.
#[must_use]
pub(super) fn linear(parameters: Parameters, n: u64) -> Size {
    let of = |(base, extra): (u128, u128)| base.saturating_add(extra.saturating_mul(u128::from(n)));
    Size::from_nanos(of(parameters.cpu), of(parameters.memory))
}

/// Returns the size for `n` rounded up to a step: `smallest`, ⌊1.5 × smallest⌋, and so on.
#[must_use]
pub(super) fn exponential(parameters: Parameters, smallest: u64, n: u64) -> Size {
    linear(parameters, step(smallest, n))
}

/// addon-resizer computes ⌊1.5 n + 0.01⌋ in floating point, where 0.01 compensates for rounding: ⌊3 n / 2⌋ in
/// integers. From 1 that would never grow, so steps start at 2.
fn step(smallest: u64, n: u64) -> u64 {
    let mut step = smallest.max(2);
    while step < n {
        step = step.saturating_add(step / 2);
    }
    step
}

/// Compares the current amount with the expected one. `Less` means that it must grow, `Greater` that it must shrink:
/// the quotient `set / expected`, truncated to two decimals, differs from 1 by more than the threshold in percent.
#[must_use]
pub(super) fn compare(set: u64, expected: u64, threshold: u64) -> Ordering {
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
