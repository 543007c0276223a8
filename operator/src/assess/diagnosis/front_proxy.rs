//! Diagnoses whether metrics-core accepts kube-apiserver as the front proxy that authenticates users.
//!
//! The ConfigMap alone is no proof, because kube-apiserver only adds to it. The outcome of recent requests decides; the
//! ConfigMap explains it.

use crds::Reason;
use crds::cause::CredentialCause;
use crds::extension_apiserver_authentication::{
    ALLOWED_NAMES, CLIENT_CA, CONFIG_MAP, Finding, GROUP_HEADERS, NAMESPACE, PROXY_CA, ProxyCa,
    RECREATE_COMMAND, RequestHeaderConfig, USERNAME_HEADERS,
};
use crds::report::RefusedCredential;
use jiff::SignedDuration;

use super::{Cause, DiagnosisInput};
use crate::common::normalize::quote;
use crate::observe::{FrontProxyMap, Symptoms};
use crate::pki::Certificate;

/// Requests older than this are not evidence of the current state. kube-apiserver checks a failing APIService at least
/// every 30 s.
const RECENT: SignedDuration = SignedDuration::from_secs(60);

/// A rejection newer than this, while the operator's own requests succeed, shows that another kube-apiserver is rejected:
/// every kube-apiserver checks an APIService every 30 s.
const RECENT_PARTIAL: SignedDuration = SignedDuration::from_secs(40);

/// Tolerance for ages, which come from a replica's clock and are read a moment later.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(2);

/// A proxy certificate that expires within this time is a warning: only kubeadm renews it automatically.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The remedy for users who cannot change kube-apiserver's flags.
const MANAGED: &str = "On a managed cluster, ask the provider to do this.";

/// The parsed content of the ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The allowed names and the header names.
    pub names: RequestHeaderConfig,
    /// The front-proxy CAs that could be parsed.
    pub proxy_cas: Vec<Certificate>,
    /// The problems found in it.
    pub findings: Vec<Finding>,
}

impl Configured {
    /// Parses the ConfigMap; returns `None` if it was not read.
    #[must_use]
    pub fn read(map: &FrontProxyMap) -> Option<Self> {
        let empty = std::collections::BTreeMap::new();
        let data = match map {
            FrontProxyMap::Found(data) => data,
            FrontProxyMap::Absent => &empty,
            FrontProxyMap::NotRead | FrontProxyMap::Unreadable(_) => return None,
        };
        let mut findings = Vec::new();
        let mut certificates = |key: &'static str| -> Option<Vec<Certificate>> {
            let pem = data.get(key).filter(|pem| !pem.trim().is_empty())?;
            match Certificate::parse_pem(pem.as_bytes()) {
                Ok(certificates) => Some(certificates),
                Err(why) => {
                    findings.push(Finding::Unreadable { key, why: format!("the value {why}") });
                    Some(Vec::new())
                }
            }
        };
        let clients = certificates(CLIENT_CA);
        let proxies = certificates(PROXY_CA);
        let shared = clients
            .iter()
            .flatten()
            .any(|client| proxies.iter().flatten().any(|proxy| proxy.public_key == client.public_key));
        let proxy_ca = match &proxies {
            None => ProxyCa::Absent,
            Some(_) if shared => ProxyCa::SharedWithClients,
            Some(_) => ProxyCa::Separate,
        };
        let mut names = RequestHeaderConfig::default();
        findings.extend(names.update(data));
        findings.extend(names.check(proxy_ca));
        Some(Self { names, proxy_cas: proxies.unwrap_or_default(), findings })
    }

    fn has(&self, finding: &Finding) -> bool {
        self.findings.contains(finding)
    }

    fn malformed_flags(&self) -> Option<(&'static str, &str)> {
        self.findings.iter().find_map(|finding| match finding {
            Finding::RequestHeaderFlagsMalformed { key, value } => Some((*key, value.as_str())),
            _ => None,
        })
    }
}

