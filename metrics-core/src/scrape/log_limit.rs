//! Lines about nodes, bounded: a cause that strikes thousands of nodes at once must not be told as often.

/// Lines in one interval.
const MAX_LINES: u32 = 20;
/// The interval, milliseconds.
const INTERVAL_MS: u64 = 10_000;

/// How many lines may still be written.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    began_ms: u64,
    written: u32,
    suppressed: u32,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogDecision {
    /// Write it, and say first how many were suppressed before it.
    Write {
        /// Lines suppressed since the last that was written.
        suppressed: u32,
    },
    /// Do not.
    Suppress,
}

impl LogLimit {
    /// Asks for a line.
    pub(super) fn request(&mut self, now_ms: u64) -> LogDecision {
        if now_ms.saturating_sub(self.began_ms) >= INTERVAL_MS {
            (self.began_ms, self.written) = (now_ms, 0);
        }
        if self.written >= MAX_LINES {
            self.suppressed += 1;
            return LogDecision::Suppress;
        }
        self.written += 1;
        LogDecision::Write { suppressed: std::mem::take(&mut self.suppressed) }
    }
}

#[cfg(test)]
mod tests {
    use super::{INTERVAL_MS, LogDecision, LogLimit, MAX_LINES};

    #[test]
    fn the_first_are_written_and_the_rest_counted() {
        let mut limit = LogLimit::default();
        let lines: Vec<LogDecision> = (0..MAX_LINES + 5).map(|_| limit.request(7)).collect();
        assert_eq!(
            lines.iter().filter(|line| **line == LogDecision::Write { suppressed: 0 }).count(),
            MAX_LINES as usize
        );
        assert_eq!(limit.request(INTERVAL_MS - 1), LogDecision::Suppress);
        assert_eq!(limit.request(INTERVAL_MS + 7), LogDecision::Write { suppressed: 6 });
        assert_eq!(limit.request(INTERVAL_MS + 7), LogDecision::Write { suppressed: 0 });
    }
}
