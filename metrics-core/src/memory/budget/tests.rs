use std::time::Duration;

use proptest::prelude::*;

use super::{MemoryBudget, MemoryClass};

const TOTAL: usize = 100_000;

fn guaranteed(class: MemoryClass) -> usize {
    super::divide(TOTAL).0[class as usize].guaranteed
}

#[test]
fn reserved_bytes_are_released_once() {
    let budget = MemoryBudget::new(TOTAL);
    let class = MemoryClass::EncodedLists;
    let max = budget.max(class);
    let (mut one, mut other) = (budget.empty(class), budget.empty(class));
    assert!(one.try_grow(max - 3));
    assert!(!other.try_grow(4));
    assert!(other.try_grow(3));
    one.release(5);
    other.release(100);
    assert_eq!(budget.reserved(), max - 8);
    let part = one.split(1);
    drop(one);
    assert_eq!(budget.reserved(), 1);
    drop((part, other));
    assert_eq!(budget.reserved(), 0);
    assert_eq!(budget.classes()[class as usize].rejected, 1);
}

#[test]
fn each_class_gets_its_guaranteed_part_whatever_the_others_take() {
    let budget = MemoryBudget::new(TOTAL);
    let mut held = Vec::new();
    let others = MemoryClass::ALL.into_iter().filter(|class| *class != MemoryClass::KubeletBodies);
    for class in others {
        while let Some(reservation) = budget.try_reserve(class, 100) {
            held.push(reservation);
        }
    }
    let class = MemoryClass::KubeletBodies;
    let bodies = budget.try_reserve(class, guaranteed(class)).expect("guaranteed");
    assert!(budget.try_reserve(class, 100).is_none(), "the pool is taken");
    assert!(budget.reserved() <= TOTAL);
    drop(held);
    assert!(budget.try_reserve(class, 100).is_some());
    drop(bodies);
}

#[test]
fn shrinking_keeps_what_is_reserved_and_rejects_more() {
    let budget = MemoryBudget::new(TOTAL);
    let lists = budget.try_reserve(MemoryClass::EncodedLists, 20_000).expect("available");
    budget.set_total(TOTAL / 10);
    assert_eq!(budget.reserved(), 20_000);
    assert!(budget.try_reserve(MemoryClass::EncodedLists, 1).is_none());
    // The guaranteed part of another class is available even while the pool is overdrawn.
    let bodies = super::divide(TOTAL / 10).0[MemoryClass::KubeletBodies as usize].guaranteed;
    assert!(budget.try_reserve(MemoryClass::KubeletBodies, bodies).is_some());
    drop(lists);
    assert!(budget.try_reserve(MemoryClass::EncodedLists, 1).is_some());
}

#[test]
fn large_reservations_spare_a_part_for_others() {
    let budget = MemoryBudget::new(TOTAL);
    let max = budget.max(MemoryClass::KubeletBodies);
    let mut large = budget.empty(MemoryClass::KubeletBodies);
    assert!(!large.try_grow_sparing(max, 10));
    assert!(large.try_grow_sparing(max - 10, 10));
    assert!(budget.try_reserve(MemoryClass::KubeletBodies, 10).is_some());
}

#[test]
fn a_part_is_spared_also_when_others_take_the_pool() {
    let budget = MemoryBudget::new(TOTAL);
    let (class, spare) = (MemoryClass::Responses, 1_000);
    let mut others = budget.empty(MemoryClass::KeptRows);
    while others.try_grow(100) {}
    let mut greedy = budget.empty(class);
    while greedy.try_grow_sparing(100, spare) {}
    assert_eq!(greedy.bytes(), guaranteed(class) - spare);
    assert!(budget.try_reserve(class, spare).is_some());
}

#[tokio::test(start_paused = true)]
async fn waits_for_memory_that_is_released_in_time() {
    let budget = MemoryBudget::new(TOTAL);
    let max = budget.max(MemoryClass::KubeletBodies);
    let all = budget.try_reserve(MemoryClass::KubeletBodies, max).expect("available");
    let mut late = budget.empty(MemoryClass::KubeletBodies);
    assert!(!late.grow_within(1, Duration::from_secs(5)).await);
    assert_eq!(budget.classes()[MemoryClass::KubeletBodies as usize].rejected, 1);
    let release = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(all);
    };
    let (grown, ()) = tokio::join!(late.grow_within(max, Duration::from_secs(5)), release);
    assert!(grown);
    assert_eq!(budget.classes()[MemoryClass::KubeletBodies as usize].rejected, 1);
}

proptest! {
    /// Whatever classes reserve and release, all together stay within the budget, and each within its maximum.
    #[test]
    fn reservations_stay_within_the_budget(
        steps in proptest::collection::vec((0..MemoryClass::ALL.len(), 0..TOTAL / 5, any::<bool>()), 0..80),
    ) {
        let budget = MemoryBudget::new(TOTAL);
        let mut held = Vec::new();
        for (class, bytes, release) in steps {
            if release && !held.is_empty() {
                held.swap_remove(bytes % held.len());
            }
            held.extend(budget.try_reserve(MemoryClass::ALL[class], bytes));
            prop_assert!(budget.reserved() <= TOTAL);
            for state in budget.classes() {
                prop_assert!(state.reserved <= state.max);
            }
        }
        drop(held);
        prop_assert_eq!(budget.reserved(), 0);
    }
}
