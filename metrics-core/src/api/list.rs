//! A list response, encoded in chunks while the client reads it.
//!
//! JSON and YAML: each step reads a batch of rows and encodes one chunk. A list of any length holds one chunk in
//! memory, and no lock is held between batches.
//!
//! Protobuf: `runtime.Unknown.raw` states its length before its content, so all items must be measured before the
//! first byte is sent. The list is encoded first and then sent, up to a maximum size for this list and a memory
//! budget for all lists together. Beyond either, items are only measured in a first pass, and their rows are recorded
//! (a few bytes each, immutable), also within the budget; the second pass encodes the recorded rows while the client reads.
//! Two passes take a sixth more time, so the maximum size is larger than the lists of most clusters.
//!
//! Every step ends after one batch, so that other requests are served in between.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::chunk_queue::ChunkQueue;
use super::cursor::{Cursor, PageEndSearch};
use super::encode::{EncodeContext, ListPart, Printer, json, protobuf};
use super::list_memory::ListMemory;
use super::negotiate::{MediaType, Representation};
use super::resource::Row;
use super::step::Step;
use crate::memory::Reservation;

/// The length at which a chunk is sent. With a last row and the HTTP framing, it still fits two TLS writes of rustls
/// (64 KiB each); more would cost a further record and system call.
const CHUNK: usize = 124 * 1024;

/// The length of the first chunk. Most lists are shorter than this, and a larger buffer would be requested from and
/// returned to the system for each of them.
const FIRST_CHUNK: usize = 32 * 1024;

/// Spare capacity for the row that crosses the chunk length, so that the buffer rarely grows.
const ROW: usize = 2048;

/// The maximum number of rows that one step measures: some tenths of a millisecond.
const MAX_ROWS_MEASURED: usize = 1024;

/// A list response in progress.
pub(super) struct ListStream {
    cursor: Cursor,
    context: EncodeContext,
    /// Set until the end of the page is known.
    page_end: Option<PageEndSearch>,
    /// The `continue` token, or empty.
    continue_token: String,
    encoder: Encoder,
    memory: ListMemory,
}

enum Encoder {
    Json {
        started: bool,
        ended: bool,
    },
    /// Indented JSON, or YAML.
    Printed {
        printer: Printer,
        started: bool,
        ended: bool,
    },
    Protobuf {
        /// What is encoded but not yet sent.
        chunks: ChunkQueue,
        max_encoded_bytes: usize,
        /// The encoded length of the rows that are recorded for the second pass.
        recorded_bytes: usize,
        head_sent: bool,
    },
}

impl ListStream {
    /// Creates a list of what the cursor selects: at most `limit` objects, or all if `None`.
    ///
    /// For protobuf, encodes at most about `max_encoded_bytes` before they are sent, as far as `reservation` can grow, but
    /// always at least one chunk.
    pub(super) fn new(
        cursor: Cursor,
        context: EncodeContext,
        representation: Representation,
        limit: Option<usize>,
        max_encoded_bytes: usize,
        (memory, reservation): (ListMemory, Reservation),
    ) -> Self {
        let page_end = limit.map(|limit| cursor.page_end(limit));
        let encoder = match (representation.media_type, Printer::of(representation)) {
            (MediaType::Protobuf, _) => Encoder::Protobuf {
                chunks: ChunkQueue::new(reservation),
                max_encoded_bytes,
                recorded_bytes: 0,
                head_sent: false,
            },
            (_, Some(printer)) => Encoder::Printed { printer, started: false, ended: false },
            (_, None) => Encoder::Json { started: false, ended: false },
        };
        Self { cursor, context, page_end, continue_token: String::new(), encoder, memory }
    }

    /// Returns the memory of this list.
    pub(super) fn memory(&self) -> &ListMemory {
        &self.memory
    }

    /// Takes the next step.
    pub(super) fn step(&mut self) -> Step {
        if let Some(page_end) = &mut self.page_end {
            if let ControlFlow::Break(end) = page_end.advance() {
                self.page_end = None;
                if let Some(key) = end {
                    self.continue_token = key.token(self.context.list_resource_version);
                    self.cursor.end_at(key);
                }
            }
            return Step::Yield;
        }
        match self.encoder {
            Encoder::Json { ended: true, .. } | Encoder::Printed { ended: true, .. } => Step::End,
            Encoder::Json { .. } => self.json_step(),
            Encoder::Printed { .. } => self.printed_step(),
            Encoder::Protobuf { .. } => self.protobuf_step(),
        }
    }

