//! All flags. docs/flags.md is generated from this table.

/// The support of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// The flag works.
    Supported,
    /// The flag has no effect. The text is the reason, which is logged if the flag is set.
    Ignored(&'static str),
    /// The program does not start if the flag is set. The text is the remedy.
    Rejected(&'static str),
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// `--flag`, `--flag=true`, `--flag=false`.
    Bool,
    /// One value; of several, the last is used.
    Single,
    /// A comma-separated list; the values of a repeated flag are concatenated.
    List,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The name without dashes, in the spelling of metrics-server.
    pub name: &'static str,
    /// The one-letter form.
    pub(crate) short: Option<char>,
    /// The type of its value.
    pub(crate) kind: ValueKind,
    /// The default value; empty if there is none.
    pub(crate) default: &'static str,
    /// Whether it is supported.
    pub(crate) support: Support,
    /// The help text.
    pub(crate) help: &'static str,
}

/// A section of `--help` and of the documentation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// The heading.
    pub(crate) title: &'static str,
    /// The flags.
    pub(crate) flags: &'static [Flag],
}

const fn works(name: &'static str, kind: ValueKind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, kind, default, support: Support::Supported, help }
}

const fn ignored(name: &'static str, kind: ValueKind, why: &'static str) -> Flag {
    Flag { name, short: None, kind, default: "", support: Support::Ignored(why), help: "" }
}

const fn rejected(name: &'static str, kind: ValueKind, remedy: &'static str) -> Flag {
    Flag { name, short: None, kind, default: "", support: Support::Rejected(remedy), help: "" }
}

const fn short(mut flag: Flag, letter: char) -> Flag {
    flag.short = Some(letter);
    flag
}

const NO_AUDIT: &str = "requests are not audited here; kube-apiserver audits the requests that it proxies";
const NO_LOG_FILE: &str = "the log is written to standard error only";
const NO_PROFILING: &str = "there is no profiling endpoint";
const NO_VERSION_EMULATION: &str = "there are no feature gates and no emulated versions";