/// Returns the fault or warning, if any.
pub(super) fn diagnose(input: DiagnosisInput<'_>, symptoms: &Symptoms) -> Option<Cause> {
    let configured = Configured::read(&input.observed.front_proxy);
    if symptoms.broken() {
        return broken(input, symptoms, configured.as_ref());
    }
    if symptoms.ours && symptoms.request_succeeded {
        return works(input, symptoms, configured.as_ref());
    }
    // No request was sent yet, but a configuration that fails every request is known already.
    configured.as_ref().and_then(always_fails)
}

fn broken(input: DiagnosisInput<'_>, symptoms: &Symptoms, configured: Option<&Configured>) -> Option<Cause> {
    let recent = |age: &Option<SignedDuration>| age.filter(|age| *age <= RECENT);
    let accepted = recent(&symptoms.accepted);
    let since_accepted = |age: SignedDuration| accepted.is_none_or(|accepted| age < accepted);
    // With several kube-apiservers, an accepted one is no evidence for another that is rejected.
    let of_another = |refused: &Option<String>| {
        let accepted = symptoms.accepted_client.as_ref().and_then(|client| client.client.as_ref());
        let differ = refused.as_ref().zip(accepted).is_some_and(|(refused, accepted)| refused != accepted);
        differ && symptoms.has_code(401)
    };
    let refused = symptoms
        .refused
        .as_ref()
        .filter(|(_, example, age)| *age <= RECENT && (since_accepted(*age) || of_another(&example.client)));
    let anonymous = recent(&symptoms.anonymous).filter(|age| since_accepted(*age));
    if let Some((cause, example, age)) = refused
        && anonymous.is_none_or(|anonymous| *age <= anonymous)
    {
        return Some(rejection(*cause, example, configured));
    }
    let says_forbidden = symptoms.has_code(403) || symptoms.all_messages().contains("system:anonymous");
    if anonymous.is_some() && says_forbidden {
        return Some(no_certificate(configured));
    }
    // Without groups kube-apiserver's own availability check is forbidden, while users who need no group succeed.
    if let Some(configured) = configured
        && accepted.is_some()
        && says_forbidden
        && configured.has(&Finding::GroupHeadersMissing)
    {
        return Some(no_group_header(configured));
    }
    if accepted.is_some() {
        return None;
    }
    if let Some(cause) = configured.and_then(always_fails) {
        return Some(cause);
    }
    // kube-apiserver receives 401 or 403, and no replica reports why.
    let unauthorized = symptoms.has_code(401) || says_forbidden;
    (unauthorized && !symptoms.reported).then(|| unknown_cause(input, symptoms, configured))
}

