//! CA and serving certificate exist, are valid and are not due for renewal.

use crds::{ConditionType, Reason};

use super::{Evidence, Holds, Verdict};
use crate::owned::Owned;
use crate::pki::Rollover;

pub(super) fn judge(evidence: Evidence<'_>) -> Verdict {
    let of = ConditionType::CertificatesReady;
    if let Some(problem) = evidence.problem(&[Owned::CaSecret, Owned::ServingSecret, Owned::ConfigMap]) {
        return Verdict::problem(of, problem);
    }
    let Some(plan) = &evidence.plan.certificates else {
        return Verdict::new(
            of,
            Holds::Unknown,
            Reason::Progressing,
            "The certificates are being looked at.",
        );
    };
    let serving = &plan.serving_certificate;
    let ca = &plan.ca_certificate;
    let valid = format!(
        "The serving certificate is valid until {} and is renewed at {}; the CA until {} and {}.",
        serving.not_after,
        serving.renewal_time(),
        ca.not_after,
        ca.renewal_time()
    );
    match plan.rollover {
        Rollover::Settled => Verdict::new(of, Holds::True, Reason::AsExpected, valid),
        Rollover::Trusting => Verdict::new(
            of,
            Holds::True,
            Reason::Progressing,
            format!(
                "The CA is being replaced: old and new are both trusted, and once every APIService holds the new one, the \
                 serving certificate is issued by it. {valid}"
            ),
        ),
        Rollover::Retiring => Verdict::new(
            of,
            Holds::True,
            Reason::Progressing,
            format!(
                "The CA is being replaced: the serving certificate is of the new one, and the old one stays trusted until \
                 every replica is proven to serve it ({}). {valid}",
                lack(evidence)
            ),
        ),
    }
}

/// What the proof waits for.
fn lack(evidence: Evidence<'_>) -> String {
    let lack = evidence.observed.proof.as_ref().and_then(|proof| proof.lack(&evidence.observed.pods));
    lack.unwrap_or_else(|| "they are being looked at".to_owned())
}
