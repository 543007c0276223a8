//! The store: nodes and pods that come, go and are recreated, bodies and failed scrapes in any order. What its readers see
//! must agree.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use metrics_core::ingest::decode::{DecodeOptions, ExpositionFormat, decode};
use metrics_core::ingest::store::{RequestTime, Store, StoreDirectory, Ticket};
use metrics_core::model::labels::Labels;
use metrics_core::model::rows::{Change, Lookup, Pick, RowKind, Rows};

use super::node::{Row, Table, empty_store, node, node_row, nodes, pod_row, pods};
use super::{outcome, size};

const NODES: [&str; 3] = ["a", "b", "c"];
const PODS: [(&str, &str); 5] = [("n", "p"), ("n", "q"), ("o", "p"), ("o", "r"), ("x", "y")];
const CONTAINERS: [&str; 3] = ["main", "proxy", "init"];
/// The maximum number of operations.
const OPERATIONS: usize = 48;
const START_NS: i64 = 1_764_025_740_000_000_000;

/// The state of the model.
struct Run {
    directory: Arc<StoreDirectory>,
    store: Arc<Store>,
    tickets: HashMap<&'static str, Ticket>,
    round: u32,
    /// Watchers of nodes and pods: the version that each has reached, and what it knows.
    watchers: [(u64, Table); 2],
    relists: u32,
}

/// Operations of three bytes: what, which node or pod, and a detail.
pub fn store(input: &[u8]) -> u64 {
    let (directory, store) = empty_store();
    directory.end_node_list();
    directory.end_pod_list();
    let version = store.version();
    let watchers = [(version, Table::new()), (version, Table::new())];
    let mut run = Run { directory, store, tickets: HashMap::new(), round: 0, watchers, relists: 0 };
    let mut rows = 0;
    for operation in input.chunks_exact(3).take(OPERATIONS) {
        run.apply([operation[0], operation[1], operation[2]]);
        rows = run.check();
    }
    outcome((size(rows), run.relists.min(3), run.tickets.len(), run.round.min(8)))
}

fn labels(detail: u8) -> Labels {
    [("detail", if detail & 1 == 0 { "even" } else { "odd" })].into_iter().collect()
}

impl Run {
    fn apply(&mut self, [what, which, detail]: [u8; 3]) {
        let name = NODES[usize::from(which) % NODES.len()];
        let (namespace, pod) = PODS[usize::from(which) % PODS.len()];
        let uid = if detail & 2 == 0 { "1" } else { "2" };
        match what % 9 {
            0 => {
                let node = node(name, uid, labels(detail));
                self.directory.apply_node(node.clone());
                self.tickets.insert(name, self.store.insert_node(&Arc::new(node)));
            }
            1 => {
                self.directory.delete_node(name);
                if let Some(ticket) = self.tickets.remove(name) {
                    self.store.remove_node(ticket);
                    // Late results of the removed node must change nothing.
                    assert!(self.store.begin_batch(ticket).is_none());
                    self.store.scrape_failed(ticket);
                }
            }
            2 => {
                let node = node(name, uid, labels(detail));
                if let Some(ticket) = self.tickets.get(name) {
                    self.directory.apply_node(node.clone());
                    self.store.update_node(*ticket, &Arc::new(node));
                }
            }
            3 => self.directory.apply_pod(namespace, pod, uid, labels(detail)),
            4 => self.directory.delete_pod(namespace, pod),
            5 => {
                if let Some(ticket) = self.tickets.get(name) {
                    self.store.scrape_failed(*ticket);
                }
            }
            6 => {
                // The pods that a new list does not have are gone.
                self.directory.begin_pod_list();
                for (at, (namespace, pod)) in PODS.into_iter().enumerate() {
                    if detail >> at & 1 == 1 {
                        self.directory.apply_pod(namespace, pod, uid, labels(detail));
                    }
                }
                self.directory.end_pod_list();
            }
            // Twice as often: two bodies make a rate.
            _ => self.scrape(name, which, detail),
        }
    }

