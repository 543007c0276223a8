//! Whether metrics-core believes kube-apiserver when it says for whom it asks.
//!
//! The ConfigMap alone decides nothing, as it only ever grows: what happens to requests now comes first, the
//! ConfigMap explains it.

use crds::Reason;
use crds::cause::CredentialCause;
use crds::front_proxy::{
    ALLOWED_NAMES, CLIENT_CA, CONFIG_MAP, Finding, GROUP_HEADERS, NAMESPACE, Names, PROXY_CA, ProxyCa, RENEW,
    USERNAME_HEADERS,
};
use crds::report::RefusedCredential;
use jiff::SignedDuration;

use super::{Cause, DiagnosisInput};
use crate::common::normalize::quote;
use crate::observe::{FrontProxyMap, Symptoms};
use crate::pki::Certificate;

/// What happened longer ago says nothing about now. kube-apiserver looks at a failing APIService every 30 s at
/// the latest.
const RECENT: SignedDuration = SignedDuration::from_secs(60);

/// While requests get through, what happened so lately shows that not all of them do: every kube-apiserver looks at
/// an APIService every 30 s.
const PARTLY: SignedDuration = SignedDuration::from_secs(40);

/// Ages are told by a replica's clock, and read a moment later.
const CLOCKS: SignedDuration = SignedDuration::from_secs(2);

/// A proxy certificate that expires sooner is worth a warning: nobody renews it by itself but kubeadm.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What to ask where nobody can change the flags.
const MANAGED: &str = "On a managed cluster ask the provider to do so.";

/// What the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Names and headers.
    pub names: Names,
    /// The CAs of front proxies, as far as they can be read.
    pub proxy_cas: Vec<Certificate>,
    /// What looks wrong in it.
    pub findings: Vec<Finding>,
}

impl Configured {
    /// Reads the ConfigMap; `None` when it was not read.
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
                    findings.push(Finding::Unreadable { key, why: format!("it {why}") });
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
            Some(_) => ProxyCa::Own,
        };
        let mut names = Names::default();
        findings.extend(names.read(data));
        findings.extend(names.together(proxy_ca));
        Some(Self { names, proxy_cas: proxies.unwrap_or_default(), findings })
    }

    fn has(&self, finding: &Finding) -> bool {
        self.findings.contains(finding)
    }

    fn swallowed(&self) -> Option<(&'static str, &str)> {
        self.findings.iter().find_map(|finding| match finding {
            Finding::RequestHeaderFlagsMalformed { key, value } => Some((*key, value.as_str())),
            _ => None,
        })
    }
}

/// What is wrong, or to be warned of.
pub(super) fn diagnose(facts: DiagnosisInput<'_>, symptoms: &Symptoms) -> Option<Cause> {
    let configured = Configured::read(&facts.observed.front_proxy);
    if symptoms.broken() {
        return broken(facts, symptoms, configured.as_ref());
    }
    if symptoms.ours && symptoms.answered {
        return works(facts, symptoms, configured.as_ref());
    }
    // Nothing was tried yet; what can't work whatever is tried is known all the same.
    configured.as_ref().and_then(hopeless)
}

fn broken(facts: DiagnosisInput<'_>, symptoms: &Symptoms, configured: Option<&Configured>) -> Option<Cause> {
    let recent = |age: &Option<SignedDuration>| age.filter(|age| *age <= RECENT);
    let accepted = recent(&symptoms.accepted);
    let since_accepted = |age: SignedDuration| accepted.is_none_or(|accepted| age < accepted);
    // Of several kube-apiservers, one that is accepted says nothing of another that is not.
    let of_another = |refused: &Option<String>| {
        let accepted = symptoms.accepted_client.as_ref().and_then(|client| client.client.as_ref());
        let differ = refused.as_ref().zip(accepted).is_some_and(|(refused, accepted)| refused != accepted);
        differ && symptoms.all_messages().contains("401")
    };
    let refused = symptoms
        .refused
        .as_ref()
        .filter(|(_, example, age)| *age <= RECENT && (since_accepted(*age) || of_another(&example.client)));
    let anonymous = recent(&symptoms.anonymous).filter(|age| since_accepted(*age));
    if let Some((cause, example, age)) = refused
        && anonymous.is_none_or(|anonymous| *age <= anonymous)
    {
        return Some(refusal(*cause, example, configured));
    }
    let says_forbidden =
        symptoms.all_messages().contains("403") || symptoms.all_messages().contains("system:anonymous");
    if anonymous.is_some() && says_forbidden {
        return Some(no_certificate(configured));
    }
    // Without groups kube-apiserver's own check is refused, while users who need no group get through.
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
    if let Some(cause) = configured.and_then(hopeless) {
        return Some(cause);
    }
    // kube-apiserver was told that it is not believed, and nobody tells us why.
    let unauthorized = symptoms.all_messages().contains("401") || says_forbidden;
    (unauthorized && !symptoms.reported).then(|| in_doubt(facts, symptoms, configured))
}

