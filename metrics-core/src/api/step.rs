//! One step of a response body that is produced while the client reads it.

use std::time::Duration;

use bytes::Bytes;

/// The result of one step of a list or watch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Sends bytes to the client.
    Chunk(Bytes),
    /// Has worked, but has nothing to send yet. The caller must yield to other tasks before the next step.
    Yield,
    /// Has nothing to do. The caller must wait this long before the next step. Only watches return this.
    Wait(Duration),
    /// The body is complete.
    End,
}
