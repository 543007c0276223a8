//! Every flag and its fate. The documentation's table is generated from here.

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It works.
    Works,
    /// It is accepted and changes nothing; the text says why, and is logged when the flag is given.
    WithoutEffect(&'static str),
    /// The program refuses to start when it is given; the text is the remedy.
    Refused(&'static str),
}

/// The shape of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--flag`, `--flag=true`, `--flag=false`.
    Bool,
    /// One value; the last one given counts.
    Single,
    /// A comma-separated list; repeated flags add up.
    List,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The name without dashes, as metrics-server spells it.
    pub name: &'static str,
    /// The one-letter form.
    pub short: Option<char>,
    /// The shape of its value.
    pub kind: Kind,
    /// The value when it is not given; empty for none.
    pub default: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// What it is for.
    pub help: &'static str,
}

/// A group of flags, as `--help` and the documentation show them.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// The flags, by name.
    pub flags: &'static [Flag],
}

const fn works(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, kind, default, fate: Fate::Works, help }
}

const fn without_effect(name: &'static str, kind: Kind, why: &'static str) -> Flag {
    Flag { name, short: None, kind, default: "", fate: Fate::WithoutEffect(why), help: "" }
}

const fn refused(name: &'static str, kind: Kind, remedy: &'static str) -> Flag {
    Flag { name, short: None, kind, default: "", fate: Fate::Refused(remedy), help: "" }
}

const fn short(mut flag: Flag, letter: char) -> Flag {
    flag.short = Some(letter);
    flag
}

const NO_AUDIT: &str = "requests are not audited here; kube-apiserver audits all that come through it";
const NO_LOG_FILE: &str = "the log goes to standard error only";
const NO_PROFILING: &str = "there is no profiling endpoint";
const NO_VERSION_EMULATION: &str = "there are no feature gates and no emulated versions";