/// What no request can get around.
fn hopeless(configured: &Configured) -> Option<Cause> {
    if configured.has(&Finding::NoFrontProxy) {
        return Some(no_aggregation_layer(format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {PROXY_CA}.")));
    }
    configured.has(&Finding::UsernameHeadersMissing).then(|| no_username(configured, None))
}

fn refusal(cause: CredentialCause, example: &RefusedCredential, configured: Option<&Configured>) -> Cause {
    let name = quote(example.common_name.as_deref().unwrap_or("(none)"));
    let issuer = quote(example.issuer.as_deref().unwrap_or("(unknown)"));
    let shown = format!("kube-apiserver shows a certificate with CN={name}, issued by \"{issuer}\".");
    let renew = format!("then run `{RENEW}`, as it is only ever added to");
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
                    "kube-apiserver's proxy certificate has CN={name}, which --{ALLOWED_NAMES} does not have: metrics-core \
                     answers 401 to all that comes through it."
                ),
                format!(
                    "{shown} {ALLOWED_NAMES} of ConfigMap {NAMESPACE}/{CONFIG_MAP} has: {}.",
                    allowed
                        .filter(|names| !names.is_empty())
                        .unwrap_or_else(|| "(nothing that is known)".to_owned())
                ),
                format!(
                    "Start kube-apiserver with --{ALLOWED_NAMES}={name}, or give it a --proxy-client-cert-file with an \
                     allowed common name. {MANAGED}"
                ),
            )
        }
        CredentialCause::UnknownCa => {
            if let Some(configured) = configured
                && configured.has(&Finding::NoFrontProxy)
            {
                return no_aggregation_layer(format!(
                    "ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {PROXY_CA}. {shown}"
                ));
            }
            let known = configured.map(|configured| configured.proxy_cas.len()).unwrap_or_default();
            Cause::fault(
                Reason::ProxyCertificateUnknownCA,
                format!(
                    "The CA of --{PROXY_CA} did not sign kube-apiserver's proxy certificate (--proxy-client-cert-file): \
                     metrics-core answers 401 to all that comes through it."
                ),
                format!(
                    "{shown} None of the {known} CAs in {PROXY_CA} of ConfigMap {NAMESPACE}/{CONFIG_MAP} signed it."
                ),
                format!(
                    "Start kube-apiserver with the --{PROXY_CA} that holds \"{issuer}\", or with a --proxy-client-cert-file \
                     that its CA signed. {MANAGED}"
                ),
            )
        }
        CredentialCause::Expired | CredentialCause::NotYetValid => Cause::fault(
            Reason::ProxyCertificateExpired,
            format!(
                "kube-apiserver's proxy certificate (--proxy-client-cert-file) is {}: metrics-core answers 401 to all that \
                 comes through it.",
                if cause == CredentialCause::Expired { "expired" } else { "not valid yet" }
            ),
            shown,
            format!(
                "Renew it (`kubeadm certs renew front-proxy-client` on a cluster of kubeadm) and restart kube-apiserver; it \
                 does not read a new one by itself on every version. {MANAGED}"
            ),
        ),
        _ => Cause::fault(
            Reason::ProxyCertificateInvalid,
            "kube-apiserver's proxy certificate (--proxy-client-cert-file) can't be used: metrics-core answers 401 to all \
             that comes through it.",
            format!("{shown} metrics-core says: \"{}\".", quote(&example.message)),
            format!(
                "Issue a certificate for client authentication (extended key usage clientAuth), signed by the CA of \
                 --{PROXY_CA}, and restart kube-apiserver with it; {renew}. {MANAGED}"
            ),
        ),
    }
}

