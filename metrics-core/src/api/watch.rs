//! A watch: events for changed rows, produced while the client reads them.
//!
//! A watch stores no rows, only the version up to which its client knows them. Once a second, if anything changed, it
//! visits the selected changes since that version, oldest first, so that a client can resume from the version of any
//! event. An object whose labels begin or cease to be selected is `ADDED` or `DELETED`. A client that reads slowly skips
//! samples and uses no memory meanwhile. A client that stops reading is disconnected
//! by the server ([`crate::server::listen`]).

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cursor::{Cursor, Selection};
use super::encode::{EncodeContext, json, protobuf};
use super::list_options::{Start, WatchOptions};
use super::negotiate::MediaType;
use super::resource::{Resource, Row};
use super::sample_age::SampleAge;
use super::status::Status;
use super::step::Step;
use super::watch_limit::WatchPermit;
use crate::model::labels::Labels;
use crate::model::rows::{Change, NodeRow, PodRow, Rows, Usage};

/// The length at which a chunk of events is sent, even if there are further changes. The changes of one node are not
/// split.
const CHUNK: usize = 32 * 1024;
/// How often a watch polls for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The number of changes without an event for this client after which a step yields.
const MAX_CHANGES_SKIPPED: usize = 64;
/// The interval of bookmarks, the same as kube-apiserver's.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Annotates the bookmark after the initial events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A watch response in progress.
pub(super) struct WatchStream {
    rows: Arc<dyn Rows>,
    selection: Selection,
    context: EncodeContext,
    media_type: MediaType,
    /// The rows that are still to be sent as initial events.
    initial: Option<Cursor>,
    /// The client knows all changes before this version.
    version: u64,
    /// Objects that appeared at the first version or later are new to the client, and those at the second or later were
    /// certainly not sent.
    complete_at: (u64, u64),
    bookmarks: bool,
    /// Whether the initial events must be followed by a bookmark.
    initial_bookmark_pending: bool,
    phase: Phase,
    deadline: Instant,
    next_bookmark: Instant,
    permit: WatchPermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The changes since the client's version are no longer known. The client must get an `ERROR` event.
    Expired,
    Ended,
}

impl WatchStream {
    /// Creates a watch for this period of time.
    #[allow(clippy::too_many_arguments)] // They are unrelated.
    pub(super) fn new(
        rows: Arc<dyn Rows>,
        sample_age: SampleAge,
        selection: Selection,
        context: EncodeContext,
        media_type: MediaType,
        options: &WatchOptions,
        permit: WatchPermit,
        time: Range<Instant>,
    ) -> Self {
        // Read before any row, so that a change in between is sent twice rather than missed.
        let newest = rows.version();
        let (initial, version, phase) = match options.start {
            Start::Initial => {
                let cursor = Cursor::new(rows.clone(), sample_age, selection.clone(), None);
                (Some(cursor), newest, Phase::Open)
            }
            Start::Now => (None, newest, Phase::Open),
            Start::At(version) => (None, version, Phase::Open),
            Start::Unknown => (None, newest, Phase::Expired),
        };
        Self {
            rows,
            selection,
            context,
            media_type,
            initial,
            version,
            // The version of an event: the client may know all or some of its objects. That of a list: it knows none.
            complete_at: (version, version + u64::from(matches!(options.start, Start::At(_)))),
            bookmarks: options.bookmarks,
            initial_bookmark_pending: options.bookmarks && options.send_initial_events,
            phase,
            deadline: time.end,
            next_bookmark: time.start + BOOKMARK_INTERVAL,
            permit,
        }
    }

    /// Takes the next step at `now`, which is `now_ns` nanoseconds since the Unix epoch.
    pub(super) fn step(&mut self, now: Instant, now_ns: i64) -> Step {
        if self.phase == Phase::Ended {
            return Step::End;
        }
        let mut out = Vec::new();
        self.context.set_time(now_ns);
        let over = now >= self.deadline || self.permit.is_closed();
        let more = self.send_initial(&mut out) || (!over && self.send_changes(&mut out));
        if !more && self.phase != Phase::Ended && self.initial.is_none() {
            if self.bookmarks && (over || now >= self.next_bookmark) {
                self.next_bookmark = now + BOOKMARK_INTERVAL;
                self.send_bookmark(&mut out, None);
            }
            if over {
                self.phase = Phase::Ended;
            }
        }
        if !out.is_empty() {
            Step::Chunk(out.into())
        } else if self.phase == Phase::Ended {
            Step::End
        } else if more {
            Step::Yield
        } else {
            Step::Wait(POLL_INTERVAL.min(self.deadline.saturating_duration_since(now)))
        }
    }

