//! The options of the program.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::table::{Support, flags};
use super::{Arguments, CommandLine, Error, value};
use crate::telemetry::{LogFormat, Logging};

/// The source of the serving certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServingSource {
    /// A Secret, watched through the Kubernetes API.
    Secret {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// Two PEM files, read again when they change.
    Files {
        /// The certificate and its chain.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A self-signed certificate in memory.
    SelfSigned,
}

/// How the kubelets' serving certificates are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KubeletTrust {
    /// By the cluster's CA.
    ClusterCa,
    /// By the CAs of this file.
    CaFile(PathBuf),
    /// Not verified.
    Insecure,
}

/// Front-proxy authentication by flags, instead of the ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestHeaderOptions {
    /// The CA file; `None` uses the ConfigMap.
    pub(crate) client_ca_file: Option<PathBuf>,
    /// The allowed common names; empty allows all.
    pub(crate) allowed_names: Vec<String>,
    /// Headers with the user's name.
    pub(crate) username_headers: Vec<String>,
    /// Headers with the user's groups.
    pub(crate) group_headers: Vec<String>,
    /// Prefixes of headers with extra attributes.
    pub(crate) extra_prefixes: Vec<String>,
    /// Headers with the user's UID.
    pub(crate) uid_headers: Vec<String>,
}

/// TLS settings as they are set; `server::tls` validates them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// `--tls-min-version`.
    pub(crate) min_version: String,
    /// `--tls-cipher-suites`.
    pub(crate) cipher_suites: Vec<String>,
    /// `--tls-curve-preferences`.
    pub(crate) curve_preferences: Vec<String>,
}

/// All options.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a separate flag.
pub struct Options {
    /// `--metric-resolution`.
    pub(crate) metric_resolution: Duration,
    /// `--kubeconfig`; `None` means in-cluster.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// `--kubelet-port`.
    pub(crate) kubelet_port: u16,
    /// `--kubelet-use-node-status-port`.
    pub(crate) use_node_status_port: bool,
    /// `--kubelet-request-timeout`.
    pub(crate) kubelet_timeout: Duration,
    /// `--kubelet-preferred-address-types`.
    pub(crate) address_types: Vec<String>,
    /// `--node-selector`.
    pub(crate) node_selector: Option<String>,
    /// `--kubelet-certificate-authority` and `--kubelet-insecure-tls`.
    pub(crate) kubelet_trust: KubeletTrust,
    /// `--kubelet-tls-pin`.
    pub(crate) kubelet_pin: bool,
    /// `--kubelet-client-certificate` and `--kubelet-client-key`.
    pub(crate) kubelet_client: Option<(PathBuf, PathBuf)>,
    /// `--bind-address`.
    pub(crate) bind_address: IpAddr,
    /// `--secure-port`.
    pub(crate) secure_port: u16,
    /// The serving certificate.
    pub(crate) serving: ServingSource,
    /// TLS versions, cipher suites and key exchange groups.
    pub(crate) tls: TlsOptions,
    /// `--disable-http2-serving`, inverted.
    pub(crate) http2: bool,
    /// `--http2-max-streams-per-connection`.
    pub(crate) http2_max_streams: u32,
    /// `--max-requests-inflight`; `None` means no limit.
    pub(crate) max_in_flight: Option<usize>,
    /// `--request-timeout`.
    pub(crate) request_timeout: Duration,
    /// `--serve-swap`.
    pub(crate) serve_swap: bool,
    /// `--max-watches`, or 0 without `--watch`.
    pub(crate) max_watches: usize,
    /// `--min-request-timeout`.
    pub(crate) min_watch_timeout: Duration,
    /// `--shutdown-delay-duration`.
    pub(crate) shutdown_delay: Duration,
    /// `--strict-transport-security-directives`, as the value of the header.
    pub(crate) strict_transport_security: Option<String>,
    /// `--authentication-kubeconfig`.
    pub(crate) authentication_kubeconfig: Option<PathBuf>,
    /// `--authentication-skip-lookup`.
    pub(crate) skip_lookup: bool,
    /// `--authentication-tolerate-lookup-failure`.
    pub(crate) tolerate_lookup_failure: bool,
    /// `--authentication-token-webhook-cache-ttl`.
    pub(crate) token_ttl: Duration,
    /// `--client-ca-file`.
    pub(crate) client_ca_file: Option<PathBuf>,
    /// The `--requestheader-…` flags.
    pub(crate) request_header: RequestHeaderOptions,
    /// `--authorization-kubeconfig`.
    pub(crate) authorization_kubeconfig: Option<PathBuf>,
    /// `--authorization-always-allow-paths`.
    pub(crate) always_allow_paths: Vec<String>,
    /// `--authorization-webhook-cache-authorized-ttl`.
    pub(crate) allowed_ttl: Duration,
    /// `--authorization-webhook-cache-unauthorized-ttl`.
    pub(crate) denied_ttl: Duration,
    /// The settings of the log.
    pub(crate) logging: Logging,
    /// Lines to log at start: ignored flags and adapted values.
    pub(crate) notes: Vec<String>,
}

