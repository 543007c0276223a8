//! The command line, and the settings that follow from it and the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tracing::level_filters::LevelFilter;

use crate::common::OptionalPermissions;
use crate::pki::Timing;

/// The file with the pod's own namespace (Kubernetes, "Accessing the API from a Pod").
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Installs, certifies, repairs and explains the resource-metrics pipeline of a cluster.
#[derive(Clone, Debug, Parser)]
#[command(version)]
#[allow(clippy::struct_excessive_bools, reason = "each is a separate flag")]
pub struct Flags {
    /// The namespace of metrics-core and of the Lease [default: $POD_NAMESPACE, or the pod's own]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,

    /// The image of metrics-core for a MetricsPipeline without spec.metricsCore.image [default: $METRICS_CORE_IMAGE]
    #[arg(long, value_name = "IMAGE")]
    pub metrics_core_image: Option<String>,

    /// Whether to wait for the Lease before writing; without it two operators would overwrite each other
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    pub leader_elect: bool,

    /// The duration of the Lease: another operator takes over when it was not renewed for this time
    #[arg(long, default_value = "15s", value_parser = parse_duration, value_name = "DURATION")]
    pub leader_elect_lease_duration: Duration,

    /// How long the holder retries to renew the Lease before it stops writing and exits
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "DURATION")]
    pub leader_elect_renew_deadline: Duration,

    /// The time between two attempts to acquire or renew the Lease
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "DURATION")]
    pub leader_elect_retry_period: Duration,

    /// The address of /healthz, /readyz and /metrics, over plain HTTP
    #[arg(long, default_value = "[::]:8080", value_name = "ADDRESS:PORT")]
    pub bind_address: SocketAddr,

    /// The minimum level of the log: off, error, warn, info, debug or trace
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: LevelFilter,

    /// The format of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Issue front-proxy certificates for a MetricsPipeline that requests them; the chart sets it with the permissions
    #[arg(long)]
    pub front_proxy: bool,

    /// Approve kubelets' CSRs for a MetricsPipeline that requests it; the chart sets it with the permissions
    #[arg(long)]
    pub csr_approval: bool,

    /// Use cert-manager for a MetricsPipeline that requests it; the chart sets it with the permissions
    #[arg(long)]
    pub cert_manager: bool,

    /// The file with a ServiceAccount token of the audience metrics-core.metrics-pipeline.dev, with which the operator reads
    /// the reports of metrics-core; the chart projects it. Outside of a pod: kubectl create token
    /// metrics-pipeline-operator --audience metrics-core.metrics-pipeline.dev
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/metrics-pipeline.dev/metrics-core/token"
    )]
    pub report_token_file: PathBuf,

    /// For tests: the time in seconds for which a new CA is announced before it signs the serving certificate
    #[arg(long, hide = true, default_value_t = 60, value_name = "SECONDS")]
    pub ca_trust_settles: u64,

    /// For tests: the divisor of every certificate's validity
    #[arg(long, hide = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), value_name = "NUMBER")]
    pub certificate_time_compression: u32,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings of the process, with defaults applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of metrics-core.
    pub namespace: String,
    /// The image for a MetricsPipeline without one.
    pub image: Option<String>,
    /// The identity of this process in the Lease and in events: the name of the pod or the host, and the start time.
    pub identity: String,
    /// The timing of the leader election.
    pub lease: LeaseTiming,
    /// The timing of certificates.
    pub certificates: Timing,
    /// The optional permissions.
    pub permissions: OptionalPermissions,
    /// The file with the token for the reports of metrics-core.
    pub report_token_file: PathBuf,
}

/// The timing of the leader election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// The duration of the Lease.
    pub duration: Duration,
    /// How long the holder retries a renewal that is due.
    pub renew_deadline: Duration,
    /// The time between two attempts.
    pub retry_period: Duration,
}

impl Default for LeaseTiming {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl LeaseTiming {
    /// Returns how long the holder may write after it sent its last successful renewal: until the next one is due, and the
    /// deadline for it. Less than the duration of the Lease, so that it stops before another operator may start.
    #[must_use]
    pub fn write_window(&self) -> Duration {
        self.retry_period + self.renew_deadline
    }

    /// Returns the timeout of one attempt: a deadline has room for three.
    #[must_use]
    pub fn attempt(&self) -> Duration {
        self.renew_deadline / 3
    }

