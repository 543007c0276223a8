use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::{FREE, PROXY_FREE, PROXY_MEMORY, Place, Places, Source, Standing};
use crate::memory::{MemoryBudget, MemoryClass};
use crate::server::listen::ConnectionMetrics;

const SIZE: usize = 1000;

fn places(max: usize) -> Arc<Places> {
    Places::new(max, MemoryBudget::new(1 << 30), ConnectionMetrics::default())
}

fn source(last: u16) -> Source {
    let [high, low] = last.to_be_bytes();
    IpAddr::from([10, 0, high, low]).into()
}

/// Opens `count` connections.
fn open(places: &Arc<Places>, from: u16, count: usize) -> Vec<Place> {
    (0..count).map(|_| places.admit(source(from), SIZE).expect("admitted")).collect()
}

fn is_open(place: &Place) -> bool {
    place.places.state.lock().occupants.contains_key(&place.id)
}

fn count_open(places: &[Place]) -> usize {
    places.iter().filter(|place| is_open(place)).count()
}

fn user(place: Place) -> Place {
    place.connected();
    place.authenticated(Standing::User);
    place
}

#[test]
fn a_flood_of_one_source_takes_no_place_of_others() {
    let places = places(4096);
    let probes = open(&places, 1, FREE);
    let users: Vec<Place> = open(&places, 2, FREE).into_iter().map(user).collect();
    let proxy = open(&places, 3, 1);
    proxy[0].authenticated(Standing::FrontProxy);
    // 200 of a second source are below the share of the first.
    let small = open(&places, 4, 200);
    let large = open(&places, 5, 4500);
    assert_eq!(
        [count_open(&probes), count_open(&users), count_open(&proxy), count_open(&small)],
        [FREE, FREE, 1, 200]
    );
    assert!(!is_open(&large[0]) && is_open(&large[4499]), "the oldest is closed first");
    assert!(large[0].evicted().now_or_never().is_some(), "and is notified");
    assert!(large[4499].evicted().now_or_never().is_none());
    // Newcomers of any source have a place, and take it from the flood.
    let before = count_open(&large);
    let newcomers = (6..300).flat_map(|from| open(&places, from, FREE)).collect::<Vec<_>>();
    assert_eq!(count_open(&newcomers), newcomers.len());
    assert_eq!([count_open(&probes), count_open(&users), count_open(&small)], [FREE, FREE, 200]);
    assert!(count_open(&large) < before);
}

#[test]
fn shares_the_places_of_several_floods() {
    let places = places(1000);
    let first = open(&places, 1, 2000);
    let second = open(&places, 2, 2000);
    let (first, second) = (count_open(&first), count_open(&second));
    assert!(first.abs_diff(second) <= 1, "{first} and {second}");
}

#[test]
fn a_newcomer_of_a_flooding_source_replaces_its_oldest() {
    let places = places(100);
    let flood = open(&places, 1, 1000);
    let newcomer = places.admit(source(1), SIZE).expect("admitted");
    let more = open(&places, 1, 50);
    assert!(is_open(&newcomer), "there are older ones");
    assert_eq!(count_open(&more), 50);
    drop(flood);
}

#[test]
fn closes_unauthenticated_connections_first_and_busy_ones_never() {
    let places = places(100);
    let users: Vec<Place> = open(&places, 1, 40).into_iter().map(user).collect();
    let busy = open(&places, 1, 20);
    for place in &busy {
        place.busy(true);
    }
    let silent = open(&places, 1, 200);
    assert_eq!([count_open(&users), count_open(&busy)], [40, 20]);
    // The silent ones of other sources are within what is free.
    drop(silent);
    let others: Vec<Place> = (2..100).flat_map(|from| open(&places, from, 1)).collect();
    let left = count_open(&users);
    assert_eq!(left, FREE, "the most of a kind");
    assert!(is_open(&users[39]) && !is_open(&users[0]), "idle for longest");
    assert_eq!(count_open(&busy), 20);
    assert!(count_open(&others) > 60);
    // Nothing but busy ones is left in the end.
    for place in others.iter().chain(&users) {
        place.busy(true);
    }
    assert!(places.admit(source(9), SIZE).is_none());
    busy[0].busy(false);
    assert!(places.admit(source(9), SIZE).is_some());
    assert!(!is_open(&busy[0]));
}

