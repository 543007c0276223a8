//! Compares which certificates metrics-core accepts with which ones Go's crypto/x509 accepts.
//!
//! The Go program `certificates` makes certificates for each situation, at the time of the test, and verifies them as
//! Kubernetes does. Here the code of metrics-core verifies the same certificates: as those of clients, of front proxies
//! and of kubelets. `docs/interop.md` is the result: `UPDATE_DOCS=1 cargo test -p e2e --test interop` writes it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod document;
mod mutants;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::progress::Progress;
use e2e::testbed::binaries;
use metrics_core::ingest::scrape::interop::verify_kubelet;
use metrics_core::server::authentication::trust::{FrontProxy, LiveTrust};
use metrics_core::server::authentication::{
    Anchors, AuthenticationError, Authenticator, ClientConnection, CredentialMetrics,
};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use self::document::{Row, check_document, document};

/// What Go accepts and metrics-core does not: group, situation, explanation. The reverse does not occur.
const STRICTER: &[(&str, &str, &str)] = &[
    (
        "chains",
        "40 foreign intermediates with the issuer's name, each with another key",
        "32 issuers are tried (Go: 100), those with the key identifier first. A client sends them before it is \
         authenticated.",
    ),
    (
        "CA flags, key usage, path length",
        "a certificate of version 1 with extensions",
        "Version 1 has no extensions. Go ignores them, and with them what they forbid.",
    ),
    (
        "extensions",
        "an intermediate that requires a policy, which the certificate has",
        "Certificate policies are not processed, so a chain that requires one is refused. Kubernetes does not use them.",
    ),
    (
        "keys and signatures",
        "a CA with P-224",
        "The TLS library has no P-224. No Kubernetes tool creates such keys.",
    ),
    ("keys and signatures", "a CA with RSA 1024", "RSA keys below 2048 bits can be broken. Replace the CA."),
    (
        "encoding",
        "data after the extensions",
        "The signed part must end with the extensions. Go ignores what follows.",
    ),
    (
        "bundles",
        "a block with headers",
        "PEM headers mark encrypted content. A certificate has none, so it is reported. Go skips the block.",
    ),
    (
        "bundles",
        "a block that is not base64",
        "A damaged certificate is reported, and the last valid bundle stays in effect. Go skips the block.",
    ),
    (
        "bundles",
        "a block without end",
        "A damaged certificate is reported, and the last valid bundle stays in effect. Go skips the block.",
    ),
];

/// A situation for one purpose, and Go's verdict.
#[derive(Deserialize)]
struct Situation {
    group: String,
    name: String,
    purpose: String,
    bundle: String,
    chain: Vec<String>,
    host: String,
    /// Empty if Go accepts the chain.
    error: String,
    user: String,
    groups: Option<Vec<String>>,
    /// What was changed at random.
    mutation: String,
}

impl Situation {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|der| STANDARD.decode(der).unwrap().into()).collect()
    }

    fn go(&self) -> Verdict {
        if self.error.is_empty() { Ok(()) } else { Err(self.error.clone()) }
    }

    /// Returns the verdict of metrics-core.
    fn ours(&self) -> Verdict {
        match self.purpose.as_str() {
            "client" => as_front_proxy(self),
            "server" => verify_kubelet(self.bundle.as_bytes(), &self.host, &self.chain()),
            purpose => panic!("{purpose}"),
        }
    }

    /// Compares both verdicts. metrics-core must not accept what Go refuses, and both must authenticate the same user.
    fn compare(&self, go: &Verdict, ours: &Verdict) -> Result<(), String> {
        let of = format!("{}, {} ({})", self.group, self.name, self.purpose);
        match (go, ours) {
            (Err(go), Ok(())) => Err(format!("{of}: accepted, but Go refuses it: {go}")),
            (Ok(()), ours) if self.purpose == "client" => {
                let client = as_client(self);
                if client.is_ok() == ours.is_ok() {
                    Ok(())
                } else {
                    Err(format!("{of}: client {client:?}, front proxy {ours:?}"))
                }
            }
            _ => Ok(()),
        }
    }
}

type Verdict = Result<(), String>;