fn no_username(configured: &Configured, common_name: Option<&str>) -> Cause {
    if let Some((key, value)) = configured.swallowed() {
        return swallowed(key, value, configured);
    }
    let shown = common_name
        .map(|name| format!("kube-apiserver's certificate (CN={name}) is accepted, but names no user. "))
        .unwrap_or_default();
    let headers = &configured.names.username_headers;
    Cause::fault(
        Reason::UsernameHeadersMissing,
        "No header tells metrics-core whose a request through kube-apiserver is, so all get 401.",
        format!(
            "{shown}{USERNAME_HEADERS} of ConfigMap {NAMESPACE}/{CONFIG_MAP} has: {}.",
            if headers.is_empty() { "nothing".to_owned() } else { headers.join(", ") }
        ),
        format!(
            "Start kube-apiserver with --{USERNAME_HEADERS}=X-Remote-User and --{GROUP_HEADERS}=X-Remote-Group, each an \
             argument of its own. {MANAGED}"
        ),
    )
}

fn swallowed(key: &str, value: &str, configured: &Configured) -> Cause {
    let missing: Vec<_> = [
        (configured.names.username_headers.is_empty(), USERNAME_HEADERS),
        (configured.names.group_headers.is_empty(), GROUP_HEADERS),
        (configured.names.allowed_names.is_empty(), ALLOWED_NAMES),
    ]
    .into_iter()
    .filter_map(|(empty, key)| empty.then_some(key))
    .collect();
    let lost =
        if missing.is_empty() { String::new() } else { format!(" and leaves {} empty", missing.join(", ")) };
    Cause::fault(
        Reason::RequestHeaderFlagsMalformed,
        format!(
            "kube-apiserver was given several flags as one argument, so --{key} swallowed those behind it: metrics-core \
             can't tell whose a request is."
        ),
        format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} has {key} = \"{}\"{lost}.", quote(value)),
        format!(
            "In kube-apiserver's unit or manifest write each flag as an argument of its own, without quotes inside the value, \
             and restart it (`kubectl metrics-pipeline flags` prints them as they must be); then run `{RENEW}`, as kube-apiserver only adds \
             to it, and writes it again within a minute. {MANAGED}"
        ),
    )
}

fn no_group_header(configured: &Configured) -> Cause {
    if let Some((key, value)) = configured.swallowed() {
        return swallowed(key, value, configured);
    }
    Cause::fault(
        Reason::GroupHeadersMissing,
        "No header tells metrics-core the groups of who asks through kube-apiserver: whoever has rights by a group gets \
         403.",
        format!("{GROUP_HEADERS} of ConfigMap {NAMESPACE}/{CONFIG_MAP} is empty."),
        format!("Start kube-apiserver with --{GROUP_HEADERS}=X-Remote-Group. {MANAGED}"),
    )
}

fn no_certificate(configured: Option<&Configured>) -> Cause {
    // --proxy-client-cert-file may be among what was swallowed.
    if let Some(configured) = configured
        && let Some((key, value)) = configured.swallowed()
    {
        return swallowed(key, value, configured);
    }
    if configured.is_some_and(|configured| configured.has(&Finding::NoFrontProxy)) {
        return no_aggregation_layer(format!(
            "ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {PROXY_CA}, and kube-apiserver's requests come without a certificate."
        ));
    }
    Cause::fault(
        Reason::ProxyCertificateMissing,
        "kube-apiserver shows no client certificate, so all that comes through it is anonymous and gets 403.",
        format!(
            "Requests for the metrics API come to metrics-core without a certificate, although {PROXY_CA} of ConfigMap \
             {NAMESPACE}/{CONFIG_MAP} is set."
        ),
        format!(
            "Start kube-apiserver with --proxy-client-cert-file and --proxy-client-key-file: a client certificate that the CA of \
             --{PROXY_CA} signed. {MANAGED}"
        ),
    )
}

fn no_aggregation_layer(evidence: String) -> Cause {
    Cause::fault(
        Reason::AggregationLayerNotConfigured,
        "kube-apiserver runs without an aggregation layer: nobody can come to metrics-core through it.",
        evidence,
        format!(
            "Start kube-apiserver with --{PROXY_CA}, --{ALLOWED_NAMES}, --{USERNAME_HEADERS}=X-Remote-User, \
             --{GROUP_HEADERS}=X-Remote-Group, --requestheader-extra-headers-prefix=X-Remote-Extra-, --proxy-client-cert-file \
             and --proxy-client-key-file, each an argument of its own. {MANAGED}"
        ),
    )
}