    fn check(&self) -> Result<(), FlagError> {
        let valid = self.duration.as_secs() >= 1
            && self.duration.as_secs() <= 3600
            && self.retry_period >= Duration::from_millis(100)
            && self.renew_deadline >= self.retry_period * 2
            && self.write_window() < self.duration;
        if valid { Ok(()) } else { Err(FlagError::Lease(*self)) }
    }
}

/// Parses a Go duration such as `15s` or `1m30s`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.len() > 16 {
        return Err("is too long".to_owned());
    }
    let duration: kube::core::Duration = text.parse().map_err(|error| format!("{error}"))?;
    if duration.is_negative() {
        return Err("must not be negative".to_owned());
    }
    Ok(duration.into())
}

/// Why the operator can't start.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// The namespace is unknown.
    #[error(
        "--namespace and POD_NAMESPACE are not set, and {NAMESPACE_FILE} cannot be read ({0}); set --namespace outside of a pod"
    )]
    Namespace(std::io::Error),
    /// The timing of the leader election could let two operators write, or leaves no time for a retry.
    #[error(
        "--leader-elect-lease-duration={:?} must be greater than --leader-elect-renew-deadline={:?} plus \
         --leader-elect-retry-period={:?}, and at most 1h; the renew deadline must be at least twice the retry period, which \
         must be at least 100ms",
        .0.duration,
        .0.renew_deadline,
        .0.retry_period
    )]
    Lease(LeaseTiming),
}

impl Flags {
    /// Returns the settings. Flags that are not set are taken from the environment.
    pub fn settings(&self) -> Result<Settings, FlagError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let namespace = match self.namespace.clone().or_else(|| variable("POD_NAMESPACE")) {
            Some(namespace) => namespace,
            None => std::fs::read_to_string(Path::new(NAMESPACE_FILE))
                .map_err(FlagError::Namespace)?
                .trim()
                .to_owned(),
        };
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = variable("POD_NAME").or_else(host).unwrap_or_default();
        let lease = LeaseTiming {
            duration: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry_period: self.leader_elect_retry_period,
        };
        lease.check()?;
        Ok(Settings {
            namespace,
            image: self.metrics_core_image.clone().or_else(|| variable("METRICS_CORE_IMAGE")),
            // Two processes with one host name, as after a restart, must not take each other's Lease for their own.
            identity: format!("{}_{}", name.trim(), started()),
            lease,
            certificates: Timing {
                trust_delay: Duration::from_secs(self.ca_trust_settles),
                compression: self.certificate_time_compression,
            },
            permissions: OptionalPermissions {
                front_proxy: self.front_proxy,
                csr_approval: self.csr_approval,
                cert_manager: self.cert_manager,
            },
            report_token_file: self.report_token_file.clone(),
        })
    }
}

fn started() -> String {
    format!("{:x}", jiff::Timestamp::now().as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_election_is_on_by_default() {
        let parse = |arguments: &[&str]| {
            Flags::parse_from([&["metrics-pipeline-operator"], arguments].concat()).leader_elect
        };
        assert!(parse(&[]));
        assert!(parse(&["--leader-elect"]));
        assert!(!parse(&["--leader-elect=false"]));
    }

    #[test]
    fn rejects_a_lease_that_expires_before_its_holder_stops() {
        let lease = |arguments: &[&str]| {
            let common = ["metrics-pipeline-operator", "--namespace=ns"];
            Flags::parse_from([&common, arguments].concat()).settings().map(|settings| settings.lease)
        };
        assert_eq!(lease(&[]).expect("valid defaults"), LeaseTiming::default());
        let longer = ["--leader-elect-lease-duration=1m", "--leader-elect-renew-deadline=40s"];
        assert_eq!(lease(&longer).expect("valid").write_window(), Duration::from_secs(42));
        for invalid in [
            "--leader-elect-renew-deadline=13s",
            "--leader-elect-renew-deadline=20s",
            "--leader-elect-lease-duration=12s",
            "--leader-elect-lease-duration=0s",
            "--leader-elect-retry-period=6s",
            "--leader-elect-retry-period=0s",
        ] {
            let error = lease(&[invalid]).expect_err(invalid).to_string();
            assert!(error.contains("--leader-elect-renew-deadline"), "{error}");
        }
        assert!(Flags::try_parse_from(["o", "--leader-elect-lease-duration=-15s"]).is_err());
        assert!(Flags::try_parse_from(["o", "--leader-elect-lease-duration=15"]).is_err());
    }
}
