//! Limits log lines about nodes: a cause that affects thousands of nodes at once must not write thousands of lines.

/// The maximum number of lines per interval.
const MAX_LINES: u32 = 20;
/// The interval in milliseconds.
const INTERVAL_MS: u64 = 10_000;

/// Counts the lines of the current interval.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    started_ms: u64,
    written: u32,
    suppressed: u32,
}

/// Whether to write a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogDecision {
    /// Write it, after reporting how many were suppressed before it.
    Write {
        /// Lines suppressed since the last one that was written.
        suppressed: u32,
    },
    /// Suppress it.
    Suppress,
}

impl LogLimit {
    /// Requests a line.
    pub(super) fn request(&mut self, now_ms: u64) -> LogDecision {
        if now_ms.saturating_sub(self.started_ms) >= INTERVAL_MS {
            (self.started_ms, self.written) = (now_ms, 0);
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
    fn writes_the_first_lines_and_counts_the_rest() {
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
