//! A list as a stream of chunks.
//!
//! Rows are pulled in batches as the client takes chunks, so a JSON, YAML or Table list of any length costs
//! one chunk of memory, and no lock is held in between. Protobuf is different: `runtime.Unknown.raw` states
//! its length before its content, a repeated `raw` replaces the one before, and rows may change between a
//! pass that measures and one that writes. So the encoded items are collected first, in chunks, and freed as
//! they are sent: the cost is the answer itself, the most compact of the encodings, and nothing is encoded
//! twice. Collecting yields between batches, so other requests go on.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::cursor::{Cursor, PageEnd};
use super::encode::{Indent, Shape, Yaml, json, protobuf};
use super::negotiate::{Format, Layout};

/// A chunk is sent once it is this long.
const CHUNK: usize = 32 * 1024;

/// A list on its way to the client.
pub(super) struct List {
    cursor: Cursor,
    shape: Shape,
    /// Still looking for the end of the page.
    page_end: Option<PageEnd>,
    /// The `continue` token, or empty.
    continuation: String,
    encoding: Encoding,
}

enum Encoding {
    Text { filter: Filter, begun: bool, ended: bool },
    Protobuf { chunks: VecDeque<Bytes>, length: usize, headed: bool },
}

/// What compact JSON goes through.
enum Filter {
    None,
    Indent(Indent),
    Yaml(Yaml),
}

/// What one step of a list brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A piece of the answer.
    Chunk(Bytes),
    /// Work was done, but there is nothing to send yet: call again after others had their turn.
    Again,
    /// The answer is complete.
    End,
}

impl List {
    /// A list of what the cursor selects; at most `limit` objects, or all for `None`.
    pub(super) fn new(cursor: Cursor, shape: Shape, layout: Layout, limit: Option<usize>) -> Self {
        let page_end = limit.map(|limit| cursor.page_end(limit));
        let text = |filter| Encoding::Text { filter, begun: false, ended: false };
        let encoding = match layout {
            Layout { format: Format::Protobuf, .. } => {
                Encoding::Protobuf { chunks: VecDeque::new(), length: 0, headed: false }
            }
            Layout { format: Format::Yaml, .. } => text(Filter::Yaml(Yaml::default())),
            Layout { pretty: true, .. } => text(Filter::Indent(Indent::default())),
            Layout { .. } => text(Filter::None),
        };
        Self { cursor, shape, page_end, continuation: String::new(), encoding }
    }

    /// Goes one step further.
    pub(super) fn step(&mut self) -> Step {
        if let Some(page_end) = &mut self.page_end {
            if let ControlFlow::Break(end) = page_end.advance() {
                self.page_end = None;
                if let Some(key) = end {
                    self.continuation = key.token(self.shape.version_of_list);
                    self.cursor.end_at(key);
                }
            }
            return Step::Again;
        }
        match self.encoding {
            Encoding::Text { ended: true, .. } => Step::End,
            Encoding::Text { .. } => self.text_step(),
            Encoding::Protobuf { .. } => self.protobuf_step(),
        }
    }

    fn text_step(&mut self) -> Step {
        let Self { cursor, shape, continuation, encoding: Encoding::Text { filter, begun, ended }, .. } =
            self
        else {
            return Step::End;
        };
        // Room for one more row behind the mark, so that the chunk rarely grows.
        let mut out = Vec::with_capacity(CHUNK + 2048);
        let mut skip = 0;
        if std::mem::replace(begun, true) {
            // Stands for the item before, so that a comma follows; it is not sent twice.
            out.push(b'}');
            skip = 1;
        } else {
            json::list_head(&mut out, shape, continuation);
        }
        let first = out.len();
        cursor.advance(&mut |row| {
            json::item(&mut out, shape, row);
            if out.len() < CHUNK { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        // A batch that brought nothing must not make the next one believe that an item went before.
        if skip == 0 && out.len() == first && !cursor.is_finished() {
            *begun = false;
            return Step::Again;
        }
        if cursor.is_finished() {
            *ended = true;
            out.extend_from_slice(json::LIST_TAIL);
            if matches!(filter, Filter::None) {
                out.push(b'\n');
            }
        }
        if out.len() == skip {
            return Step::Again;
        }
        Step::Chunk(match filter {
            Filter::None => Bytes::from(out).slice(skip..),
            Filter::Indent(indent) => filtered(&out[skip..], |text, json| indent.push(text, json)),
            Filter::Yaml(yaml) => filtered(&out[skip..], |text, json| yaml.push(text, json)),
        })
    }

    fn protobuf_step(&mut self) -> Step {
        let Self {
            cursor, shape, continuation, encoding: Encoding::Protobuf { chunks, length, headed }, ..
        } = self
        else {
            return Step::End;
        };
        if !cursor.is_finished() {
            let mut out = Vec::with_capacity(CHUNK + 2048);
            cursor.advance(&mut |row| {
                protobuf::item(&mut out, shape, row);
                if out.len() < CHUNK { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            *length += out.len();
            if !out.is_empty() {
                // The last chunk, or one cut short by a batch without matches, may be far from full.
                if out.len() < CHUNK / 2 {
                    out.shrink_to_fit();
                }
                chunks.push_back(out.into());
            }
            return Step::Again;
        }
        if !std::mem::replace(headed, true) {
            return Step::Chunk(protobuf::list_head(shape, continuation, *length).into());
        }
        chunks.pop_front().map_or(Step::End, Step::Chunk)
    }
}

fn filtered(json: &[u8], filter: impl FnOnce(&mut Vec<u8>, &[u8])) -> Bytes {
    let mut text = Vec::with_capacity(json.len() * 2);
    filter(&mut text, json);
    text.into()
}
