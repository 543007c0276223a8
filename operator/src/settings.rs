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
    /// The timing of certificates.
    pub certificates: Timing,
    /// The optional permissions.
    pub permissions: OptionalPermissions,
    /// The file with the token for the reports of metrics-core.
    pub report_token_file: PathBuf,
}

/// Why the operator can't start.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// The namespace is unknown.
    #[error(
        "--namespace and POD_NAMESPACE are not set, and {NAMESPACE_FILE} cannot be read ({0}); set --namespace outside of a pod"
    )]
    Namespace(std::io::Error),
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
        Ok(Settings {
            namespace,
            image: self.metrics_core_image.clone().or_else(|| variable("METRICS_CORE_IMAGE")),
            // Two processes with one host name, as after a restart, must not take each other's Lease for their own.
            identity: format!("{}_{}", name.trim(), started()),
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
}