/// Returns the configuration fault that fails every request, if any.
fn always_fails(configured: &Configured) -> Option<Cause> {
    if configured.has(&Finding::AggregationLayerNotConfigured) {
        return Some(no_aggregation_layer(format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {PROXY_CA}.")));
    }
    configured.has(&Finding::UsernameHeadersMissing).then(|| no_username(configured, None))
}

fn rejection(cause: CredentialCause, example: &RefusedCredential, configured: Option<&Configured>) -> Cause {
    let name = quote(example.common_name.as_deref().unwrap_or("(none)"));
    let issuer = quote(example.issuer.as_deref().unwrap_or("(unknown)"));
    let shown = format!("kube-apiserver presents a certificate with CN={name}, issued by \"{issuer}\".");
    let renew = format!("then run `{RECREATE_COMMAND}` to remove outdated values");
    match cause {
        CredentialCause::NoUsername => match configured {
            Some(configured) => no_username(configured, Some(&name)),
            None => no_username(&Configured::default(), Some(&name)),
        },
        CredentialCause::CnNotAllowed => {
            let allowed = configured.map(|configured| configured.names.allowed_names.join(", "));
            Cause::fault(
                Reason::ProxyNameNotAllowed,
                format!(
                    "kube-apiserver's proxy certificate has CN={name}, which --{ALLOWED_NAMES} does not allow: \
                     metrics-core rejects its requests with 401."
                ),
                format!(
                    "{shown} {ALLOWED_NAMES} in ConfigMap {NAMESPACE}/{CONFIG_MAP} contains: {}.",
                    allowed.filter(|names| !names.is_empty()).unwrap_or_else(|| "(unknown)".to_owned())
                ),
                format!(
                    "Start kube-apiserver with --{ALLOWED_NAMES}={name}, or with a --proxy-client-cert-file that has \
                     an allowed common name. {MANAGED}"
                ),
            )
        }
        CredentialCause::UnknownCa => {
            if let Some(configured) = configured
                && configured.has(&Finding::AggregationLayerNotConfigured)
            {
                return no_aggregation_layer(format!(
                    "ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {PROXY_CA}. {shown}"
                ));
            }
            let known = configured.map(|configured| configured.proxy_cas.len()).unwrap_or_default();
            Cause::fault(
                Reason::ProxyCertificateUnknownCA,
                format!(
                    "kube-apiserver's proxy certificate (--proxy-client-cert-file) is not signed by a CA of --{PROXY_CA}: \
                     metrics-core rejects its requests with 401."
                ),
                format!(
                    "{shown} No CA of {PROXY_CA} in ConfigMap {NAMESPACE}/{CONFIG_MAP} signed it (checked: {known})."
                ),
                format!(
                    "Start kube-apiserver with a --{PROXY_CA} that contains \"{issuer}\", or with a \
                     --proxy-client-cert-file that is signed by its CA. {MANAGED}"
                ),
            )
        }
        CredentialCause::Expired | CredentialCause::NotYetValid => Cause::fault(
            Reason::ProxyCertificateExpired,
            format!(
                "kube-apiserver's proxy certificate (--proxy-client-cert-file) is {}: metrics-core rejects its \
                 requests with 401.",
                if cause == CredentialCause::Expired { "expired" } else { "not yet valid" }
            ),
            shown,
            format!(
                "Renew it (with kubeadm: `kubeadm certs renew front-proxy-client`) and restart kube-apiserver, \
                 because not every version reloads the file. {MANAGED}"
            ),
        ),
        _ => Cause::fault(
            Reason::ProxyCertificateInvalid,
            "kube-apiserver's proxy certificate (--proxy-client-cert-file) is not a valid client certificate: \
             metrics-core rejects its requests with 401.",
            format!("{shown} metrics-core reports: \"{}\".", quote(&example.message)),
            format!(
                "Issue a certificate for client authentication (extended key usage clientAuth) that is signed by the \
                 CA of --{PROXY_CA}. Restart kube-apiserver with it, {renew}. {MANAGED}"
            ),
        ),
    }
}

fn no_username(configured: &Configured, common_name: Option<&str>) -> Cause {
    if let Some((key, value)) = configured.malformed_flags() {
        return malformed_flags(key, value, configured);
    }
    let shown = common_name
        .map(|name| {
            format!("kube-apiserver's certificate (CN={name}) is accepted, but its requests contain no user name. ")
        })
        .unwrap_or_default();
    let headers = &configured.names.username_headers;
    Cause::fault(
        Reason::UsernameHeadersMissing,
        if headers.is_empty() {
            format!("{USERNAME_HEADERS} is empty: metrics-core cannot identify users and returns 401.")
        } else {
            format!(
                "No header of {USERNAME_HEADERS} contains a user name: metrics-core cannot identify users and returns 401."
            )
        },
        format!(
            "{shown}{USERNAME_HEADERS} in ConfigMap {NAMESPACE}/{CONFIG_MAP} contains: {}.",
            if headers.is_empty() { "nothing".to_owned() } else { headers.join(", ") }
        ),
        format!(
            "Start kube-apiserver with --{USERNAME_HEADERS}=X-Remote-User and --{GROUP_HEADERS}=X-Remote-Group, each as a \
             separate argument. {MANAGED}"
        ),
    )
}

fn malformed_flags(key: &str, value: &str, configured: &Configured) -> Cause {
    let missing: Vec<_> = [
        (configured.names.username_headers.is_empty(), USERNAME_HEADERS),
        (configured.names.group_headers.is_empty(), GROUP_HEADERS),
        (configured.names.allowed_names.is_empty(), ALLOWED_NAMES),
    ]
    .into_iter()
    .filter_map(|(empty, key)| empty.then_some(key))
    .collect();
    let lost = if missing.is_empty() { String::new() } else { format!(". Empty: {}", missing.join(", ")) };
    Cause::fault(
        Reason::RequestHeaderFlagsMalformed,
        format!(
            "kube-apiserver received several flags as one argument, so the value of --{key} contains the flags after it: \
             metrics-core cannot identify users."
        ),
        format!("{key} in ConfigMap {NAMESPACE}/{CONFIG_MAP} is \"{}\"{lost}.", quote(value)),
        format!(
            "In kube-apiserver's systemd unit or manifest, write each flag as a separate argument without quotes \
             inside the value (`kubectl metrics-pipeline flags` prints the correct flags), and restart \
             kube-apiserver. Then run `{RECREATE_COMMAND}`: kube-apiserver only adds to the ConfigMap, and recreates it within a \
             minute. {MANAGED}"
        ),
    )
}

fn no_group_header(configured: &Configured) -> Cause {
    if let Some((key, value)) = configured.malformed_flags() {
        return malformed_flags(key, value, configured);
    }
    Cause::fault(
        Reason::GroupHeadersMissing,
        "requestheader-group-headers is empty: metrics-core cannot identify the groups of users and returns 403 to \
         users whose permissions come from a group.",
        format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} has no value for {GROUP_HEADERS}."),
        format!("Start kube-apiserver with --{GROUP_HEADERS}=X-Remote-Group. {MANAGED}"),
    )
}

fn no_certificate(configured: Option<&Configured>) -> Cause {
    // --proxy-client-cert-file may be among the flags inside the malformed value.
    if let Some(configured) = configured
        && let Some((key, value)) = configured.malformed_flags()
    {
        return malformed_flags(key, value, configured);
    }
    if configured.is_some_and(|configured| configured.has(&Finding::AggregationLayerNotConfigured)) {
        return no_aggregation_layer(format!(
            "ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {PROXY_CA}, and kube-apiserver's requests carry no certificate."
        ));
    }
    Cause::fault(
        Reason::ProxyCertificateMissing,
        "kube-apiserver presents no client certificate: metrics-core treats its requests as anonymous and returns 403.",
        format!(
            "Requests for the metrics API reach metrics-core without a certificate, although {PROXY_CA} in ConfigMap \
             {NAMESPACE}/{CONFIG_MAP} is set."
        ),
        format!(
            "Start kube-apiserver with --proxy-client-cert-file and --proxy-client-key-file. The certificate must be \
             a client certificate that is signed by the CA of --{PROXY_CA}. {MANAGED}"
        ),
    )
}

fn no_aggregation_layer(evidence: String) -> Cause {
    Cause::fault(
        Reason::AggregationLayerNotConfigured,
        "kube-apiserver runs without an aggregation layer: clients cannot reach metrics-core through it.",
        evidence,
        format!(
            "Start kube-apiserver with --{PROXY_CA}, --{ALLOWED_NAMES}, --{USERNAME_HEADERS}=X-Remote-User, \
             --{GROUP_HEADERS}=X-Remote-Group, --requestheader-extra-headers-prefix=X-Remote-Extra-, \
             --proxy-client-cert-file and --proxy-client-key-file, each as a separate argument. {MANAGED}"
        ),
    )
}

fn unknown_cause(input: DiagnosisInput<'_>, symptoms: &Symptoms, configured: Option<&Configured>) -> Cause {
    let read = configured.map_or_else(
        || format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} could not be read."),
        |_| format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} has a front-proxy CA and a username header, so it is not the \
            cause."),
    );
    Cause::fault(
        Reason::ReportUnavailable,
        "metrics-core does not accept kube-apiserver as the front proxy. The cause is unknown because no replica \
        could be polled.",
        format!(
            "kube-apiserver reports: \"{}\". {read} {}",
            super::quote_apiserver(input, symptoms.messages().next().unwrap_or_default()),
            input.observed.why_no_report().unwrap_or_default()
        ),
        format!(
            "Possible causes are the common name, the CA or the expiry of --proxy-client-cert-file. Run `kubectl logs \
             deployment/metrics-core --namespace {}` to see which one.",
            input.namespace
        ),
    )
}

