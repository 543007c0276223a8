//! A list as a stream of chunks.
//!
//! Rows are pulled in batches as the client takes chunks, so a list of any length costs one chunk of memory, and no lock
//! is held in between. Protobuf is different: `runtime.Unknown.raw` states its length before its content. So it is encoded
//! first and then sent, up to a bound, of its own and of all lists together; what is beyond is measured, and kept as rows,
//! which are some bytes each and do not change, and is encoded from there as the client takes it. Two turns cost a sixth
//! more, and so the bound is larger than what most clusters have. Both yield between batches, so other requests go on.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::budget::Share;
use super::cursor::{Cursor, PageEnd};
use super::encode::{Indent, Shape, Yaml, json, protobuf};
use super::held::Held;
use super::negotiate::{Format, Layout};
use super::resource::Row;

/// A chunk is sent once it is this long: with a last row and what HTTP adds still two times what rustls takes at once
/// (64 kB), for what is beyond would be a record and a system call of its own.
const CHUNK: usize = 124 * 1024;

/// The first one is shorter: most lists are, and their memory is not to come from the system and go back each time.
const FIRST_CHUNK: usize = 32 * 1024;

/// Room for one more row behind the mark, so that the chunk rarely grows.
const ROW: usize = 2048;

/// So many rows are measured before others have their turn, some tenths of a millisecond.
const MEASURED_AT_ONCE: usize = 1024;

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
    Text {
        filter: Filter,
        begun: bool,
        ended: bool,
    },
    /// What is encoded already and how much may be, the length of the rows that are kept, and whether the head was sent.
    Protobuf {
        held: Held,
        at_once: usize,
        kept: usize,
        headed: bool,
    },
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
    /// A list of what the cursor selects; at most `limit` objects, or all for `None`. Of protobuf, about `at_once`
    /// bytes may be encoded before they are sent, if there is as much for `allowed` to take, but always one chunk.
    pub(super) fn new(
        cursor: Cursor,
        shape: Shape,
        layout: Layout,
        limit: Option<usize>,
        (at_once, allowed): (usize, Share),
    ) -> Self {
        let page_end = limit.map(|limit| cursor.page_end(limit));
        let text = |filter| Encoding::Text { filter, begun: false, ended: false };
        let encoding = match layout {
            Layout { format: Format::Protobuf, .. } => {
                Encoding::Protobuf { held: Held::new(allowed), at_once, kept: 0, headed: false }
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
        // What goes through a filter grows.
        let most = if *begun && matches!(filter, Filter::None) { CHUNK } else { FIRST_CHUNK };
        let mut out = Vec::with_capacity(most + ROW);
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
            if out.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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
            cursor,
            shape,
            continuation,
            encoding: Encoding::Protobuf { held, at_once, kept, headed },
            ..
        } = self
        else {
            return Step::End;
        };
        if !cursor.is_finished() {
            let most = if held.length() == 0 { FIRST_CHUNK } else { CHUNK };
            // Whatever is given back meanwhile, what follows rows that are kept must be kept too.
            if !cursor.keeps() && held.length() < *at_once && held.has_room(most + ROW) {
                held.add(most + ROW, |out| encode(out, most, shape, |visit| cursor.advance(visit)));
            } else {
                cursor.keep();
                let mut measured = 0;
                cursor.advance(&mut |row| {
                    *kept += protobuf::item_length(shape, row);
                    measured += 1;
                    if measured < MEASURED_AT_ONCE {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
            }
            return Step::Again;
        }
        if !std::mem::replace(headed, true) {
            return Step::Chunk(protobuf::list_head(shape, continuation, held.length() + *kept).into());
        }
        if let Some(chunk) = held.take() {
            return Step::Chunk(chunk);
        }
        let mut out = Vec::with_capacity((CHUNK + ROW).min(*kept));
        encode(&mut out, CHUNK, shape, |visit| cursor.again(visit));
        if out.is_empty() { Step::End } else { Step::Chunk(out.into()) }
    }
}

/// Appends items of a list in protobuf, about `most` bytes of them, out of the rows that `rows` lets visit.
fn encode(
    out: &mut Vec<u8>,
    most: usize,
    shape: &Shape,
    rows: impl FnOnce(&mut dyn FnMut(Row<'_>) -> ControlFlow<()>),
) {
    rows(&mut |row| {
        protobuf::item(out, shape, row);
        if out.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
}

fn filtered(json: &[u8], filter: impl FnOnce(&mut Vec<u8>, &[u8])) -> Bytes {
    let mut text = Vec::with_capacity(json.len() * 2);
    filter(&mut text, json);
    text.into()
}