/// All flags.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "Metrics",
        flags: &[
            works("metric-resolution", Kind::Single, "15s", "How often each kubelet is asked, from 1s up"),
            works(
                "serve-swap",
                Kind::Bool,
                "true",
                "Show the usage of swap where the kubelet reports it, as kubectl top --show-swap asks for",
            ),
            works(
                "kubeconfig",
                Kind::Single,
                "",
                "File with the address and credentials of the API server (default: those of the pod)",
            ),
            works("version", Kind::Bool, "false", "Print the version and exit"),
        ],
    },
    Section {
        title: "Kubelets",
        flags: &[
            works("kubelet-port", Kind::Single, "10250", "Port of the kubelets"),
            works(
                "kubelet-use-node-status-port",
                Kind::Bool,
                "false",
                "Use the port in the Node's status; precedes --kubelet-port",
            ),
            works(
                "kubelet-request-timeout",
                Kind::Single,
                "10s",
                "How long one request to a kubelet may take",
            ),
            works(
                "kubelet-preferred-address-types",
                Kind::List,
                "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP",
                "Types of Node addresses, the preferred first",
            ),
            short(
                works(
                    "node-selector",
                    Kind::Single,
                    "",
                    "Label selector of the Nodes to ask, such as key1=value1,key2!=value2",
                ),
                'l',
            ),
            works(
                "kubelet-certificate-authority",
                Kind::Single,
                "",
                "File with the CA certificates of the kubelets' serving certificates (default: the cluster's CA)",
            ),
            works(
                "kubelet-insecure-tls",
                Kind::Bool,
                "false",
                "Do not verify the kubelets' serving certificates; for tests only",
            ),
            works(
                "kubelet-tls-pin",
                Kind::Bool,
                "false",
                "Accept a kubelet's certificate for which no CA vouches if its key is the first that was seen of its Node since start",
            ),
            works(
                "kubelet-client-certificate",
                Kind::Single,
                "",
                "File with the client certificate shown to kubelets (default: the token of the service account)",
            ),
            works(
                "kubelet-client-key",
                Kind::Single,
                "",
                "File with the key of --kubelet-client-certificate",
            ),
            refused(
                "deprecated-kubelet-completely-insecure",
                Kind::Bool,
                "plain http to kubelets is not spoken: remove the flag, and in a test cluster use --kubelet-insecure-tls",
            ),
        ],
    },
    Section {
        title: "Serving",
        flags: &[
            works(
                "bind-address",
                Kind::Single,
                "0.0.0.0",
                "Address to listen on; an unspecified one means all, IPv4 and IPv6",
            ),
            works("secure-port", Kind::Single, "4443", "Port to serve HTTPS on"),
            works(
                "tls-secret",
                Kind::Single,
                "",
                "NAMESPACE/NAME of the Secret with the serving certificate (tls.crt, tls.key), watched through the API",
            ),
            works(
                "tls-cert-file",
                Kind::Single,
                "",
                "File with the serving certificate and its chain; read again when it changes",
            ),
            works("tls-private-key-file", Kind::Single, "", "File with the key of --tls-cert-file"),
            works(
                "tls-min-version",
                Kind::Single,
                "VersionTLS12",
                "Least TLS version: VersionTLS12 or VersionTLS13",
            ),
            works(
                "tls-cipher-suites",
                Kind::List,
                "",
                "Cipher suites of TLS 1.2, by their IANA names; those of TLS 1.3 are fixed",
            ),
            works(
                "tls-curve-preferences",
                Kind::List,
                "",
                "Key exchange groups by number, the preferred first: 4588 X25519MLKEM768, 29 X25519, 23 P-256, 24 P-384",
            ),
            refused(
                "tls-sni-cert-key",
                Kind::Single,
                "one certificate serves all names: give it all of them and pass it by --tls-cert-file and --tls-private-key-file, or by --tls-secret",
            ),
            without_effect("cert-dir", Kind::Single, "a self-signed certificate lives in memory only"),
            works(
                "http2-max-streams-per-connection",
                Kind::Single,
                "0",
                "Concurrent requests on one HTTP/2 connection; 0 means 250",
            ),
            works("disable-http2-serving", Kind::Bool, "false", "Serve HTTP/1.1 only"),
            works(
                "max-requests-inflight",
                Kind::Single,
                "400",
                "Requests answered at once; more get 429. 0 means no limit",
            ),
            works("request-timeout", Kind::Single, "1m0s", "How long one request may take"),
            works("max-watches", Kind::Single, "256", "Watches at once; more get 429. 0 serves none"),
            works(
                "min-request-timeout",
                Kind::Single,
                "1800",
                "Seconds that a watch without an end of its own lasts at least; twice as many at most. 0 means a day",
            ),
            works(
                "shutdown-delay-duration",
                Kind::Single,
                "5s",
                "How long requests are still taken after SIGTERM, while /readyz already fails",
            ),
            works(
                "strict-transport-security-directives",
                Kind::List,
                "",
                "Directives of the Strict-Transport-Security header",
            ),
            without_effect(
                "max-mutating-requests-inflight",
                Kind::Single,
                "no request changes anything here",
            ),
            without_effect(
                "shutdown-watch-termination-grace-period",
                Kind::Single,
                "watches end within a second once the shutdown delay is over",
            ),
            without_effect(
                "shutdown-send-retry-after",
                Kind::Bool,
                "requests are served until the shutdown delay ends",
            ),
            without_effect(
                "advertise-address",
                Kind::Single,
                "members of the cluster find this server by its Service",
            ),
            without_effect("external-hostname", Kind::Single, "no answer holds an address of this server"),
            without_effect(
                "cors-allowed-origins",
                Kind::List,
                "no CORS header is sent, so browsers are kept out",
            ),
            without_effect(
                "goaway-chance",
                Kind::Single,
                "connections are balanced by the API server's aggregator",
            ),
            without_effect("livez-grace-period", Kind::Single, "/livez does not wait for start-up"),
            without_effect("storage-initialization-timeout", Kind::Single, "there is no storage to wait for"),
            without_effect("permit-port-sharing", Kind::Bool, "SO_REUSEPORT is not set"),
            without_effect("permit-address-sharing", Kind::Bool, "SO_REUSEADDR is always set"),
        ],
    },
    Section {
        title: "Authentication",
        flags: &[
            works(
                "authentication-kubeconfig",
                Kind::Single,
                "",
                "kubeconfig for TokenReviews and the authentication ConfigMap (default: --kubeconfig)",
            ),
            works(
                "authentication-skip-lookup",
                Kind::Bool,
                "false",
                "Do not read ConfigMap kube-system/extension-apiserver-authentication",
            ),
            works(
                "authentication-tolerate-lookup-failure",
                Kind::Bool,
                "false",
                "Become ready although that ConfigMap can't be read",
            ),
            works(
                "authentication-token-webhook-cache-ttl",
                Kind::Single,
                "10s",
                "How long a TokenReview's answer counts",
            ),
            works(
                "client-ca-file",
                Kind::Single,
                "",
                "File with the CA certificates of clients; replaces the ConfigMap's client-ca-file",
            ),
            works(
                "requestheader-client-ca-file",
                Kind::Single,
                "",
                "File with the CA certificates of the front proxy; replaces all of the ConfigMap's requestheader values",
            ),
            works(
                "requestheader-allowed-names",
                Kind::List,
                "",
                "Common names that a front proxy's certificate may have; empty allows all of its CA",
            ),
            works(
                "requestheader-username-headers",
                Kind::List,
                "x-remote-user",
                "Headers with the user's name",
            ),
            works(
                "requestheader-group-headers",
                Kind::List,
                "x-remote-group",
                "Headers with the user's groups",
            ),
            works(
                "requestheader-extra-headers-prefix",
                Kind::List,
                "x-remote-extra-",
                "Prefixes of headers with extra attributes of the user",
            ),
            works("requestheader-uid-headers", Kind::List, "", "Headers with the user's UID"),
        ],
    },
    Section {
        title: "Authorization",
        flags: &[
            works(
                "authorization-kubeconfig",
                Kind::Single,
                "",
                "kubeconfig for SubjectAccessReviews (default: --kubeconfig)",
            ),
            works(
                "authorization-always-allow-paths",
                Kind::List,
                "/healthz,/readyz,/livez",
                "Paths allowed to everyone; a trailing * matches all that begin so",
            ),
            works(
                "authorization-webhook-cache-authorized-ttl",
                Kind::Single,
                "10s",
                "How long a SubjectAccessReview's yes counts",
            ),
            works(
                "authorization-webhook-cache-unauthorized-ttl",
                Kind::Single,
                "10s",
                "How long a SubjectAccessReview's no counts",
            ),
        ],
    },
    Section {
        title: "Log",
        flags: &[
            works("log-level", Kind::Single, "info", "error, warn, info, debug or trace; precedes -v"),
            works("logging-format", Kind::Single, "text", "text or json"),
            short(works("v", Kind::Single, "0", "klog verbosity: from 4 on debug, from 6 on trace"), 'v'),
            without_effect(
                "vmodule",
                Kind::Single,
                "verbosity is set for the whole program: use --log-level",
            ),
            without_effect("log-flush-frequency", Kind::Single, "log lines are written at once"),
            without_effect("log-text-split-stream", Kind::Bool, NO_LOG_FILE),
            without_effect("log-text-info-buffer-size", Kind::Single, "log lines are written at once"),
            without_effect("log-json-split-stream", Kind::Bool, NO_LOG_FILE),
            without_effect("log-json-info-buffer-size", Kind::Single, "log lines are written at once"),
            without_effect("logtostderr", Kind::Bool, NO_LOG_FILE),
            without_effect("alsologtostderr", Kind::Bool, NO_LOG_FILE),
            without_effect("alsologtostderrthreshold", Kind::Single, NO_LOG_FILE),
            without_effect("stderrthreshold", Kind::Single, NO_LOG_FILE),
            without_effect("legacy_stderr_threshold_behavior", Kind::Bool, NO_LOG_FILE),
            without_effect("log_dir", Kind::Single, NO_LOG_FILE),
            without_effect("log_file", Kind::Single, NO_LOG_FILE),
            without_effect("log_file_max_size", Kind::Single, NO_LOG_FILE),
            without_effect("one_output", Kind::Bool, NO_LOG_FILE),
            without_effect("log_backtrace_at", Kind::Single, "log lines carry no stack trace"),
            without_effect("skip_headers", Kind::Bool, "log lines always carry time and level"),
            without_effect("skip_log_headers", Kind::Bool, NO_LOG_FILE),
            without_effect("add_dir_header", Kind::Bool, "log lines name their module"),
        ],
    },
    Section {
        title: "Accepted for compatibility",
        flags: &[
            without_effect("profiling", Kind::Bool, NO_PROFILING),
            without_effect("contention-profiling", Kind::Bool, NO_PROFILING),
            without_effect("debug-socket-path", Kind::Single, NO_PROFILING),
            without_effect(
                "enable-priority-and-fairness",
                Kind::Bool,
                "--max-requests-inflight bounds the load",
            ),
            without_effect(
                "enable-swagger-ui",
                Kind::Bool,
                "OpenAPI is served at /openapi/v2 and /openapi/v3, without a user interface",
            ),
            without_effect("feature-gates", Kind::Single, NO_VERSION_EMULATION),
            without_effect("emulated-version", Kind::List, NO_VERSION_EMULATION),
            without_effect("min-compatibility-version", Kind::List, NO_VERSION_EMULATION),
            without_effect("emulation-forward-compatible", Kind::Bool, NO_VERSION_EMULATION),
            without_effect("runtime-config-emulation-forward-compatible", Kind::Bool, NO_VERSION_EMULATION),
            without_effect("audit-policy-file", Kind::Single, NO_AUDIT),
            without_effect("audit-log-path", Kind::Single, NO_AUDIT),
            without_effect("audit-log-maxage", Kind::Single, NO_AUDIT),
            without_effect("audit-log-maxbackup", Kind::Single, NO_AUDIT),
            without_effect("audit-log-maxsize", Kind::Single, NO_AUDIT),
            without_effect("audit-log-format", Kind::Single, NO_AUDIT),
            without_effect("audit-log-version", Kind::Single, NO_AUDIT),
            without_effect("audit-log-compress", Kind::Bool, NO_AUDIT),
            without_effect("audit-log-mode", Kind::Single, NO_AUDIT),
            without_effect("audit-log-batch-buffer-size", Kind::Single, NO_AUDIT),
            without_effect("audit-log-batch-max-size", Kind::Single, NO_AUDIT),
            without_effect("audit-log-batch-max-wait", Kind::Single, NO_AUDIT),
            without_effect("audit-log-batch-throttle-enable", Kind::Bool, NO_AUDIT),
            without_effect("audit-log-batch-throttle-qps", Kind::Single, NO_AUDIT),
            without_effect("audit-log-batch-throttle-burst", Kind::Single, NO_AUDIT),
            without_effect("audit-log-truncate-enabled", Kind::Bool, NO_AUDIT),
            without_effect("audit-log-truncate-max-batch-size", Kind::Single, NO_AUDIT),
            without_effect("audit-log-truncate-max-event-size", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-config-file", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-initial-backoff", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-batch-initial-backoff", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-version", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-mode", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-batch-buffer-size", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-batch-max-size", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-batch-max-wait", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-batch-throttle-enable", Kind::Bool, NO_AUDIT),
            without_effect("audit-webhook-batch-throttle-qps", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-batch-throttle-burst", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-truncate-enabled", Kind::Bool, NO_AUDIT),
            without_effect("audit-webhook-truncate-max-batch-size", Kind::Single, NO_AUDIT),
            without_effect("audit-webhook-truncate-max-event-size", Kind::Single, NO_AUDIT),
        ],
    },
];

/// All flags, in the order of their sections.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|section| section.flags)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::flags;

    #[test]
    fn names_are_unique_whatever_their_separator() {
        let mut seen = BTreeSet::new();
        for flag in flags() {
            assert!(seen.insert(flag.name.replace('_', "-")), "--{} stands twice", flag.name);
        }
    }
}
