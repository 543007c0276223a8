//! Tests of the command line.

use std::time::Duration;

use super::{CommandLine, Error, KubeletTrust, Options, ServingSource, parse};
use crate::telemetry::LogFormat;

fn run(line: &str) -> Options {
    match parse(line.split_whitespace().map(str::to_owned)) {
        Ok(CommandLine::Run(options)) => *options,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    match parse(line.split_whitespace().map(str::to_owned)) {
        Err(error) => error.to_string(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn parses_the_arguments_of_the_operator() {
    let options = run(
        "--secure-port=4443 --metric-resolution=15s --kubelet-port=10250 --kubelet-use-node-status-port \
         --kubelet-preferred-address-types=InternalIP,Hostname --kubelet-request-timeout=10s --node-selector=a=b \
         --kubelet-certificate-authority=/etc/metrics-core/kubelet-ca.crt --tls-secret=metrics/serving \
         --log-level=debug --logging-format=json",
    );
    assert_eq!(options.secure_port, 4443);
    assert!(options.use_node_status_port);
    assert_eq!(options.address_types, ["InternalIP", "Hostname"]);
    assert_eq!(options.node_selector.as_deref(), Some("a=b"));
    assert_eq!(options.kubelet_trust, KubeletTrust::CaFile("/etc/metrics-core/kubelet-ca.crt".into()));
    assert_eq!(
        options.serving,
        ServingSource::Secret { namespace: "metrics".into(), name: "serving".into() }
    );
    assert_eq!(options.logging.format, LogFormat::Json);
    assert_eq!(options.logging.level, tracing::Level::DEBUG);
    assert_eq!(options.notes, Vec::<String>::new());
}

#[test]
fn accepts_the_arguments_of_the_metrics_server_manifest() {
    let options = run(
        "--cert-dir=/tmp --secure-port=10250 --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname \
         --kubelet-use-node-status-port --metric-resolution=15s -v=2 -logtostderr --profiling=false --kubelet_insecure_tls",
    );
    assert_eq!(options.serving, ServingSource::SelfSigned);
    assert_eq!(options.kubelet_trust, KubeletTrust::Insecure);
    assert_eq!(options.logging.level, tracing::Level::INFO);
    assert_eq!(options.notes.len(), 3, "{:?}", options.notes);
    assert!(options.notes[0].starts_with("--cert-dir has no effect: "));
}

#[test]
fn accepts_separate_values_and_concatenates_lists() {
    let options = run(
        "--v 6 --requestheader-client-ca-file /ca --requestheader-allowed-names a,b --requestheader-allowed-names=c \
         --kubelet-insecure-tls=false",
    );
    assert_eq!(options.logging.level, tracing::Level::TRACE);
    assert_eq!(options.request_header.allowed_names, ["a", "b", "c"]);
    assert_eq!(options.request_header.username_headers, ["x-remote-user"]);
    assert_eq!(options.kubelet_trust, KubeletTrust::ClusterCa);
}

#[test]
fn accepts_quotes_that_yaml_keeps_and_blanks() {
    let parsed = |arguments: &[&str]| match parse(arguments.iter().map(|argument| (*argument).to_owned())) {
        Ok(CommandLine::Run(options)) => Ok(*options),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    };
    for value in [
        "InternalIP,Hostname",
        "\"InternalIP,Hostname\"",
        "'InternalIP,Hostname'",
        "InternalIP, Hostname",
        " InternalIP ,\tHostname",
        "\"InternalIP\",\"Hostname\"",
        "\"InternalIP\", 'Hostname'",
        "\"InternalIP, Hostname\"",
        "InternalIP,,Hostname,",
        "InternalIP, ,Hostname",
    ] {
        let options = parsed(&[&format!("--kubelet-preferred-address-types={value}")]).unwrap();
        assert_eq!(options.address_types, ["InternalIP", "Hostname"], "{value}");
    }
    let options = parsed(&[
        "--metric-resolution=\"30s\"",
        "--secure-port='10250'",
        "--kubelet-insecure-tls=\"true\"",
        "--logging-format= json",
        "--log-level=\"debug\"",
        "--tls-min-version=\"VersionTLS13\"",
        "--tls-secret=\"metrics/serving\"",
        "--bind-address=\"::\"",
    ])
    .unwrap();
    assert_eq!((options.metric_resolution, options.secure_port), (Duration::from_secs(30), 10250));
    assert_eq!((options.kubelet_trust, options.logging.format), (KubeletTrust::Insecure, LogFormat::Json));
    assert_eq!(
        (options.logging.level, options.tls.min_version.as_str()),
        (tracing::Level::DEBUG, "VersionTLS13")
    );
    assert_eq!(
        options.serving,
        ServingSource::Secret { namespace: "metrics".into(), name: "serving".into() }
    );
    assert_eq!(options.bind_address, std::net::IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED));
    let names = |value: &str| {
        parsed(&["--requestheader-client-ca-file=/ca", &format!("--requestheader-allowed-names={value}")])
            .map(|options| options.request_header.allowed_names)
    };
    assert_eq!(names("\"a\", b").unwrap(), ["a", "b"]);
    assert_eq!(names("\"a,b\",c").unwrap(), ["a,b", "c"], "a common name may contain a comma");
    // An empty list allows all names, so a value that only looks empty is an error.
    for blank in [" ", "\"\"", "a, ", "''"] {
        let error = names(blank).unwrap_err();
        assert!(error.contains("--requestheader-allowed-names=") && error.contains("blank item"), "{error}");
    }
    let error = parsed(&["--logging-format=\"xml\""]).unwrap_err();
    assert_eq!(error, "--logging-format=xml: is not a format; use text or json");
}

#[test]
fn short_resolution_reduces_the_timeout() {
    assert_eq!(run("--metric-resolution=5s").kubelet_timeout, Duration::from_millis(4500));
    let given = run("--metric-resolution=5s --kubelet-request-timeout=5s");
    assert_eq!(given.kubelet_timeout, Duration::from_millis(4500));
    assert_eq!(given.notes.len(), 1);
}

#[test]
fn errors_contain_flag_value_and_remedy() {
    assert_eq!(
        refused("--metric-resolution=15"),
        "--metric-resolution=15: is not a duration; use a duration with a unit, such as 15s, 1m30s or 500ms, of at least 1s"
    );
    assert!(refused("--metric-resolution=100ms").contains("is too short"));
    assert!(refused("--secure-port=0").contains("use an integer from 1 to 65535"));
    assert!(refused("--secure-port=70000").contains("--secure-port=70000"));
    assert!(refused("--bind-address=here").contains("is not an IP address"));
    assert!(refused("--tls-secret=serving").contains("NAMESPACE/NAME"));
    assert!(refused("--tls-cert-file=/crt").contains("requires --tls-private-key-file"));
    assert!(
        refused("--kubelet-insecure-tls --kubelet-certificate-authority=/ca")
            .contains("are mutually exclusive")
    );
    assert!(refused("--kubelet-insecure-tls --kubelet-tls-pin").contains("are mutually exclusive"));
    assert!(run("--kubelet-tls-pin --kubelet-certificate-authority=/ca").kubelet_pin);
    assert!(refused("--deprecated-kubelet-completely-insecure").contains("is not supported"));
    assert!(refused("--tls-sni-cert-key=a,b").contains("--tls-cert-file"));
    assert!(refused("--kubelet-insecure-tls=maybe").contains("neither true nor false"));
    assert!(
        refused("--metric-resolutoin=15s").contains("--metric-resolution"),
        "the error for a typo contains the similar flag"
    );
    assert!(matches!(parse(["--no-such".to_owned()]), Err(Error::Syntax(_))));
}

#[test]
fn parses_the_flags_of_the_api() {
    let api = |line: &str| {
        let options = run(line);
        (options.serve_swap, options.max_watches, options.min_watch_timeout)
    };
    assert_eq!(api(""), (true, 0, Duration::from_secs(1800)));
    assert_eq!(api("--watch").1, 256);
    assert_eq!(
        api("--serve-swap=false --watch --max-watches=3 --min-request-timeout=60"),
        (false, 3, Duration::from_secs(60))
    );
    let without_watch = run("--max-watches=3");
    assert_eq!(without_watch.max_watches, 0);
    assert_eq!(without_watch.notes, ["--max-watches has no effect without --watch"]);
    assert!(refused("--max-watches=-1").contains("from 0 to 100000"));
    assert_eq!(run("--min-request-timeout=0").min_watch_timeout, Duration::from_secs(86_400));
    assert!(refused("--min-request-timeout=1s").contains("from 0 to 86400"));
}

#[test]
fn accepts_a_rejected_flag_that_is_false() {
    run("--deprecated-kubelet-completely-insecure=false");
}

#[test]
fn help_and_version_are_printed() {
    for (arguments, part) in
        [("--help", "--kubelet-port"), ("-h", "Authorization"), ("--version", "metrics-core ")]
    {
        match parse([arguments.to_owned()]) {
            Ok(CommandLine::Print(text)) => assert!(text.contains(part), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
