//! The token with which the operator reads the reports of metrics-core.
//!
//! Whoever runs in a pod of metrics-core receives this token. It must therefore open nothing else: its only audience is
//! [`AUDIENCE`], which kube-apiserver does not accept. The kubelet projects it into the operator's pod and rotates it. The
//! operator sends no other token, whatever the file contains.

use std::io::Read;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crds::report::AUDIENCE;
use serde::Deserialize;

/// The maximum length of a token in bytes. A ServiceAccount token has about 1,200.
const MAX_TOKEN: u64 = 32 * 1024;

/// The file with the token.
#[derive(Clone, Debug)]
pub(super) struct ReportToken(PathBuf);

/// Why there is no token to send. The text contains nothing of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The file can't be read.
    #[error("the operator has no token for metrics-core: {path}: {error}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: String,
    },
    /// The file contains no ServiceAccount token.
    #[error(
        "the operator has no token for metrics-core: {path} contains no ServiceAccount token (JWT)",
        path = .0.display()
    )]
    Malformed(PathBuf),
    /// The token has another audience, and whoever receives it may use it there.
    #[error(
        "the operator does not send the token in {path} to metrics-core, because {AUDIENCE} is not its only audience",
        path = .0.display()
    )]
    OtherAudience(PathBuf),
}

/// The claims of a JWT that matter here (RFC 7519, 4.1).
#[derive(Deserialize)]
struct Claims {
    aud: Audiences,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl ReportToken {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Reads the token. It is read for each poll, as the kubelet rotates it.
    pub(super) fn read(&self) -> Result<String, TokenError> {
        let unreadable =
            |error: std::io::Error| TokenError::Unreadable { path: self.0.clone(), error: error.to_string() };
        let mut token = String::new();
        let file = std::fs::File::open(&self.0).map_err(unreadable)?;
        file.take(MAX_TOKEN).read_to_string(&mut token).map_err(unreadable)?;
        let token = token.trim();
        match audiences(token) {
            None => Err(TokenError::Malformed(self.0.clone())),
            Some(audiences) if audiences == [AUDIENCE] => Ok(token.to_owned()),
            Some(_) => Err(TokenError::OtherAudience(self.0.clone())),
        }
    }
}

/// Returns the audiences of a JWT. Its signature is not verified: metrics-core does this with a TokenReview.
fn audiences(token: &str) -> Option<Vec<String>> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some(match claims.aud {
        Audiences::One(audience) => vec![audience],
        Audiences::Several(audiences) => audiences,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Returns a JWT with these audiences.
    pub(in crate::observe) fn jwt(audiences: &Value) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({ "aud": audiences, "sub": "system:serviceaccount:ns:metrics-pipeline-operator" });
        format!("{}.{}.{}", part(json!({ "alg": "RS256" })), part(claims), "c2lnbmF0dXJl")
    }

    /// Returns a file with this content.
    pub(in crate::observe) fn file(content: &str) -> PathBuf {
        let name = format!("report-token-{}-{:x}", std::process::id(), content.len());
        let path = std::env::temp_dir().join(format!("{name}-{:x}", jiff::Timestamp::now().as_nanosecond()));
        std::fs::write(&path, content).expect("a file");
        path
    }

    fn read(content: &str) -> Result<String, TokenError> {
        let path = file(content);
        let read = ReportToken::at(path.clone()).read();
        std::fs::remove_file(path).expect("the file");
        read
    }

    #[test]
    fn returns_a_token_whose_only_audience_is_that_of_the_report() {
        for audiences in [json!(AUDIENCE), json!([AUDIENCE])] {
            let token = jwt(&audiences);
            assert_eq!(read(&format!("{token}\n")), Ok(token));
        }
    }

    #[test]
    fn returns_no_token_that_another_server_may_accept() {
        let api = "https://kubernetes.default.svc.cluster.local";
        for audiences in [json!(api), json!([api]), json!([AUDIENCE, api]), json!([api, AUDIENCE]), json!([])]
        {
            let error = read(&jwt(&audiences)).expect_err("an error");
            assert!(matches!(error, TokenError::OtherAudience(_)), "{audiences}: {error}");
        }
    }

    #[test]
    fn returns_no_token_without_readable_audiences() {
        let good = jwt(&json!(AUDIENCE));
        let claims = good.split('.').nth(1).expect("claims").to_owned();
        for content in [
            String::new(),
            "static-token".to_owned(),
            claims.clone(),
            format!("a.{claims}"),
            format!("{good}.more"),
            jwt(&json!(7)),
            jwt(&json!({})),
            "a.bm90IGpzb24.c".to_owned(),
            "x".repeat(100_000),
        ] {
            let error = read(&content).expect_err("an error");
            assert!(matches!(error, TokenError::Malformed(_)), "{error}");
            let shown = error.to_string();
            assert!(content.is_empty() || !shown.contains(&content), "{shown}");
        }
        let missing = ReportToken::at("/nonexistent/token".into()).read().expect_err("an error");
        assert!(missing.to_string().contains("/nonexistent/token: No such file"), "{missing}");
    }
}
