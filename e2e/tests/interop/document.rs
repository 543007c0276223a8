//! The page `docs/interop.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{Situation, Verdict, explanation};

/// The figures of one run of `cargo certificate-mutants`.
const MUTANTS: &str = "
## Random changes

`COUNT=100000 SEED=2 cargo certificate-mutants` changes certificates of these situations at random: bytes, and elements of DER at
any depth (content, tag, form of the length, order, copies, elements of other certificates). Mostly it changes the signed
part and signs it again, so that the signature is valid. It also changes the order and number of certificates, and the host.
What metrics-core accepts, Go must accept. Every test run compares 3,000 of them.

30 November 2026, Go 1.26.8, 232 situations, two cores: of 100,000, both accept 9,598 and both refuse 88,140. metrics-core accepts none
that Go refuses. Go alone accepts 2,262:

| mutants | reason of metrics-core |
|---|---|
| 1,613 | data that Go ignores, such as bytes after the last field of an extension, a key, a signature or the signed part |
| 249 | an RSA key below 2048 bits |
| 205 | a damaged certificate or PEM block in the bundle, which Go skips |
| 126 | extensions in a certificate of version 1 or 2 |
| 55 | a CA that requires certificate policies |
| 14 | an intermediate of the chain is refused for one of these reasons, a time with an offset of 24 hours, or a period at the end of a host |
";

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/interop.md");

/// A row of the table.
pub(super) struct Row<'a> {
    pub(super) group: &'a str,
    pub(super) name: &'a str,
    why: Option<&'static str>,
    pub(super) differs: bool,
    /// Go's and ours, for clients and for servers.
    pub(super) verdicts: Vec<(Verdict, Verdict)>,
}

impl<'a> Row<'a> {
    pub(super) fn new(situation: &'a Situation) -> Self {
        Self {
            group: &situation.group,
            name: &situation.name,
            why: explanation(situation),
            differs: false,
            verdicts: Vec::new(),
        }
    }
}

pub(super) fn document(rows: &BTreeMap<(usize, usize), Row<'_>>) -> String {
    let differing = rows.values().filter(|row| row.differs).count();
    let mut text = format!(
        "# Which certificates are accepted

metrics-core verifies certificates as Kubernetes does, with the rules of Go's crypto/x509: client certificates and those of
front proxies as kube-apiserver, serving certificates of kubelets (`kubelet.tls.mode: Verify`) as client-go. The code is in `x509/`.

A Go program makes certificates for {} situations and verifies them with crypto/x509; the code of metrics-core verifies
the same certificates. They differ in {differing} situations. metrics-core accepts nothing that Go refuses.

`cargo test -p e2e --test interop` compares them and this page. `UPDATE_DOCS=1` before it writes the page.

## Rules

- A certificate of the bundle is trusted as itself, whoever signed it: also one that is self-signed, and one that is a CA.
- It is trusted to sign others only if it is a CA: basic constraints with CA:TRUE, and keyCertSign if it has a key usage.
  Before version 3 a certificate can't say so; one of the bundle is taken as a CA.
- Validity, path length, extended key usage and name constraints of the bundle's certificates apply, too.
- The common name is not used as host name.
- Bundles of clients and front proxies must be valid as a whole. In the bundle for kubelets, certificates that can't be
  used are skipped with a warning.

## Differences

| situation | Go | metrics-core | why |
|---|---|---|---|
",
        rows.len()
    );
    for row in rows.values().filter(|row| row.differs) {
        let _ = writeln!(
            text,
            "| {}: {} | accepted | refused | {} |",
            row.group,
            row.name,
            row.why.unwrap_or_default()
        );
    }
    text.push_str(MUTANTS);
    text.push_str(
        "\n## Situations\n\nThe verdicts of metrics-core. \"differs\" refers to the table above.\n",
    );
    let mut group = "";
    for row in rows.values() {
        if row.group != group {
            group = row.group;
            let _ = write!(text, "\n| {group} | clients, front proxies | kubelets |\n|---|---|---|\n");
        }
        let cell = |at: usize| {
            let (go, ours) = &row.verdicts[at];
            let verdict = if ours.is_ok() { "accepted" } else { "refused" };
            if go.is_ok() == ours.is_ok() { verdict.to_owned() } else { format!("{verdict} (differs)") }
        };
        let _ = writeln!(text, "| {} | {} | {} |", row.name, cell(0), cell(1));
    }
    text
}

pub(super) fn check_document(expected: &str) {
    let path = Path::new(DOCUMENT);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/interop.md differs: run `UPDATE_DOCS=1 cargo test -p e2e --test interop`"
    );
}