    /// Puts a body of the node: each bit of `detail` is a container that it has.
    fn scrape(&mut self, name: &str, which: u8, detail: u8) {
        let Some(ticket) = self.tickets.get(name).copied() else { return };
        self.round += 1;
        let at_ms = START_NS / 1_000_000 + i64::from(self.round) * 15_000;
        let mut body = format!(
            "node_cpu_usage_seconds_total {} {at_ms}\nnode_memory_working_set_bytes {} {at_ms}\n",
            self.round,
            1000 + u32::from(which)
        );
        for family in ["cpu_usage_seconds_total", "memory_working_set_bytes"] {
            for bit in 0..8_usize {
                if detail >> bit & 1 == 1 {
                    let (namespace, pod) = PODS[bit % PODS.len()];
                    let container = CONTAINERS[(bit + usize::from(which >> 4)) % CONTAINERS.len()];
                    let value = self.round * (u32::try_from(bit).unwrap_or(0) + 1);
                    let _ = writeln!(
                        body,
                        "container_{family}{{container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"}} {value} {at_ms}"
                    );
                }
            }
        }
        let Some(mut batch) = self.store.begin_batch(ticket) else { panic!("the node was not removed") };
        let options = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 0 };
        decode(body.as_bytes(), options, &mut batch);
        let time = RequestTime {
            monotonic_ms: u64::from(self.round) * 15_000,
            unix_ns: START_NS + i64::from(self.round) * 15_000_000_000,
        };
        let _ = self.store.put(ticket, batch, time);
    }

    /// Compares lists, single reads, pages, second passes and watches; returns the number of rows.
    fn check(&mut self) -> usize {
        let (pods_now, nodes_now) = (pods(&*self.store, None, None), nodes(&*self.store, None));
        for rows in [&pods_now, &nodes_now] {
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "{rows:?}");
        }
        for row in &pods_now {
            let (namespace, name) = (&row.0.0, &row.0.1);
            let mut one = None;
            assert_eq!(
                self.store.pod(namespace, name, &mut |found| one = Some(pod_row(found))),
                Lookup::Found
            );
            assert_eq!(one.as_ref(), Some(row));
        }
        for (namespace, _) in PODS {
            let of: Vec<_> = pods_now.iter().filter(|row| row.0.0 == namespace).cloned().collect();
            assert_eq!(pods(&*self.store, Some(namespace), None), of);
        }
        if let [first, rest @ ..] = pods_now.as_slice() {
            assert_eq!(pods(&*self.store, None, Some((&first.0.0, &first.0.1))), rest);
        }
        if let [first, rest @ ..] = nodes_now.as_slice() {
            assert_eq!(nodes(&*self.store, Some(&first.0.1)), rest);
        }
        assert_eq!(self.read_twice(), (pods_now.clone(), pods_now.clone()));
        self.follow(RowKind::Nodes, &nodes_now);
        self.follow(RowKind::Pods, &pods_now);
        pods_now.len() + nodes_now.len()
    }

    fn read_twice(&self) -> (Vec<Row>, Vec<Row>) {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut reader = self.store.clone().two_pass_reader();
        reader.pods(None, None, &mut |_, _| Pick::Take, &mut |row| {
            first.push(pod_row(row));
            ControlFlow::Continue(())
        });
        reader.replay_pods(&mut |row| {
            second.push(pod_row(row));
            ControlFlow::Continue(())
        });
        (first, second)
    }

    /// Follows the changes since the last call; the watcher must then know what a list returns.
    fn follow(&mut self, kind: RowKind, now: &[Row]) {
        let (version, known) = &mut self.watchers[usize::from(kind == RowKind::Pods)];
        loop {
            let mut removed = Vec::new();
            let progress = self.store.next_change(kind, *version, &mut |change| match change {
                Change::Node { row, .. } => known.extend([node_row(row)]),
                Change::Pod { row, .. } => known.extend([pod_row(row)]),
                Change::Removed { namespace, name, .. } => {
                    removed.push((namespace.to_owned(), name.to_owned()));
                }
            });
            let Ok(progress) = progress else {
                // Too old: list again.
                *version = self.store.version();
                *known = now.iter().cloned().collect();
                self.relists += 1;
                return;
            };
            for key in removed {
                match now.iter().find(|row| row.0 == key) {
                    Some(row) => drop(known.insert(key, row.1.clone())),
                    None => drop(known.remove(&key)),
                }
            }
            assert!(progress.until >= *version);
            *version = progress.until;
            if !progress.more {
                break;
            }
        }
        assert_eq!(known.clone().into_iter().collect::<Vec<_>>(), now, "{kind:?}");
    }
}
