//! A watch: events as rows change, pulled when the client takes them.
//!
//! A watch keeps no copy of anything, only the version up to which its client knows the rows. Once a second, if there
//! was a change at all, it walks those behind that version, oldest first, so that the version of any event is one to
//! go on from. A client that reads slowly skips samples and costs nothing meanwhile; one that reads nothing for long
//! is let go by the connection ([`crate::server::listen`]).

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cursor::{Cursor, Selection};
use super::encode::{Shape, json, protobuf};
use super::list_options::{Start, WatchOptions};
use super::negotiate::Format;
use super::resource::{Resource, Row};
use super::sample_age::SampleAge;
use super::seats::Taken;
use super::status::Status;
use crate::model::labels::Labels;
use crate::model::rows::{Change, NodeRow, PodRow, Rows, Usage};

/// An answer is sent once it is this long, or what is new is encoded. The changes of one node come whole.
const CHUNK: usize = 32 * 1024;
/// How often changes are looked for.
const PAUSE: Duration = Duration::from_secs(1);
/// After so many changes without an event for this client others have their turn.
const MOST_SKIPPED: usize = 64;
/// How often a client that wants bookmarks gets one; as the API server has it.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// Marks the bookmark behind the initial events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A watch on its way to the client.
pub(super) struct Watch {
    rows: Arc<dyn Rows>,
    selection: Selection,
    shape: Shape,
    format: Format,
    /// What is there at the beginning, as far as it is not sent.
    initial: Option<Cursor>,
    /// The client knows all changes before this version.
    position: u64,
    bookmarks: bool,
    /// Whether a bookmark is owed that ends the initial events.
    owes_end: bool,
    state: State,
    deadline: Instant,
    bookmark_due: Instant,
    seat: Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// It can't go on from where its client is, which is yet to be told.
    Expired,
    /// All is sent.
    Ended,
}

/// What one step of a watch brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Events.
    Chunk(Bytes),
    /// Work was done, but there is nothing to send yet: call again after others had their turn.
    Again,
    /// Nothing is new: call again after this time.
    Wait(Duration),
    /// The watch is over.
    End,
}

impl Watch {
    /// A watch for this time.
    #[allow(clippy::too_many_arguments)] // Each is a part of its own kind.
    pub(super) fn new(
        rows: Arc<dyn Rows>,
        sample_age: SampleAge,
        selection: Selection,
        shape: Shape,
        format: Format,
        options: &WatchOptions,
        seat: Taken,
        time: Range<Instant>,
    ) -> Self {
        // Taken before any row is read, so that what changes in between is told again rather than missed.
        let newest = rows.version();
        let (initial, position, state) = match options.start {
            Start::Initial => {
                let cursor = Cursor::new(rows.clone(), sample_age, selection.clone(), None);
                (Some(cursor), newest, State::Open)
            }
            Start::Now => (None, newest, State::Open),
            Start::At(version) => (None, version, State::Open),
            Start::Unknown => (None, newest, State::Expired),
        };
        Self {
            rows,
            selection,
            shape,
            format,
            initial,
            position,
            bookmarks: options.bookmarks,
            owes_end: options.bookmarks && options.announces_end,
            state,
            deadline: time.end,
            bookmark_due: time.start + BOOKMARKS,
            seat,
        }
    }

    /// Goes one step further at `now`, which is `now_ns` since the Unix epoch.
    pub(super) fn step(&mut self, now: Instant, now_ns: i64) -> Step {
        if self.state == State::Ended {
            return Step::End;
        }
        let mut out = Vec::new();
        self.shape.set_time(now_ns);
        let over = now >= self.deadline || self.seat.is_closing();
        let goes_on = self.send_initial(&mut out) || (!over && self.send_changes(&mut out));
        if !goes_on && self.state != State::Ended && self.initial.is_none() {
            if self.bookmarks && (over || now >= self.bookmark_due) {
                self.bookmark_due = now + BOOKMARKS;
                self.send_bookmark(&mut out, None);
            }
            if over {
                self.state = State::Ended;
            }
        }
        if !out.is_empty() {
            Step::Chunk(out.into())
        } else if self.state == State::Ended {
            Step::End
        } else if goes_on {
            Step::Again
        } else {
            Step::Wait(PAUSE.min(self.deadline.saturating_duration_since(now)))
        }
    }

