//! The memory of a server over a long time in which all pods are listed repeatedly.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::candidate::Running;
use super::measure::{JSON, PODS, PROTOBUF};
use super::usage;
use crate::error::Result;
use crate::progress::Progress;

/// The number of lists, whatever the duration; the encodings take turns.
const LISTS: u32 = 1000;

/// A server's memory over a long time.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Soak {
    /// Number of lists of all pods.
    pub lists: u32,
    /// Resident memory after each minute, MB.
    pub rss_mb: Vec<f64>,
    /// The peak of the resident memory, MB.
    pub peak_mb: f64,
}

impl Soak {
    /// Returns the means of the first tenth and of the last tenth of the minutes, MB.
    #[must_use]
    pub fn ends(&self) -> (f64, f64) {
        let tenth = (self.rss_mb.len() / 10).max(1);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / super::as_f64(part.len() as u64);
        let last = self.rss_mb.len().saturating_sub(tenth);
        (mean(&self.rss_mb[..tenth.min(self.rss_mb.len())]), mean(&self.rss_mb[last..]))
    }
}

/// Lists all pods a thousand times within `minutes`.
pub async fn soak(server: &mut Running, minutes: u32, progress: &Progress) -> Result<Soak> {
    let pid = server.process.id();
    let mut soak = Soak { lists: 0, rss_mb: Vec::new(), peak_mb: 0.0 };
    let mut http = server.connect().await?;
    let began = Instant::now();
    let pause = Duration::from_secs(60) * minutes / LISTS;
    for minute in 1..=minutes {
        let lists = LISTS * minute / minutes;
        while soak.lists < lists {
            let accept = if soak.lists.is_multiple_of(2) { JSON } else { PROTOBUF };
            http.get(PODS, accept).await?.ok()?;
            soak.lists += 1;
            tokio::time::sleep_until((began + pause * soak.lists).into()).await;
        }
        tokio::time::sleep_until((began + Duration::from_secs(60) * minute).into()).await;
        server.process.check()?;
        let memory = usage::memory(pid);
        soak.peak_mb = memory.peak_mb;
        soak.rss_mb.push(memory.rss_mb);
        progress.say(format!("minute {minute} of {minutes}: {} lists, {:.1} MB", soak.lists, memory.rss_mb));
    }
    Ok(soak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_the_first_and_last_tenth() {
        let soak = Soak { lists: 0, rss_mb: (0..20).map(f64::from).collect(), peak_mb: 19.0 };
        let (first, last) = soak.ends();
        assert!((first - 0.5).abs() < 1e-9 && (last - 18.5).abs() < 1e-9, "{first} {last}");
    }
}