    /// Appends a chunk of initial events. Returns whether the next step must follow at once.
    fn send_initial(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(mut initial) = self.initial.take() else { return false };
        let Self { context, media_type, .. } = self;
        initial.advance(&mut |row| {
            event(out, context, *media_type, "ADDED", row);
            if out.len() < CHUNK { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if !initial.is_finished() {
            self.initial = Some(initial);
        } else if std::mem::take(&mut self.initial_bookmark_pending) {
            self.send_bookmark(out, Some(INITIAL_EVENTS_END));
        }
        true
    }

    /// Appends a chunk of events for changes. Returns whether the next step must follow at once.
    fn send_changes(&mut self, out: &mut Vec<u8>) -> bool {
        if self.phase == Phase::Expired {
            self.send_expired(out);
            return false;
        }
        let rows = self.rows.clone();
        for _ in 0..MAX_CHANGES_SKIPPED {
            if out.len() >= CHUNK {
                return true;
            }
            if rows.version() == self.version {
                self.complete_at = (self.version, self.version);
                return false;
            }
            let mut removed = None;
            let Self { selection, context, media_type, version, complete_at, .. } = &mut *self;
            let query = selection.changes(*version, *complete_at);
            let mut pick = |key: (&str, &str), labels: &Labels| selection.matches(key, labels);
            let progress = rows.next_change(query, &mut pick, &mut |change| {
                let (row, before) = match change {
                    Change::Node { row, before } => (Row::Node(row), before),
                    Change::Pod { row, before } => (Row::Pod(row), before),
                    Change::Removed { namespace, name, labels } => {
                        if selection.matches((namespace, name), labels) {
                            removed = Some((namespace.to_owned(), name.to_owned(), labels.clone()));
                        }
                        return;
                    }
                };
                let is_selected = selection.matches(row.key(), row.labels());
                match (row, before.filter(|labels| selection.matches(row.key(), labels))) {
                    (_, None) if !is_selected => {}
                    (_, None) => event(out, context, *media_type, "ADDED", row),
                    (_, Some(_)) if is_selected => event(out, context, *media_type, "MODIFIED", row),
                    // With the labels with which it was last selected.
                    (Row::Node(row), Some(labels)) => {
                        let row = NodeRow { labels, ..*row };
                        event(out, context, *media_type, "DELETED", Row::Node(&row));
                    }
                    (Row::Pod(row), Some(labels)) => {
                        let row = PodRow { labels, ..*row };
                        event(out, context, *media_type, "DELETED", Row::Pod(&row));
                    }
                }
            });
            let Ok(progress) = progress else {
                self.send_expired(out);
                return false;
            };
            if let Some((namespace, name, labels)) = removed {
                self.send_deleted(out, (&namespace, &name), &labels, progress.until - 1);
            }
            self.version = progress.until;
            if !progress.more {
                self.complete_at = (self.version, self.version);
                return false;
            }
        }
        true
    }

    /// Appends the event for a selected object that was removed, with its last known row.
    fn send_deleted(
        &mut self,
        out: &mut Vec<u8>,
        (namespace, name): (&str, &str),
        labels: &Labels,
        version: u64,
    ) {
        let Self { rows, selection, context, media_type, .. } = self;
        let media_type = *media_type;
        let mut sent = false;
        let mut deleted = |row: Row<'_>| {
            sent = true;
            event(out, context, media_type, "DELETED", row);
        };
        match selection.resource {
            Resource::Nodes => {
                let mut visit = |row: &NodeRow<'_>| deleted(Row::Node(&NodeRow { version, ..*row }));
                rows.last_known_node(name, labels, &mut visit);
            }
            Resource::Pods => {
                let mut visit = |row: &PodRow<'_>| deleted(Row::Pod(&PodRow { version, ..*row }));
                rows.last_known_pod((namespace, name), labels, &mut visit);
            }
        }
        if sent {
            return;
        }
        // The last known row is no longer stored: the event has no usage, and the current time.
        let (timestamp_ns, window_ns) = (context.created_ns, 0);
        match selection.resource {
            Resource::Nodes => {
                let usage = Usage::default();
                let row = NodeRow { name, labels, version, timestamp_ns, window_ns, usage };
                event(out, context, media_type, "DELETED", Row::Node(&row));
            }
            Resource::Pods => {
                let row =
                    PodRow { namespace, name, labels, version, timestamp_ns, window_ns, containers: &[] };
                event(out, context, media_type, "DELETED", Row::Pod(&row));
            }
        }
    }

    fn send_bookmark(&mut self, out: &mut Vec<u8>, annotation: Option<&str>) {
        let mut context = self.context.clone();
        context.list_resource_version = self.version;
        match self.media_type {
            MediaType::Protobuf => {
                protobuf::event(out, "BOOKMARK", &protobuf::bookmark(&context, annotation));
            }
            _ => json::event(out, "BOOKMARK", |out| json::bookmark(out, &context, annotation)),
        }
    }

    /// Appends the last event: the client must list again.
    fn send_expired(&mut self, out: &mut Vec<u8>) {
        self.phase = Phase::Ended;
        let message =
            "too old resource version: this replica does not know the changes since then; list again";
        let document = Status::expired(message).document(self.media_type);
        match self.media_type {
            MediaType::Protobuf => protobuf::event(out, "ERROR", &document),
            _ => json::event(out, "ERROR", |out| out.extend_from_slice(&document)),
        }
    }
}

/// Appends one event. Only the first table of a watch has column definitions.
fn event(out: &mut Vec<u8>, context: &mut EncodeContext, media_type: MediaType, kind: &str, row: Row<'_>) {
    context.list_resource_version = row.version();
    match media_type {
        MediaType::Protobuf => protobuf::event(out, kind, &protobuf::object(context, row)),
        _ => json::event(out, kind, |out| json::object(out, context, row)),
    }
    context.columns = false;
}
