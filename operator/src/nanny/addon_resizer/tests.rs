use super::super::size::{MAX_CPU, MAX_MEMORY};
use super::*;
use proptest::prelude::*;

/// CPU 40m + 0.5m, memory 40Mi + 4Mi.
const PARAMETERS: Parameters = Parameters {
    cpu: (40_000_000, 500_000),
    memory: ((40 << 20) * 1_000_000_000, (4 << 20) * 1_000_000_000),
};

/// Computes the formula as addon-resizer's source does, in the simplest way: adds the extra `n` times, and computes
/// steps in floating point.
fn reference(parameters: Parameters, smallest: Option<u64>, n: u64) -> (u128, u128) {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as the original"
    )]
    let n = smallest.map_or(n, |smallest| {
        let mut step = smallest;
        while step < n {
            step = (step as f64 * 1.5 + 0.01) as u64;
        }
        step
    });
    let (mut cpu, mut memory) = (parameters.cpu.0, parameters.memory.0);
    for _ in 0..n {
        cpu += parameters.cpu.1;
        memory += parameters.memory.1;
    }
    let whole = |amount: u128, unit: u128| amount / unit + u128::from(!amount.is_multiple_of(unit));
    (whole(cpu, 1_000_000), whole(memory, 1_000_000_000))
}

#[test]
fn steps_equal_those_of_addon_resizer() {
    let mut steps = vec![step(100, 1)];
    while *steps.last().expect("one") < 5000 {
        steps.push(step(100, steps.last().expect("one") + 1));
    }
    assert_eq!(steps, [100, 150, 225, 337, 505, 757, 1135, 1702, 2553, 3829, 5743]);
}

/// Compares with [`reference`] at every size up to 6,000, and with values computed by hand.
#[test]
fn sizes_equal_those_of_addon_resizer() {
    let mebi = |memory: u64| memory << 20;
    for (n, cpu, memory) in [(0, 40, 40), (1, 41, 44), (5, 43, 60), (100, 90, 440), (5000, 2540, 20_040)] {
        assert_eq!(linear(PARAMETERS, n), Size { cpu, memory: mebi(memory) }, "{n}");
    }
    // 5, 7, 10, 15, 22, 33, 49, 73, 109, …
    for (n, cpu, memory) in
        [(0, 43, 60), (5, 43, 60), (6, 44, 68), (8, 45, 80), (11, 48, 100), (100, 95, 476)]
    {
        assert_eq!(exponential(PARAMETERS, 5, n), Size { cpu, memory: mebi(memory) }, "{n}");
    }
    for n in 0..6000 {
        for smallest in [None, Some(5), Some(16), Some(100)] {
            let size = smallest
                .map_or_else(|| linear(PARAMETERS, n), |smallest| exponential(PARAMETERS, smallest, n));
            assert_eq!(
                (u128::from(size.cpu), u128::from(size.memory)),
                reference(PARAMETERS, smallest, n),
                "{n} {smallest:?}"
            );
        }
    }
}

#[test]
fn threshold_compares_two_decimals() {
    // 0.949 is truncated to 0.94, and 1.059 to 1.05.
    assert_eq!(compare(949, 1000, 5), Ordering::Less);
    assert_eq!(compare(950, 1000, 5), Ordering::Equal);
    assert_eq!(compare(1059, 1000, 5), Ordering::Equal);
    assert_eq!(compare(1060, 1000, 5), Ordering::Greater);
    assert_eq!(compare(101, 100, 0), Ordering::Greater);
    assert_eq!(compare(5, 0, 5), Ordering::Greater);
}

proptest! {
    #[test]
    fn sizes_are_finite_positive_and_monotone(
        base in 1..=1000_u128 * 1_000_000_000, extra in 1..=1000_u128 * 1_000_000_000,
        memory in 1..=(1_u128 << 44) * 1_000_000_000, extra_memory in 1..=(1_u128 << 44) * 1_000_000_000,
        smallest in 2..=100_000_u64, n in 0..=u64::MAX, more in 0..=u64::MAX,
    ) {
        let parameters = Parameters { cpu: (base, extra), memory: (memory, extra_memory) };
        let more = n.saturating_add(more);
        for size in [|p, _, n| linear(p, n), exponential] {
            let (small, large) = (size(parameters, smallest, n), size(parameters, smallest, more));
            prop_assert!(small.cpu >= 1 && small.memory >= 1);
            prop_assert!(small.cpu <= large.cpu && small.memory <= large.memory);
            prop_assert!(large.cpu <= MAX_CPU && large.memory <= MAX_MEMORY);
        }
    }
}