impl Options {
    pub(super) fn from_arguments(arguments: &Arguments) -> Result<CommandLine, Error> {
        if value::boolean(arguments, "version")? {
            return Ok(CommandLine::Print(format!("metrics-core {}\n", env!("CARGO_PKG_VERSION"))));
        }
        for flag in flags() {
            match flag.support {
                Support::Rejected(remedy)
                    if arguments.is_set(flag.name) && arguments.last(flag.name) != Some("false") =>
                {
                    return Err(Error::Unsupported { flag: flag.name, remedy });
                }
                _ => {}
            }
        }
        let mut notes: Vec<String> =
            arguments.ignored().map(|(flag, why)| format!("--{flag} has no effect: {why}")).collect();
        let metric_resolution = value::duration(arguments, "metric-resolution", Duration::from_secs(1))?;
        let kubelet_timeout = kubelet_timeout(arguments, metric_resolution, &mut notes)?;
        let path = |name| value::text(arguments, name).map(PathBuf::from);
        let hsts = value::list(arguments, "strict-transport-security-directives").join("; ");
        Ok(CommandLine::Run(Box::new(Self {
            metric_resolution,
            kubeconfig: path("kubeconfig"),
            kubelet_port: value::number(arguments, "kubelet-port", 1, u16::MAX)?,
            use_node_status_port: value::boolean(arguments, "kubelet-use-node-status-port")?,
            kubelet_timeout,
            address_types: value::list(arguments, "kubelet-preferred-address-types"),
            node_selector: value::text(arguments, "node-selector"),
            kubelet_trust: kubelet_trust(arguments)?,
            kubelet_pin: value::boolean(arguments, "kubelet-tls-pin")?,
            kubelet_client: pair(arguments, "kubelet-client-certificate", "kubelet-client-key")?,
            bind_address: bind_address(arguments)?,
            secure_port: value::number(arguments, "secure-port", 1, u16::MAX)?,
            serving: serving(arguments)?,
            tls: TlsOptions {
                min_version: value::text(arguments, "tls-min-version").unwrap_or_default(),
                cipher_suites: value::list(arguments, "tls-cipher-suites"),
                curve_preferences: value::list(arguments, "tls-curve-preferences"),
            },
            http2: !value::boolean(arguments, "disable-http2-serving")?,
            http2_max_streams: match value::number(arguments, "http2-max-streams-per-connection", 0, 100_000)?
            {
                0 => 250,
                streams => streams,
            },
            max_in_flight: match value::number(arguments, "max-requests-inflight", 0, 1_000_000)? {
                0 => None,
                max => Some(max),
            },
            request_timeout: value::duration(arguments, "request-timeout", Duration::from_secs(1))?,
            serve_swap: value::boolean(arguments, "serve-swap")?,
            max_watches: max_watches(arguments, &mut notes)?,
            min_watch_timeout: Duration::from_secs(
                match value::number(arguments, "min-request-timeout", 0, 86_400)? {
                    0 => 86_400,
                    seconds => seconds,
                },
            ),
            shutdown_delay: value::duration(arguments, "shutdown-delay-duration", Duration::ZERO)?,
            strict_transport_security: Some(hsts).filter(|value| !value.is_empty()),
            authentication_kubeconfig: path("authentication-kubeconfig"),
            skip_lookup: value::boolean(arguments, "authentication-skip-lookup")?,
            tolerate_lookup_failure: value::boolean(arguments, "authentication-tolerate-lookup-failure")?,
            token_ttl: value::duration(arguments, "authentication-token-webhook-cache-ttl", Duration::ZERO)?,
            client_ca_file: path("client-ca-file"),
            request_header: request_header(arguments, &mut notes)?,
            authorization_kubeconfig: path("authorization-kubeconfig"),
            always_allow_paths: value::list(arguments, "authorization-always-allow-paths"),
            allowed_ttl: value::duration(
                arguments,
                "authorization-webhook-cache-authorized-ttl",
                Duration::ZERO,
            )?,
            denied_ttl: value::duration(
                arguments,
                "authorization-webhook-cache-unauthorized-ttl",
                Duration::ZERO,
            )?,
            logging: logging(arguments)?,
            notes,
        })))
    }
}

/// Returns the request timeout, at most nine tenths of the scrape interval: with a longer one, a request could
/// overlap the next. metrics-server rejects a longer one.
fn kubelet_timeout(
    arguments: &Arguments,
    resolution: Duration,
    notes: &mut Vec<String>,
) -> Result<Duration, Error> {
    let timeout = value::duration(arguments, "kubelet-request-timeout", Duration::from_millis(1))?;
    let max = resolution * 9 / 10;
    if timeout <= max {
        return Ok(timeout);
    }
    if arguments.is_set("kubelet-request-timeout") {
        notes.push(format!(
            "--kubelet-request-timeout is reduced to {max:?}, nine tenths of --metric-resolution"
        ));
    }
    Ok(max)
}

/// Returns the maximum number of watches; 0 means that watch is not served.
fn max_watches(arguments: &Arguments, notes: &mut Vec<String>) -> Result<usize, Error> {
    let max = value::number(arguments, "max-watches", 0, 100_000)?;
    if value::boolean(arguments, "watch")? {
        return Ok(max);
    }
    if arguments.is_set("max-watches") {
        notes.push("--max-watches has no effect without --watch".to_owned());
    }
    Ok(0)
}

