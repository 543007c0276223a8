use std::sync::Arc;
use std::time::Duration;

use super::{BufferLease, BufferPool, DECODE_FACTOR, LARGE, MAX_BODY, STEP};
use crate::ingest::scrape::Error;
use crate::ingest::scrape::inflate::tests::gzip;
use crate::memory::{MemoryBudget, MemoryClass};

const PATIENCE: Duration = Duration::from_secs(5);

/// Enough for several large responses.
const ROOMY: usize = 1 << 30;

fn pool(total: usize) -> (Arc<MemoryBudget>, BufferPool) {
    let budget = MemoryBudget::new(total);
    (budget.clone(), BufferPool::new(budget, PATIENCE))
}

/// Receives `bytes` bytes. Returns the error that ends the response.
async fn receive(lease: &mut BufferLease<'_>, bytes: usize) -> Result<(), Error> {
    const PIECE: usize = 16_000;
    lease.take().await?;
    while lease.buffers().wire.len() < bytes {
        let wire = &mut lease.make_room().await?.wire;
        let before = wire.capacity();
        wire.resize(wire.len() + PIECE, 0);
        assert_eq!(wire.capacity(), before, "room was reserved before it was used");
    }
    Ok(())
}

#[tokio::test]
async fn an_ordinary_response_reserves_one_step() {
    let (budget, pool) = pool(ROOMY);
    let mut lease = pool.lease();
    assert_eq!(budget.reserved(), 0, "no data has arrived");
    lease.take().await.unwrap();
    lease.make_room().await.unwrap();
    assert_eq!(budget.reserved(), STEP);
    drop(lease);
    assert_eq!(budget.reserved(), 0);
}

#[tokio::test]
async fn a_body_on_the_wire_is_bounded_whatever_the_budget() {
    let (budget, pool) = pool(ROOMY);
    let mut lease = pool.lease();
    let error = receive(&mut lease, usize::MAX).await.unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge("on the wire")), "{error}");
    let length = lease.buffers().wire.len();
    assert!(length > MAX_BODY && length < MAX_BODY + LARGE, "{length}");
    assert!(budget.reserved() >= length, "{}", budget.reserved());
}

#[tokio::test]
async fn a_body_on_the_wire_is_bounded_by_the_budget() {
    let (budget, pool) = pool(40 << 20);
    let max = budget.max(MemoryClass::KubeletBodies);
    let mut lease = pool.lease();
    let error = receive(&mut lease, usize::MAX).await.unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge(_)), "{error}");
    assert!(lease.buffers().wire.capacity() <= max * 3 / 4);
    assert!(budget.reserved() <= max * 3 / 4, "{}", budget.reserved());
    assert!(lease.max_body() < MAX_BODY);
}

#[tokio::test(start_paused = true)]
async fn large_responses_leave_a_part_to_others() {
    let (budget, pool) = pool(100 << 20);
    let mut large = Vec::new();
    for size in [8 * LARGE, 4 * LARGE, 2 * LARGE, 2 * LARGE, LARGE + LARGE / 4] {
        let error = loop {
            let mut lease = pool.lease();
            match receive(&mut lease, size).await {
                Ok(()) => large.push(lease),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoMemory(_)), "{error}");
    }
    let mut small = Vec::new();
    for _ in 0..4 {
        let mut lease = pool.lease();
        receive(&mut lease, LARGE / 2).await.unwrap();
        small.push(lease);
    }
    assert!(budget.reserved() <= budget.max(MemoryClass::KubeletBodies));
}

#[tokio::test(start_paused = true)]
async fn small_responses_wait_for_memory() {
    let (budget, pool) = pool(ROOMY);
    let all = budget.try_reserve(MemoryClass::KubeletBodies, budget.max(MemoryClass::KubeletBodies)).unwrap();
    let mut lease = pool.lease();
    assert!(matches!(lease.take().await, Err(Error::NoMemory(STEP))));
    let release = async {
        tokio::time::sleep(PATIENCE / 2).await;
        drop(all);
    };
    let (taken, ()) = tokio::join!(lease.take(), release);
    assert!(taken.is_ok());
}

#[tokio::test]
async fn memory_for_the_decompressed_body_is_reserved_before_it_is_used() {
    let (budget, pool) = pool(ROOMY);
    for (size, expected) in [(LARGE / 4, LARGE / 4), (2 * LARGE, 2 * LARGE * DECODE_FACTOR)] {
        let body: Vec<u8> = (0_u32..).flat_map(|at| at.to_string().into_bytes()).take(size).collect();
        let mut lease = pool.lease();
        let mut wire = gzip(&body);
        wire.shrink_to_fit();
        lease.take().await.unwrap().wire = wire;
        lease.reserve_decoded(0, true).await.unwrap();
        let reserved = budget.reserved();
        // The compressed body is smaller than the other.
        assert!(reserved >= expected && reserved < expected + size, "{size}: {reserved}");
        assert!(lease.inflated(0).unwrap() == body);
        assert_eq!(budget.reserved(), reserved);
    }
    let small = BufferPool::new(MemoryBudget::new(8 << 20), PATIENCE);
    let mut lease = small.lease();
    lease.take().await.unwrap().wire =
        gzip(&(0_u32..).flat_map(|at| at.to_string().into_bytes()).take(4_000_000).collect::<Vec<_>>());
    assert!(matches!(lease.reserve_decoded(0, true).await, Err(Error::BodyTooLarge(_))));
}