/// The sections of flags.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "Metrics",
        flags: &[
            works(
                "metric-resolution",
                ValueKind::Single,
                "15s",
                "Scrape interval of each kubelet, at least 1s",
            ),
            works(
                "serve-swap",
                ValueKind::Bool,
                "true",
                "Serve swap usage where the kubelet reports it, as kubectl top --show-swap displays",
            ),
            works(
                "kubeconfig",
                ValueKind::Single,
                "",
                "kubeconfig file for kube-apiserver (default: the service account of the pod)",
            ),
            works("version", ValueKind::Bool, "false", "Print the version and exit"),
        ],
    },
    Section {
        title: "Kubelets",
        flags: &[
            works("kubelet-port", ValueKind::Single, "10250", "Port of the kubelets"),
            works(
                "kubelet-use-node-status-port",
                ValueKind::Bool,
                "false",
                "Use the port in the Node's status; takes precedence over --kubelet-port",
            ),
            works("kubelet-request-timeout", ValueKind::Single, "10s", "Timeout of a request to a kubelet"),
            works(
                "kubelet-preferred-address-types",
                ValueKind::List,
                "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP",
                "Types of Node addresses in order of preference",
            ),
            short(
                works(
                    "node-selector",
                    ValueKind::Single,
                    "",
                    "Label selector of the Nodes to scrape, such as key1=value1,key2!=value2",
                ),
                'l',
            ),
            works(
                "kubelet-certificate-authority",
                ValueKind::Single,
                "",
                "File with the CA certificates of the kubelets' serving certificates (default: the cluster's CA)",
            ),
            works(
                "kubelet-insecure-tls",
                ValueKind::Bool,
                "false",
                "Do not verify the kubelets' serving certificates; for tests only",
            ),
            works(
                "kubelet-tls-pin",
                ValueKind::Bool,
                "false",
                "Trust on first use: accept a kubelet's certificate that is not signed by a trusted CA if its key is the first one of its Node since the start",
            ),
            works(
                "kubelet-client-certificate",
                ValueKind::Single,
                "",
                "File with the client certificate for kubelets (default: the service account token)",
            ),
            works(
                "kubelet-client-key",
                ValueKind::Single,
                "",
                "File with the private key of --kubelet-client-certificate",
            ),
            rejected(
                "deprecated-kubelet-completely-insecure",
                ValueKind::Bool,
                "plain HTTP to kubelets is not supported: remove the flag; in a test cluster use --kubelet-insecure-tls",
            ),
        ],
    },
    Section {
        title: "Serving",
        flags: &[
            works(
                "bind-address",
                ValueKind::Single,
                "0.0.0.0",
                "Address to listen on; the unspecified address means all IPv4 and IPv6 addresses",
            ),
            works("secure-port", ValueKind::Single, "4443", "HTTPS port"),
            works(
                "tls-secret",
                ValueKind::Single,
                "",
                "NAMESPACE/NAME of the Secret with the serving certificate (tls.crt, tls.key), watched through the Kubernetes API",
            ),
            works(
                "tls-cert-file",
                ValueKind::Single,
                "",
                "File with the serving certificate and its chain; reloaded when it changes",
            ),
            works(
                "tls-private-key-file",
                ValueKind::Single,
                "",
                "File with the private key of --tls-cert-file",
            ),
            works(
                "tls-min-version",
                ValueKind::Single,
                "VersionTLS12",
                "Minimum TLS version: VersionTLS12 or VersionTLS13",
            ),
            works(
                "tls-cipher-suites",
                ValueKind::List,
                "",
                "Cipher suites of TLS 1.2 by IANA name; those of TLS 1.3 are not configurable",
            ),
            works(
                "tls-curve-preferences",
                ValueKind::List,
                "",
                "Key exchange groups by number in order of preference: 4588 X25519MLKEM768, 29 X25519, 23 P-256, 24 P-384",
            ),
            rejected(
                "tls-sni-cert-key",
                ValueKind::Single,
                "one certificate serves all names: use a certificate with all names in --tls-cert-file and --tls-private-key-file, or in --tls-secret",
            ),
            ignored("cert-dir", ValueKind::Single, "a self-signed certificate is kept in memory only"),
            works(
                "http2-max-streams-per-connection",
                ValueKind::Single,
                "0",
                "Maximum number of concurrent requests on one HTTP/2 connection; 0 means 250",
            ),
            works("disable-http2-serving", ValueKind::Bool, "false", "Serve HTTP/1.1 only"),
            works(
                "max-requests-inflight",
                ValueKind::Single,
                "400",
                "Maximum number of requests in flight; more get 429. 0 means no limit",
            ),
            works("request-timeout", ValueKind::Single, "1m0s", "Timeout of a request"),
            works(
                "watch",
                ValueKind::Bool,
                "false",
                "Serve watch: each watcher receives every sample of the objects that it selects, and so does each tool that watches all resources in discovery. metrics-server does not support watch",
            ),
            works(
                "max-watches",
                ValueKind::Single,
                "256",
                "Maximum number of watches with --watch; more get 429. 0 disables watch",
            ),
            works(
                "min-request-timeout",
                ValueKind::Single,
                "1800",
                "Minimum duration in seconds of a watch without timeoutSeconds; the maximum is twice that. 0 means a day",
            ),
            works(
                "shutdown-delay-duration",
                ValueKind::Single,
                "5s",
                "Time after SIGTERM during which requests are served while /readyz fails",
            ),
            works(
                "strict-transport-security-directives",
                ValueKind::List,
                "",
                "Directives of the Strict-Transport-Security header",
            ),
            ignored("max-mutating-requests-inflight", ValueKind::Single, "no request is mutating"),
            ignored(
                "shutdown-watch-termination-grace-period",
                ValueKind::Single,
                "watches end within a second after the shutdown delay",
            ),
            ignored(
                "shutdown-send-retry-after",
                ValueKind::Bool,
                "requests are served until the shutdown delay ends",
            ),
            ignored("advertise-address", ValueKind::Single, "clients find this server by its Service"),
            ignored("external-hostname", ValueKind::Single, "no response contains an address of this server"),
            ignored(
                "cors-allowed-origins",
                ValueKind::List,
                "no CORS header is sent, so browsers deny access",
            ),
            ignored("goaway-chance", ValueKind::Single, "kube-apiserver's aggregator balances connections"),
            ignored("livez-grace-period", ValueKind::Single, "/livez passes during start-up"),
            ignored("storage-initialization-timeout", ValueKind::Single, "there is no storage to wait for"),
            ignored("permit-port-sharing", ValueKind::Bool, "SO_REUSEPORT is not set"),
            ignored("permit-address-sharing", ValueKind::Bool, "SO_REUSEADDR is always set"),
        ],
    },
    Section {
        title: "Authentication",
        flags: &[
            works(
                "authentication-kubeconfig",
                ValueKind::Single,
                "",
                "kubeconfig for TokenReviews and the authentication ConfigMap (default: --kubeconfig)",
            ),
            works(
                "authentication-skip-lookup",
                ValueKind::Bool,
                "false",
                "Do not read ConfigMap kube-system/extension-apiserver-authentication",
            ),
            works(
                "authentication-tolerate-lookup-failure",
                ValueKind::Bool,
                "false",
                "Become ready even if ConfigMap kube-system/extension-apiserver-authentication can't be read",
            ),
            works(
                "authentication-token-webhook-cache-ttl",
                ValueKind::Single,
                "10s",
                "How long a TokenReview is cached",
            ),
            works(
                "client-ca-file",
                ValueKind::Single,
                "",
                "File with the CA certificates of clients; replaces the ConfigMap's client-ca-file",
            ),
            works(
                "requestheader-client-ca-file",
                ValueKind::Single,
                "",
                "File with the CA certificates of the front proxy; replaces all of the ConfigMap's requestheader values",
            ),
            works(
                "requestheader-allowed-names",
                ValueKind::List,
                "",
                "Allowed common names of the front proxy's certificate; empty allows all names",
            ),
            works(
                "requestheader-username-headers",
                ValueKind::List,
                "x-remote-user",
                "Headers with the username",
            ),
            works(
                "requestheader-group-headers",
                ValueKind::List,
                "x-remote-group",
                "Headers with the user's groups",
            ),
            works(
                "requestheader-extra-headers-prefix",
                ValueKind::List,
                "x-remote-extra-",
                "Prefixes of headers with extra attributes of the user",
            ),
            works("requestheader-uid-headers", ValueKind::List, "", "Headers with the user's UID"),
        ],
    },
    Section {
        title: "Authorization",
        flags: &[
            works(
                "authorization-kubeconfig",
                ValueKind::Single,
                "",
                "kubeconfig for SubjectAccessReviews (default: --kubeconfig)",
            ),
            works(
                "authorization-always-allow-paths",
                ValueKind::List,
                "/healthz,/readyz,/livez",
                "Paths that need no authorization; a trailing * matches all paths with this prefix",
            ),
            works(
                "authorization-webhook-cache-authorized-ttl",
                ValueKind::Single,
                "10s",
                "How long an allowed SubjectAccessReview is cached",
            ),
            works(
                "authorization-webhook-cache-unauthorized-ttl",
                ValueKind::Single,
                "10s",
                "How long a denied SubjectAccessReview is cached",
            ),
        ],
    },
    Section {
        title: "Log",
        flags: &[
            works(
                "log-level",
                ValueKind::Single,
                "info",
                "error, warn, info, debug or trace; takes precedence over -v",
            ),
            works("logging-format", ValueKind::Single, "text", "text or json"),
            short(works("v", ValueKind::Single, "0", "klog verbosity: from 4 debug, from 6 trace"), 'v'),
            ignored("vmodule", ValueKind::Single, "verbosity applies to the whole program: use --log-level"),
            ignored("log-flush-frequency", ValueKind::Single, "log lines are not buffered"),
            ignored("log-text-split-stream", ValueKind::Bool, NO_LOG_FILE),
            ignored("log-text-info-buffer-size", ValueKind::Single, "log lines are not buffered"),
            ignored("log-json-split-stream", ValueKind::Bool, NO_LOG_FILE),
            ignored("log-json-info-buffer-size", ValueKind::Single, "log lines are not buffered"),
            ignored("logtostderr", ValueKind::Bool, NO_LOG_FILE),
            ignored("alsologtostderr", ValueKind::Bool, NO_LOG_FILE),
            ignored("alsologtostderrthreshold", ValueKind::Single, NO_LOG_FILE),
            ignored("stderrthreshold", ValueKind::Single, NO_LOG_FILE),
            ignored("legacy_stderr_threshold_behavior", ValueKind::Bool, NO_LOG_FILE),
            ignored("log_dir", ValueKind::Single, NO_LOG_FILE),
            ignored("log_file", ValueKind::Single, NO_LOG_FILE),
            ignored("log_file_max_size", ValueKind::Single, NO_LOG_FILE),
            ignored("one_output", ValueKind::Bool, NO_LOG_FILE),
            ignored("log_backtrace_at", ValueKind::Single, "log lines contain no stack trace"),
            ignored("skip_headers", ValueKind::Bool, "log lines always contain time and level"),
            ignored("skip_log_headers", ValueKind::Bool, NO_LOG_FILE),
            ignored("add_dir_header", ValueKind::Bool, "log lines contain their module"),
        ],
    },
    Section {
        title: "Accepted for compatibility",
        flags: &[
            ignored("profiling", ValueKind::Bool, NO_PROFILING),
            ignored("contention-profiling", ValueKind::Bool, NO_PROFILING),
            ignored("debug-socket-path", ValueKind::Single, NO_PROFILING),
            ignored(
                "enable-priority-and-fairness",
                ValueKind::Bool,
                "--max-requests-inflight limits the load",
            ),
            ignored(
                "enable-swagger-ui",
                ValueKind::Bool,
                "OpenAPI is served at /openapi/v2 and /openapi/v3, without a user interface",
            ),
            ignored("feature-gates", ValueKind::Single, NO_VERSION_EMULATION),
            ignored("emulated-version", ValueKind::List, NO_VERSION_EMULATION),
            ignored("min-compatibility-version", ValueKind::List, NO_VERSION_EMULATION),
            ignored("emulation-forward-compatible", ValueKind::Bool, NO_VERSION_EMULATION),
            ignored("runtime-config-emulation-forward-compatible", ValueKind::Bool, NO_VERSION_EMULATION),
            ignored("audit-policy-file", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-path", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-maxage", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-maxbackup", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-maxsize", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-format", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-version", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-compress", ValueKind::Bool, NO_AUDIT),
            ignored("audit-log-mode", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-batch-buffer-size", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-batch-max-size", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-batch-max-wait", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-batch-throttle-enable", ValueKind::Bool, NO_AUDIT),
            ignored("audit-log-batch-throttle-qps", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-batch-throttle-burst", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-truncate-enabled", ValueKind::Bool, NO_AUDIT),
            ignored("audit-log-truncate-max-batch-size", ValueKind::Single, NO_AUDIT),
            ignored("audit-log-truncate-max-event-size", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-config-file", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-initial-backoff", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-batch-initial-backoff", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-version", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-mode", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-batch-buffer-size", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-batch-max-size", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-batch-max-wait", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-batch-throttle-enable", ValueKind::Bool, NO_AUDIT),
            ignored("audit-webhook-batch-throttle-qps", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-batch-throttle-burst", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-truncate-enabled", ValueKind::Bool, NO_AUDIT),
            ignored("audit-webhook-truncate-max-batch-size", ValueKind::Single, NO_AUDIT),
            ignored("audit-webhook-truncate-max-event-size", ValueKind::Single, NO_AUDIT),
        ],
    },
];

/// Returns all flags in the order of their sections.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|section| section.flags)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::flags;

    #[test]
    fn names_are_unique_with_any_separator() {
        let mut seen = BTreeSet::new();
        for flag in flags() {
            assert!(seen.insert(flag.name.replace('_', "-")), "--{} is declared twice", flag.name);
        }
    }
}