    fn json_step(&mut self) -> Step {
        let Self { cursor, context, continue_token, encoder: Encoder::Json { started, ended }, .. } = self
        else {
            return Step::End;
        };
        let length = if *started { CHUNK } else { FIRST_CHUNK };
        let mut out = Vec::with_capacity(length + ROW);
        let mut skip = 0;
        if std::mem::replace(started, true) {
            // The end of the previous item, so that a comma follows. It is cut off below.
            out.push(b'}');
            skip = 1;
        } else {
            json::list_head(&mut out, context, continue_token);
        }
        let head = out.len();
        append_items(cursor, context, &mut out, length);
        // If the first batch selected nothing, the next one must start the list again, without a comma.
        if skip == 0 && out.len() == head && !cursor.is_finished() {
            *started = false;
            return Step::Yield;
        }
        if cursor.is_finished() {
            *ended = true;
            out.extend_from_slice(json::LIST_TAIL);
            out.push(b'\n');
        }
        if out.len() == skip { Step::Yield } else { Step::Chunk(Bytes::from(out).slice(skip..)) }
    }

    /// Encodes the next batch as a complete list in compact JSON, and prints the part of it that continues the
    /// response.
    fn printed_step(&mut self) -> Step {
        let Self {
            cursor,
            context,
            continue_token,
            encoder: Encoder::Printed { printer, started, ended },
            ..
        } = self
        else {
            return Step::End;
        };
        let mut document = Vec::with_capacity(FIRST_CHUNK + ROW);
        if *started {
            json::bare_list_head(&mut document, context);
        } else {
            json::list_head(&mut document, context, continue_token);
        }
        let head = document.len();
        append_items(cursor, context, &mut document, FIRST_CHUNK);
        let (is_empty, last) = (document.len() == head, cursor.is_finished());
        if is_empty && !last {
            return Step::Yield;
        }
        document.extend_from_slice(json::LIST_TAIL);
        let part = ListPart { first: !std::mem::replace(started, true), last, is_empty };
        *ended = last;
        let text = printer.print_part(&document, json::items_member(context), part);
        if text.is_empty() { Step::Yield } else { Step::Chunk(text.into()) }
    }

    fn protobuf_step(&mut self) -> Step {
        let Self {
            cursor,
            context,
            continue_token,
            encoder: Encoder::Protobuf { chunks, max_encoded_bytes, recorded_bytes, head_sent },
            memory,
            ..
        } = self
        else {
            return Step::End;
        };
        if !cursor.is_finished() {
            let length = if chunks.length() == 0 { FIRST_CHUNK } else { CHUNK };
            // Once rows are recorded, all rows after them must be recorded too, even if memory was released meanwhile.
            if !cursor.is_recording() && chunks.length() < *max_encoded_bytes && chunks.has_room(length + ROW)
            {
                chunks.add(length + ROW, |out| {
                    encode_items(out, length, context, |visit| cursor.advance(visit));
                });
            } else {
                if let Some(pause) = memory.keep_rows(cursor.kept_bytes()) {
                    return Step::Wait(pause);
                }
                cursor.record();
                let mut measured = 0;
                cursor.advance(&mut |row| {
                    *recorded_bytes += protobuf::item_length(context, row);
                    measured += 1;
                    if measured < MAX_ROWS_MEASURED {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
            }
            return Step::Yield;
        }
        if !std::mem::replace(head_sent, true) {
            memory.rows_complete(cursor.kept_bytes());
            let length = chunks.length() + *recorded_bytes;
            return Step::Chunk(protobuf::list_head(context, continue_token, length).into());
        }
        if let Some(chunk) = chunks.pop() {
            return Step::Chunk(chunk);
        }
        let mut out = Vec::with_capacity((CHUNK + ROW).min(*recorded_bytes));
        encode_items(&mut out, CHUNK, context, |visit| cursor.replay(visit));
        if out.is_empty() { Step::End } else { Step::Chunk(out.into()) }
    }
}

/// Appends the next batch of items as compact JSON, until `out` is `length` bytes long.
fn append_items(cursor: &mut Cursor, context: &EncodeContext, out: &mut Vec<u8>, length: usize) {
    cursor.advance(&mut |row| {
        json::item(out, context, row);
        if out.len() < length { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
}

/// Appends list items as protobuf, about `length` bytes of them, from the rows that `rows` visits.
fn encode_items(
    out: &mut Vec<u8>,
    length: usize,
    context: &EncodeContext,
    rows: impl FnOnce(&mut dyn FnMut(Row<'_>) -> ControlFlow<()>),
) {
    rows(&mut |row| {
        protobuf::item(out, context, row);
        if out.len() < length { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
}
