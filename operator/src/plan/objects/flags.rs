//! The arguments of metrics-core.

use crds::{KubeletAddressType, KubeletTlsMode, LogFormat, LogLevel, WatchMode};

use super::Context;
use super::config_map::KUBELET_CA;
use crate::common::ManagedObject;

/// The mount path of the ConfigMap.
pub(crate) const CONFIG_DIRECTORY: &str = "/etc/metrics-core";

/// Returns the arguments that follow from the spec, and then `extraArgs`.
#[must_use]
pub(crate) fn arguments(context: Context<'_>) -> Vec<String> {
    let core = &context.spec.metrics_core;
    let kubelet = &core.kubelet;
    let mut arguments = vec![
        format!("--secure-port={}", core.secure_port_or_default()),
        format!("--tls-secret={}/{}", context.settings.namespace, ManagedObject::ServingSecret.name()),
        format!("--metric-resolution={}", core.metric_resolution),
        format!("--kubelet-request-timeout={}", kubelet.request_timeout),
        // The time until every router of requests knows that this pod terminates.
        "--shutdown-delay-duration=5s".to_owned(),
        format!("--kubelet-preferred-address-types={}", address_types(&kubelet.address_types)),
        match kubelet.port {
            Some(port) => format!("--kubelet-port={port}"),
            None => "--kubelet-use-node-status-port".to_owned(),
        },
        match kubelet.tls.mode {
            KubeletTlsMode::Verify | KubeletTlsMode::Pin => {
                format!("--kubelet-certificate-authority={CONFIG_DIRECTORY}/{KUBELET_CA}")
            }
            KubeletTlsMode::Insecure => "--kubelet-insecure-tls".to_owned(),
        },
        format!("--log-level={}", log_level(core.log_level)),
        format!("--logging-format={}", log_format(core.log_format)),
    ];
    if kubelet.tls.mode == KubeletTlsMode::Pin {
        arguments.push("--kubelet-tls-pin".to_owned());
    }
    if core.watch == WatchMode::Enabled {
        arguments.push("--watch".to_owned());
    }
    arguments.extend(kubelet.node_selector.as_ref().map(|selector| format!("--node-selector={selector}")));
    arguments.extend(core.extra_args.iter().cloned());
    arguments
}

fn address_types(types: &[KubeletAddressType]) -> String {
    let names: Vec<_> = types
        .iter()
        .map(|address_type| match address_type {
            KubeletAddressType::Hostname => "Hostname",
            KubeletAddressType::InternalIP => "InternalIP",
            KubeletAddressType::InternalDNS => "InternalDNS",
            KubeletAddressType::ExternalIP => "ExternalIP",
            KubeletAddressType::ExternalDNS => "ExternalDNS",
        })
        .collect();
    names.join(",")
}

const fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

const fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;

    #[test]
    fn sets_every_default() {
        let arguments = with_context(|_| {}, arguments);
        assert_eq!(
            arguments,
            [
                "--secure-port=4443",
                "--tls-secret=metrics-system/metrics-core-serving",
                "--metric-resolution=15s",
                "--kubelet-request-timeout=10s",
                "--shutdown-delay-duration=5s",
                "--kubelet-preferred-address-types=InternalIP,Hostname,InternalDNS,ExternalIP,ExternalDNS",
                "--kubelet-use-node-status-port",
                "--kubelet-certificate-authority=/etc/metrics-core/kubelet-ca.crt",
                "--log-level=info",
                "--logging-format=text",
            ]
        );
    }

    #[test]
    fn extra_args_can_not_override_a_flag_that_the_spec_sets() {
        let all = |spec: &mut crds::MetricsPipelineSpec| {
            spec.metrics_core.kubelet.tls.mode = KubeletTlsMode::Pin;
            spec.metrics_core.kubelet.node_selector = Some("a=b".to_owned());
            spec.metrics_core.watch = WatchMode::Enabled;
        };
        let port = |spec: &mut crds::MetricsPipelineSpec| {
            spec.metrics_core.kubelet.port = Some(1);
            spec.metrics_core.kubelet.tls.mode = KubeletTlsMode::Insecure;
        };
        let set = [with_context(all, arguments), with_context(port, arguments)].concat();
        let name = |argument: &String| argument.split('=').next().unwrap_or_default()[2..].to_owned();
        for flag in set.iter().map(name).filter(|flag| flag != "shutdown-delay-duration") {
            assert!(crds::SPEC_FLAGS.iter().any(|(known, _)| *known == flag), "--{flag}");
        }
    }

    #[test]
    fn pin_mode_still_uses_the_ca() {
        let pin = |spec: &mut crds::MetricsPipelineSpec| {
            spec.metrics_core.kubelet.tls.mode = KubeletTlsMode::Pin;
        };
        let arguments = with_context(pin, arguments);
        let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
        assert!(
            has("--kubelet-tls-pin")
                && has("--kubelet-certificate-authority=/etc/metrics-core/kubelet-ca.crt")
        );
    }

    #[test]
    fn watch_is_set_only_if_enabled() {
        let with = |watch| with_context(|spec| spec.metrics_core.watch = watch, arguments);
        let has = |arguments: &[String]| arguments.iter().any(|argument| argument.starts_with("--watch"));
        assert!(has(&with(WatchMode::Enabled)) && !has(&with(WatchMode::Disabled)));
    }

    #[test]
    fn extra_args_come_last() {
        let arguments = with_context(
            |spec| {
                spec.metrics_core.kubelet.port = Some(10255);
                spec.metrics_core.kubelet.tls.mode = KubeletTlsMode::Insecure;
                spec.metrics_core.kubelet.node_selector = Some("zone in (a,b)".to_owned());
                spec.metrics_core.extra_args = vec!["-v=4".to_owned()];
            },
            arguments,
        );
        assert!(arguments.contains(&"--kubelet-port=10255".to_owned()));
        assert!(arguments.contains(&"--kubelet-insecure-tls".to_owned()));
        assert!(!arguments.iter().any(|argument| argument.starts_with("--kubelet-certificate-authority")));
        assert_eq!(arguments[arguments.len() - 2..], ["--node-selector=zone in (a,b)", "-v=4"]);
    }
}