fn kubelet_trust(arguments: &Arguments) -> Result<KubeletTrust, Error> {
    let insecure = value::boolean(arguments, "kubelet-insecure-tls")?;
    if insecure && value::boolean(arguments, "kubelet-tls-pin")? {
        return Err(Error::Conflict(
            "--kubelet-tls-pin and --kubelet-insecure-tls are mutually exclusive; remove --kubelet-insecure-tls to pin keys".to_owned(),
        ));
    }
    match (value::text(arguments, "kubelet-certificate-authority"), insecure) {
        (Some(_), true) => Err(Error::Conflict(
            "--kubelet-certificate-authority and --kubelet-insecure-tls are mutually exclusive; remove --kubelet-insecure-tls to verify kubelets".to_owned(),
        )),
        (Some(file), false) => Ok(KubeletTrust::CaFile(file.into())),
        (None, true) => Ok(KubeletTrust::Insecure),
        (None, false) => Ok(KubeletTrust::ClusterCa),
    }
}

fn pair(
    arguments: &Arguments,
    first: &'static str,
    second: &'static str,
) -> Result<Option<(PathBuf, PathBuf)>, Error> {
    match (value::text(arguments, first), value::text(arguments, second)) {
        (Some(one), Some(two)) => Ok(Some((one.into(), two.into()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::Conflict(format!("--{first} requires --{second}; set both or none"))),
        (None, Some(_)) => Err(Error::Conflict(format!("--{second} requires --{first}; set both or none"))),
    }
}

fn bind_address(arguments: &Arguments) -> Result<IpAddr, Error> {
    let text = value::text(arguments, "bind-address").unwrap_or_default();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
    bare.parse().map_err(|_| {
        Error::value(
            "bind-address",
            &text,
            "is not an IP address",
            "use an address such as 0.0.0.0, :: or 10.0.0.7",
        )
    })
}

fn serving(arguments: &Arguments) -> Result<ServingSource, Error> {
    let files = pair(arguments, "tls-cert-file", "tls-private-key-file")?;
    match (value::text(arguments, "tls-secret"), files) {
        (Some(_), Some(_)) => Err(Error::Conflict(
            "--tls-secret and --tls-cert-file are mutually exclusive; remove one of them".to_owned(),
        )),
        (Some(secret), None) => match secret.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(ServingSource::Secret { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => {
                Err(Error::value("tls-secret", &secret, "is not the name of a Secret", "use NAMESPACE/NAME"))
            }
        },
        (None, Some((certificate, key))) => Ok(ServingSource::Files { certificate, key }),
        (None, None) => Ok(ServingSource::SelfSigned),
    }
}

fn request_header(arguments: &Arguments, notes: &mut Vec<String>) -> Result<RequestHeaderOptions, Error> {
    // Not ignored: without its blank item a list may be empty, and an empty list of allowed names allows all names.
    let names = |name: &'static str| {
        let items = value::items(arguments, name);
        if items.iter().any(String::is_empty) {
            let value = arguments.all(name).collect::<Vec<_>>().join(",");
            return Err(Error::value(name, &value, "contains a blank item", "remove it"));
        }
        Ok(items)
    };
    let headers = |name| names(name).map(|_| value::list(arguments, name));
    let options = RequestHeaderOptions {
        client_ca_file: value::text(arguments, "requestheader-client-ca-file").map(PathBuf::from),
        allowed_names: names("requestheader-allowed-names")?,
        username_headers: headers("requestheader-username-headers")?,
        group_headers: headers("requestheader-group-headers")?,
        extra_prefixes: headers("requestheader-extra-headers-prefix")?,
        uid_headers: headers("requestheader-uid-headers")?,
    };
    if options.client_ca_file.is_none() {
        let ignored =
            ["allowed-names", "username-headers", "group-headers", "extra-headers-prefix", "uid-headers"]
                .map(|name| format!("requestheader-{name}"));
        for flag in ignored.iter().filter(|flag| arguments.is_set(flag)) {
            notes.push(format!(
                "--{flag} has no effect without --requestheader-client-ca-file: the values of ConfigMap kube-system/extension-apiserver-authentication are used"
            ));
        }
    }
    Ok(options)
}

fn logging(arguments: &Arguments) -> Result<Logging, Error> {
    use tracing::Level;
    let format = match value::text(arguments, "logging-format").as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            return Err(Error::value("logging-format", other, "is not a format", "use text or json"));
        }
    };
    let verbosity = value::number(arguments, "v", 0_u32, 100)?;
    let level = match (arguments.is_set("log-level"), verbosity) {
        (false, 6..) => Level::TRACE,
        (false, 4..) => Level::DEBUG,
        _ => {
            let text = value::text(arguments, "log-level").unwrap_or_default();
            text.parse().map_err(|_| {
                Error::value("log-level", &text, "is not a level", "use error, warn, info, debug or trace")
            })?
        }
    };
    Ok(Logging { format, level })
}
