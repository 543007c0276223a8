//! Lines about nodes, bounded: a cause that strikes thousands of nodes at once must not be told as often.

/// Lines in one interval.
const MOST: u32 = 20;
/// The interval, milliseconds.
const INTERVAL_MS: u64 = 10_000;

/// How many lines may still be written.
#[derive(Debug, Default)]
pub(super) struct Budget {
    began_ms: u64,
    written: u32,
    withheld: u32,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Write it, and say first how many were withheld before it.
    Write {
        /// Lines withheld since the last that was written.
        withheld: u32,
    },
    /// Do not.
    Withhold,
}

impl Budget {
    /// Asks for a line.
    pub(super) fn line(&mut self, now_ms: u64) -> Line {
        if now_ms.saturating_sub(self.began_ms) >= INTERVAL_MS {
            (self.began_ms, self.written) = (now_ms, 0);
        }
        if self.written >= MOST {
            self.withheld += 1;
            return Line::Withhold;
        }
        self.written += 1;
        Line::Write { withheld: std::mem::take(&mut self.withheld) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, INTERVAL_MS, Line, MOST};

    #[test]
    fn the_first_are_written_and_the_rest_counted() {
        let mut budget = Budget::default();
        let lines: Vec<Line> = (0..MOST + 5).map(|_| budget.line(7)).collect();
        assert_eq!(lines.iter().filter(|line| **line == Line::Write { withheld: 0 }).count(), MOST as usize);
        assert_eq!(budget.line(INTERVAL_MS - 1), Line::Withhold);
        assert_eq!(budget.line(INTERVAL_MS + 7), Line::Write { withheld: 6 });
        assert_eq!(budget.line(INTERVAL_MS + 7), Line::Write { withheld: 0 });
    }
}