#[test]
fn reserves_places_for_few_connections_and_for_front_proxies() {
    let places = places(320);
    let known = open(&places, 1, 1);
    known[0].authenticated(Standing::FrontProxy);
    let fill = |from: u16| {
        let mut busy = Vec::new();
        while let Some(place) = places.admit(source(from), SIZE) {
            place.busy(true);
            busy.push(place);
        }
        busy
    };
    let flood = fill(2);
    assert_eq!(flood.len(), 320 - 20 - 1);
    let probes: Vec<_> = (3..13).map(fill).collect();
    assert_eq!(probes.iter().map(Vec::len).sum::<usize>(), 10, "the first has most of the reserve");
    assert!(places.admit(source(14), SIZE).is_none());
    assert_eq!(fill(1).len(), 10, "front proxies have the rest");
}

#[test]
fn never_closes_connections_of_front_proxies() {
    let places = places(100);
    let proxies = open(&places, 1, 50);
    for place in &proxies {
        place.authenticated(Standing::FrontProxy);
    }
    let flood = open(&places, 2, 1000);
    let same_source = open(&places, 1, 1000);
    assert_eq!(count_open(&proxies), 50);
    drop((flood, same_source));
}

#[tokio::test(start_paused = true)]
async fn spares_new_connections_of_sources_with_a_recent_front_proxy() {
    let places = places(200);
    let proxy = open(&places, 1, 1);
    proxy[0].authenticated(Standing::FrontProxy);
    drop(proxy);
    let handshakes = open(&places, 1, 30);
    // Each has fewer than the proxy's source.
    let floods: Vec<Place> = (2..40).flat_map(|from| open(&places, from, 20)).collect();
    assert_eq!(count_open(&handshakes), 30);
    drop((floods, handshakes));
    // But not so many that a flood from the same source takes all places.
    let handshakes = open(&places, 1, PROXY_FREE + 50);
    let floods = open(&places, 2, 500);
    let open_handshakes = count_open(&handshakes);
    assert!((PROXY_FREE..100).contains(&open_handshakes), "{open_handshakes}: a half");
    drop((floods, handshakes));
    tokio::time::advance(PROXY_MEMORY + Duration::from_secs(1)).await;
    let handshakes = open(&places, 1, 30);
    let floods: Vec<Place> = (2..40).flat_map(|from| open(&places, from, 20)).collect();
    assert!(count_open(&handshakes) < 30, "forgotten");
    drop(floods);
}

#[test]
fn weighs_connections_by_their_memory() {
    let budget = MemoryBudget::new(300 * SIZE);
    let room = budget.max(MemoryClass::Connections) / SIZE;
    assert!((90..110).contains(&room), "{room}");
    let places = Places::new(4096, budget.clone(), ConnectionMetrics::default());
    let silent = open(&places, 1, 200);
    let other = open(&places, 2, FREE);
    // One that grows closes the oldest of the largest source.
    let before = count_open(&silent);
    assert!(other[0].resize(20 * SIZE));
    assert!(count_open(&silent) + 19 <= before, "closed for what it grew");
    assert_eq!(count_open(&other), FREE);
    // It closes itself only if there is nothing else.
    assert!(!other[0].resize(1000 * SIZE), "more than all");
    assert!(!is_open(&other[0]) && count_open(&silent) > 0, "in vain, so at nobody's cost");
    drop((silent, other));
    assert_eq!(budget.reserved(), 0);
    // A smaller limit applies to the next connection.
    let many = open(&places, 1, 80);
    assert_eq!(count_open(&many), 80);
    budget.set_total(60 * SIZE);
    let newcomers: Vec<_> = (2..6).filter_map(|from| places.admit(source(from), SIZE)).collect();
    assert!(count_open(&many) < 20);
    assert!(count_open(&newcomers) > 0);
    assert!(budget.reserved() <= 20 * SIZE);
}

#[test]
fn counts_what_is_left() {
    let places = places(50);
    let mut open = open(&places, 1, 100);
    for (at, place) in open.iter().enumerate() {
        place.connected();
        place.busy(at % 2 == 0);
        place.authenticated([Standing::User, Standing::FrontProxy][at % 2]);
        place.busy(false);
        let _ = place.resize(at);
    }
    open.clear();
    let state = places.state.lock();
    assert!(state.occupants.is_empty() && state.counts.is_empty());
    assert_eq!(state.reserved.bytes(), 0);
    assert!(state.unauthenticated.oldest().next().is_none() && state.users.oldest().next().is_none());
    assert!(state.proxies.values().all(|proxy| proxy.open == 0));
}