    /// Adds another piece of what was there at the beginning; whether there is more to do at once.
    fn send_initial(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(mut initial) = self.initial.take() else { return false };
        let Self { shape, format, .. } = self;
        initial.advance(&mut |row| {
            event(out, shape, *format, "ADDED", row);
            if out.len() < CHUNK { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if !initial.is_finished() {
            self.initial = Some(initial);
        } else if std::mem::take(&mut self.owes_end) {
            self.send_bookmark(out, Some(INITIAL_EVENTS_END));
        }
        true
    }

    /// Adds what changed, up to a chunk; whether there is more to do at once.
    fn send_changes(&mut self, out: &mut Vec<u8>) -> bool {
        if self.state == State::Expired {
            self.send_expired(out);
            return false;
        }
        let rows = self.rows.clone();
        for _ in 0..MOST_SKIPPED {
            if out.len() >= CHUNK {
                return true;
            }
            if rows.version() == self.position {
                return false;
            }
            let mut left = Vec::new();
            let Self { selection, shape, format, position, .. } = &mut *self;
            let progress = rows.next_change(selection.resource.rows(), *position, &mut |change| {
                let (row, new) = match change {
                    Change::Node { row, new } => (Row::Node(row), new),
                    Change::Pod { row, new } => (Row::Pod(row), new),
                    Change::Left { namespace, name, labels } => {
                        if selection.covers((namespace, name), labels) {
                            left.push((namespace.to_owned(), name.to_owned(), labels.clone()));
                        }
                        return;
                    }
                };
                if selection.covers(row.key(), row.labels()) {
                    event(out, shape, *format, if new { "ADDED" } else { "MODIFIED" }, row);
                }
            });
            let Ok(progress) = progress else {
                self.send_expired(out);
                return false;
            };
            for (namespace, name, labels) in left {
                self.send_departure(out, (&namespace, &name), &labels, progress.until - 1);
            }
            self.position = progress.until;
            if !progress.more {
                return false;
            }
        }
        true
    }

    /// An object that was selected left, or has other labels: is it still selected?
    fn send_departure(
        &mut self,
        out: &mut Vec<u8>,
        (namespace, name): (&str, &str),
        labels: &Labels,
        version: u64,
    ) {
        let Self { rows, selection, shape, format, .. } = self;
        let format = *format;
        let mut stays = false;
        let mut modified = |row: Row<'_>| {
            stays = selection.covers(row.key(), row.labels());
            if stays {
                event(out, shape, format, "MODIFIED", row);
            }
        };
        match selection.resource {
            Resource::Nodes => {
                rows.node(name, &mut |row| modified(Row::Node(&NodeRow { version, ..*row })));
            }
            Resource::Pods => {
                rows.pod(namespace, name, &mut |row| modified(Row::Pod(&PodRow { version, ..*row })));
            }
        }
        if stays {
            return;
        }
        let mut told = false;
        let mut deleted = |row: Row<'_>| {
            told = true;
            event(out, shape, format, "DELETED", row);
        };
        match selection.resource {
            Resource::Nodes => {
                rows.left_node(name, labels, &mut |row| deleted(Row::Node(&NodeRow { version, ..*row })));
            }
            Resource::Pods => {
                let key = (namespace, name);
                rows.left_pod(key, labels, &mut |row| deleted(Row::Pod(&PodRow { version, ..*row })));
            }
        }
        if told {
            return;
        }
        // What it was last is forgotten: no usage is said, as of now.
        let (timestamp_ns, window_ns) = (shape.created_ns, 0);
        match selection.resource {
            Resource::Nodes => {
                let usage = Usage::default();
                let row = NodeRow { name, labels, version, timestamp_ns, window_ns, usage };
                event(out, shape, format, "DELETED", Row::Node(&row));
            }
            Resource::Pods => {
                let row =
                    PodRow { namespace, name, labels, version, timestamp_ns, window_ns, containers: &[] };
                event(out, shape, format, "DELETED", Row::Pod(&row));
            }
        }
    }

    fn send_bookmark(&mut self, out: &mut Vec<u8>, annotation: Option<&str>) {
        let mut shape = self.shape.clone();
        shape.version_of_list = self.position;
        match self.format {
            Format::Protobuf => protobuf::event(out, "BOOKMARK", &protobuf::bookmark(&shape, annotation)),
            _ => json::event(out, "BOOKMARK", |out| json::bookmark(out, &shape, annotation)),
        }
    }

    /// The last event: the client must list anew.
    fn send_expired(&mut self, out: &mut Vec<u8>) {
        self.state = State::Ended;
        let message =
            "too old resource version: changes since then are not known to this replica; list again";
        let document = Status::new(410, "Expired", message).document(self.format);
        match self.format {
            Format::Protobuf => protobuf::event(out, "ERROR", &document),
            _ => json::event(out, "ERROR", |out| out.extend_from_slice(&document)),
        }
    }
}

/// Appends one event. A table says its columns but once.
fn event(out: &mut Vec<u8>, shape: &mut Shape, format: Format, kind: &str, row: Row<'_>) {
    shape.version_of_list = row.version();
    match format {
        Format::Protobuf => protobuf::event(out, kind, &protobuf::object(shape, row)),
        _ => json::event(out, kind, |out| json::object(out, shape, row)),
    }
    shape.columns = false;
}