/// Returns the warning, if any, while requests succeed.
fn works(input: DiagnosisInput<'_>, symptoms: &Symptoms, configured: Option<&Configured>) -> Option<Cause> {
    // Several kube-apiservers may run with different flags: then metrics-core rejects some requests while the operator's
    // succeed. A rejection from before they succeeded is resolved.
    let good_for = input.observed.succeeding_since.map(|since| input.now.duration_since(since));
    if let Some((cause, example, age)) = &symptoms.refused
        && *age <= RECENT_PARTIAL
        && good_for.is_some_and(|good_for| *age + CLOCK_SKEW < good_for)
        && !input.observed.served_in_doubt
    {
        let one = rejection(*cause, example, configured);
        let client =
            example.client.as_deref().map(|client| format!(" from {}", quote(client))).unwrap_or_default();
        return Some(Cause::warning(
            one.reason,
            format!(
                "Some requests{client} are rejected while others succeed: one of several kube-apiservers may have \
                different flags. {}",
                one.summary
            ),
            one.evidence,
            one.remedy,
        ));
    }
    let configured = configured?;
    if let Some((key, value)) = configured.malformed_flags() {
        return Some(Cause::warning(
            Reason::StaleConfiguration,
            "The front-proxy configuration contains a stale value: several flags in one argument. Requests succeed \
             because it also contains correct values.",
            format!("{key} in ConfigMap {NAMESPACE}/{CONFIG_MAP} is \"{}\".", quote(value)),
            format!(
                "Run `{RECREATE_COMMAND}`: kube-apiserver recreates the ConfigMap from its current flags within a minute. If the \
                 value returns, the current flags are malformed: write each flag of kube-apiserver as a separate \
                 argument."
            ),
        ));
    }
    if configured.has(&Finding::AnyClientMayImpersonate) {
        return Some(Cause::warning(
            Reason::AnyClientMayImpersonate,
            "Any client with a certificate of this cluster can impersonate any user to metrics-core and every other \
             aggregated API server.",
            format!(
                "{ALLOWED_NAMES} in ConfigMap {NAMESPACE}/{CONFIG_MAP} is empty, and {PROXY_CA} shares a CA with \
                {CLIENT_CA}."
            ),
            format!(
                "Start kube-apiserver with --{ALLOWED_NAMES} set to the common name of its \
                 --proxy-client-cert-file{}, or with a separate front-proxy CA. {MANAGED}",
                symptoms
                    .accepted_client
                    .as_ref()
                    .map(|client| format!(" ({})", quote(&client.common_name)))
                    .unwrap_or_default()
            ),
        ));
    }
    if configured.has(&Finding::GroupHeadersMissing) {
        return Some(Cause { severity: super::Severity::Warning, ..no_group_header(configured) });
    }
    if let Some(unreadable) =
        configured.findings.iter().find(|finding| matches!(finding, Finding::Unreadable { .. }))
    {
        return Some(Cause::warning(
            Reason::ConfigurationUnreadable,
            "Part of the front-proxy configuration cannot be parsed; metrics-core continues to use the last valid value.",
            format!("The error is: {unreadable}."),
            format!("Correct the flags of kube-apiserver, then run `{RECREATE_COMMAND}`. {MANAGED}"),
        ));
    }
    expires_soon(input, symptoms)
}

fn expires_soon(input: DiagnosisInput<'_>, symptoms: &Symptoms) -> Option<Cause> {
    let client = symptoms.accepted_client.as_ref()?;
    let expiry = client.not_after?;
    (expiry.duration_since(input.now) < SOON).then(|| {
        Cause::warning(
            Reason::ProxyCertificateExpired,
            format!(
                "kube-apiserver's proxy certificate (--proxy-client-cert-file, CN={}) expires at {expiry}.",
                quote(&client.common_name)
            ),
            "After that time, metrics-core rejects requests from kube-apiserver with 401.",
            format!(
                "Renew it (with kubeadm: `kubeadm certs renew front-proxy-client`) and restart kube-apiserver. {MANAGED}"
            ),
        )
    })
}
