//! Metrics of the process, read from /proc at each scrape (Prometheus, "Writing client libraries", "Process metrics").

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `USER_HZ`: since 2.6, Linux reports CPU time to user space in hundredths of a second on all architectures.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    start_seconds: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { start_seconds: now.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            counter(&mut encoder, "process_cpu_seconds", "User and system CPU time in seconds", seconds)?;
        }
        for (name, help, bytes) in [
            ("process_resident_memory_bytes", "Resident memory in bytes", kilobytes(&status, "VmRSS:")),
            (
                "process_resident_memory_max_bytes",
                "Maximum resident memory since start in bytes",
                kilobytes(&status, "VmHWM:"),
            ),
            ("process_virtual_memory_bytes", "Virtual memory in bytes", kilobytes(&status, "VmSize:")),
        ] {
            if let Some(bytes) = bytes {
                gauge(&mut encoder, name, help, bytes)?;
            }
        }
        gauge(
            &mut encoder,
            "process_start_time_seconds",
            "Start time of the process since the Unix epoch in seconds",
            self.start_seconds,
        )?;
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            gauge(
                &mut encoder,
                "process_open_fds",
                "Open file descriptors",
                f64::from(u32::try_from(entries.count()).unwrap_or(u32::MAX)),
            )?;
        }
        if let Some(most) = max_fds(&fs::read_to_string("/proc/self/limits").unwrap_or_default()) {
            gauge(&mut encoder, "process_max_fds", "Maximum number of open file descriptors", most)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), std::fmt::Error> {
    let metric = ConstGauge::new(value);
    let encoder: MetricEncoder<'_> = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    metric.encode(encoder)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), std::fmt::Error> {
    let metric = ConstCounter::new(value);
    let encoder: MetricEncoder<'_> = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    metric.encode(encoder)
}

/// Returns the sum of `utime` and `stime`, fields 14 and 15. Field 2, in parentheses, can contain any character.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<f64>().ok()?, fields.next()?.parse::<f64>().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn kilobytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}

fn max_fds(limits: &str) -> Option<f64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, kilobytes, max_fds};

    #[test]
    fn parses_the_files_of_linux() {
        assert_eq!(cpu_seconds("7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1"), Some(3.0));
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t    1024 kB\n", "VmRSS:"), Some(1_048_576.0));
        assert_eq!(
            max_fds("Limit  Soft\nMax open files            1024                 4096   files\n"),
            Some(1024.0)
        );
        assert_eq!((cpu_seconds(""), kilobytes("", "VmRSS:"), max_fds("")), (None, None, None));
    }
}
