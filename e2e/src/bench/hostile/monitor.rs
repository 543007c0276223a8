//! What metrics-core uses and reports, once a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep_until, timeout};

use super::clients::{Client, Clients, JSON, Log};
use super::confined::Confined;
use crate::error::Result;
use crate::progress::Progress;
use crate::testbed::http::Connection;

const SECOND: Duration = Duration::from_secs(1);

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Second {
    /// Resident memory of the process, MB.
    pub rss_mb: f64,
    /// Memory that counts against the limit, MB.
    pub charged_mb: f64,
    /// CPU in this second, percent of one CPU.
    pub cpu_percent: f64,
    /// Processes that the kernel killed so far because of the limit.
    pub oom_kills: u64,
    /// Starts of metrics-core after the first one.
    pub restarts: u32,
    /// The highest `metrics_core_discovery_age_seconds`; `None` if /metrics failed.
    pub age_s: Option<f64>,
    /// `metrics_core_apiserver_connections_replaced_total`.
    pub connections_replaced: Option<f64>,
    /// Connections that metrics-core has open.
    pub connections: Option<f64>,
}

/// The seconds since the start of the run.
pub(super) type Seconds = Arc<Mutex<Vec<Second>>>;

/// Records forever.
pub(super) async fn run(
    mut confined: Confined,
    clients: Arc<Clients>,
    began: Instant,
    log: Log,
    seconds: Seconds,
    progress: Progress,
) -> Result<()> {
    let (mut before, mut restarts) = (Duration::ZERO, 0);
    for number in 1_u32.. {
        sleep_until((began + SECOND * number).into()).await;
        let used = confined.check()?;
        if let Some(alive) = last_probe(&log) {
            confined.probed(alive)?;
        }
        if confined.restarts > restarts {
            restarts = confined.restarts;
            let reason = confined.reasons.last().map_or("", String::as_str);
            progress.say(format!("metrics-core was started again: it {reason}"));
        }
        let text = timeout(SECOND / 2, metrics(&clients)).await.ok().and_then(Result::ok);
        let value = |name: &str| text.as_deref().and_then(|text| largest(text, name));
        let cpu = used.cpu.saturating_sub(before);
        before = used.cpu;
        let second = Second {
            rss_mb: used.rss_mb,
            charged_mb: megabytes(used.memory.charged),
            cpu_percent: cpu.as_secs_f64() * 100.0,
            oom_kills: used.memory.oom_kills,
            restarts,
            age_s: value("metrics_core_discovery_age_seconds"),
            connections_replaced: value("metrics_core_apiserver_connections_replaced_total"),
            connections: value("metrics_core_open_connections"),
        };
        let mut seconds = seconds.lock();
        // A second may be missed on a busy machine.
        seconds.resize(number as usize, second);
    }
    Ok(())
}

async fn metrics(clients: &Clients) -> Result<String> {
    let mut http = Connection::tls(clients.address, clients.config.clone()).await?;
    let response = http.get("/metrics", JSON).await?.ok()?;
    Ok(response.text().into_owned())
}

fn last_probe(log: &Log) -> Option<bool> {
    let log = log.lock();
    log.iter().rev().find(|sent| sent.client == Client::Livez).map(|sent| sent.error.is_none())
}

/// Returns the largest value of a metric over its series.
fn largest(text: &str, name: &str) -> Option<f64> {
    let series = text.lines().filter_map(|line| line.strip_prefix(name));
    let of_metric = series.filter(|rest| rest.starts_with(['{', ' ']));
    let values = of_metric.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    values.reduce(f64::max)
}

#[allow(clippy::cast_precision_loss, reason = "a figure")]
pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::largest;

    #[test]
    fn returns_the_largest_value_of_the_metric() {
        let text = "# TYPE a gauge\na{x=\"1\"} 2.5\na{x=\"2\"} 7\nab 9\n";
        assert_eq!((largest(text, "a"), largest(text, "b")), (Some(7.0), None));
    }
}