fn in_doubt(facts: DiagnosisInput<'_>, symptoms: &Symptoms, configured: Option<&Configured>) -> Cause {
    let read = configured.map_or_else(
        || format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} could not be read."),
        |_| format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} has a front-proxy CA and a header for users, so it is not that."),
    );
    Cause::fault(
        Reason::ReportUnavailable,
        "metrics-core does not believe kube-apiserver, and why is not known, as no replica could be asked.",
        format!(
            "kube-apiserver says: \"{}\". {read} {}",
            super::said(facts, symptoms.messages().next().unwrap_or_default()),
            facts.observed.why_no_report().unwrap_or_default()
        ),
        format!(
            "What is left: the common name or the CA of --proxy-client-cert-file, or that it expired. `kubectl logs \
                 deployment/metrics-core --namespace {}` says which.",
            facts.namespace
        ),
    )
}

/// Requests get through; what should be looked at all the same.
fn works(facts: DiagnosisInput<'_>, symptoms: &Symptoms, configured: Option<&Configured>) -> Option<Cause> {
    // Several kube-apiservers may run with different flags: then some requests are refused while ours get through.
    // What was refused before they did is over.
    let good_for = facts.observed.answered_since.map(|since| facts.now.duration_since(since));
    if let Some((cause, example, age)) = &symptoms.refused
        && *age <= PARTLY
        && good_for.is_some_and(|good_for| *age + CLOCKS < good_for)
        && !facts.observed.served_in_doubt
    {
        let one = refusal(*cause, example, configured);
        let client =
            example.client.as_deref().map(|client| format!(" from {}", quote(client))).unwrap_or_default();
        return Some(Cause::warning(
            one.reason,
            format!(
                "Some requests{client} are refused while others get through: perhaps one of several kube-apiservers. {}",
                one.what
            ),
            one.evidence,
            one.remedy,
        ));
    }
    let configured = configured?;
    if let Some((key, value)) = configured.swallowed() {
        return Some(Cause::warning(
            Reason::StaleConfiguration,
            "The configuration of the front proxy holds a value of flags that were swallowed by quoting; requests get through, \
             as it also holds right ones.",
            format!("ConfigMap {NAMESPACE}/{CONFIG_MAP} has {key} = \"{}\".", quote(value)),
            format!(
                "Run `{RENEW}`: kube-apiserver only adds to it and writes it again within a minute from its flags of today. If \
                 the value comes back, the right values are left from before: write each of kube-apiserver's flags as an argument \
                 of its own."
            ),
        ));
    }
    if configured.has(&Finding::AnyClientMayImpersonate) {
        return Some(Cause::warning(
            Reason::AnyClientMayImpersonate,
            "Whoever has a client certificate of this cluster may pose as anybody towards metrics-core and any other aggregated \
             API server.",
            format!(
                "{ALLOWED_NAMES} of ConfigMap {NAMESPACE}/{CONFIG_MAP} is empty, and {PROXY_CA} shares a CA with {CLIENT_CA}."
            ),
            format!(
                "Start kube-apiserver with --{ALLOWED_NAMES} set to the common name of its --proxy-client-cert-file{}, or with a \
                 front-proxy CA of its own. {MANAGED}",
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
            "Part of the configuration of the front proxy can't be read; metrics-core goes on with what it read before.",
            format!("It is this: {unreadable}."),
            format!("Correct the flags of kube-apiserver, then run `{RENEW}`. {MANAGED}"),
        ));
    }
    expires_soon(facts, symptoms)
}

fn expires_soon(facts: DiagnosisInput<'_>, symptoms: &Symptoms) -> Option<Cause> {
    let client = symptoms.accepted_client.as_ref()?;
    let expiry = client.not_after?;
    (expiry.duration_since(facts.now) < SOON).then(|| {
        Cause::warning(
            Reason::ProxyCertificateExpired,
            format!(
                "kube-apiserver's proxy certificate (--proxy-client-cert-file, CN={}) expires at {expiry}.",
                quote(&client.common_name)
            ),
            "From then on metrics-core answers 401 to all that comes through kube-apiserver.",
            format!(
                "Renew it (`kubeadm certs renew front-proxy-client` on a cluster of kubeadm) and restart kube-apiserver. {MANAGED}"
            ),
        )
    })
}