#[test]
fn accepts_the_certificates_that_go_accepts() {
    let situations = situations();
    let mut rows: BTreeMap<(usize, usize), Row<'_>> = BTreeMap::new();
    let mut groups: Vec<&str> = Vec::new();
    let mut problems = Vec::new();
    for (at, situation) in situations.iter().enumerate() {
        if groups.last() != Some(&situation.group.as_str()) {
            groups.push(&situation.group);
        }
        let go = situation.go();
        let ours = situation.ours();
        problems.extend(situation.compare(&go, &ours).err());
        if let (Ok(()), Err(ours), None) = (&go, &ours, explanation(situation)) {
            problems.push(format!(
                "{}, {} ({}): refused, but Go accepts it: {ours}",
                situation.group, situation.name, situation.purpose
            ));
        }
        let row = rows.entry((groups.len(), at / 2)).or_insert_with(|| Row::new(situation));
        row.differs |= go.is_ok() != ours.is_ok();
        row.verdicts.push((go, ours));
    }
    for (group, name, _) in STRICTER {
        let row = rows.values().find(|row| row.group == *group && row.name == *name);
        if !row.is_some_and(|row| row.differs) {
            problems.push(format!("{group}, {name}: is listed as a difference, but both agree"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(rows.len() > 200 && rows.values().all(|row| row.verdicts.len() == 2), "{}", rows.len());
    check_document(&document(&rows));
}

/// Returns why metrics-core is stricter than Go.
fn explanation(situation: &Situation) -> Option<&'static str> {
    STRICTER
        .iter()
        .find(|(group, name, _)| *group == situation.group && *name == situation.name)
        .map(|(_, _, why)| *why)
}

fn situations() -> Vec<Situation> {
    let mut all = Vec::new();
    each_situation(&[], |situation| all.push(situation));
    all
}

/// Runs the Go program, and passes on each situation as soon as it is made.
fn each_situation(arguments: &[String], mut each: impl FnMut(Situation)) {
    let program = binaries::certificates(&Progress::new("interop")).unwrap();
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        each(serde_json::from_str(&line.unwrap()).unwrap());
    }
    assert!(child.wait().unwrap().success());
}

/// Authenticates as a user, and compares name and groups.
fn as_client(situation: &Situation) -> Verdict {
    let trust = LiveTrust::new(false);
    trust.set_client_ca(Anchors::from_pem(situation.bundle.as_bytes())?);
    let user = authenticate(trust, situation)?;
    let mut groups = situation.groups.clone().unwrap_or_default();
    if situation.user.is_empty() {
        return if user.0 == "system:anonymous" { Ok(()) } else { Err(format!("is {}", user.0)) };
    }
    groups.push("system:authenticated".into());
    if user == (situation.user.clone(), groups) { Ok(()) } else { Err(format!("is {user:?}")) }
}

/// Authenticates as a front proxy for another user.
fn as_front_proxy(situation: &Situation) -> Verdict {
    let trust = LiveTrust::new(false);
    trust.set_front_proxy(FrontProxy {
        anchors: Anchors::from_pem(situation.bundle.as_bytes())?,
        allowed_names: Vec::new(),
        username_headers: vec!["x-remote-user".into()],
        group_headers: vec!["x-remote-group".into()],
        extra_prefixes: Vec::new(),
        uid_headers: Vec::new(),
    });
    let (user, _) = authenticate(trust, situation)?;
    if user == "proxied" { Ok(()) } else { Err(format!("is {user}")) }
}

/// Sends a request that a front proxy could send, and returns its user and groups.
fn authenticate(trust: Arc<LiveTrust>, situation: &Situation) -> Result<(String, Vec<String>), String> {
    let authenticator = Authenticator::new(trust, None, Duration::ZERO, CredentialMetrics::default());
    let connection = ClientConnection::new([127, 0, 0, 1].into(), situation.chain());
    let request = http::Request::get("/apis").header("x-remote-user", "proxied").body(()).unwrap();
    let (mut parts, ()) = request.into_parts();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(authenticator.authenticate(&mut parts, &connection)) {
        Ok(user) => Ok((user.name, user.groups)),
        Err(AuthenticationError::Unauthorized(refusals)) => {
            Err(refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        Err(error) => Err(format!("{error:?}")),
    }
}
