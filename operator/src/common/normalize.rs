//! Quotes error messages of other programs in a message of the operator: bounded, on one line and normalized.
//!
//! A changed message causes a status write. Normalization therefore removes details that change without a meaning: the
//! ports of clients, the current time, IDs of requests and streams, fractions of seconds.

use std::borrow::Cow;

/// The maximum length of a quotation, in characters.
const MAX_LENGTH: usize = 300;

/// Stands for a removed part.
const OMITTED: &str = "…";

/// Go's messages for a request that timed out. Which of them appears depends on which timer fires first.
const TIMEOUTS: [&str; 5] = [
    "net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
    "net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
    "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
    "context deadline exceeded (Client.Timeout or context cancellation while reading body)",
    "http2: client connection lost",
];

/// The alphabet of the suffix that kube-apiserver appends to generated names
/// (k8s.io/apimachinery/pkg/util/rand).
const GENERATED: &str = "bcdfghjklmnpqrstvwxz2456789";

/// Returns the text normalized, truncated to 300 characters and without control characters.
#[must_use]
pub(crate) fn quote(text: &str) -> String {
    bounded(text, MAX_LENGTH)
}

/// Like [`quote`], with a maximum length in characters.
#[must_use]
pub(crate) fn bounded(text: &str, max_length: usize) -> String {
    let clean: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let normalized = normalize(&clean);
    if normalized.chars().count() <= max_length {
        normalized
    } else {
        normalized.chars().take(max_length).chain(['…']).collect()
    }
}

/// Removes details that change from one occurrence of a message to the next. Idempotent.
#[must_use]
pub(crate) fn normalize(text: &str) -> String {
    let text = TIMEOUTS
        .iter()
        .fold(text.to_owned(), |text, timeout| text.replace(timeout, "context deadline exceeded"));
    let mut kept: Vec<Cow<'_, str>> = Vec::new();
    let mut before = ["", ""];
    for word in text.split(' ') {
        // crypto/x509: "certificate has expired or is not yet valid: current time T is after T".
        let is_now = before == ["current", "time"] && is_timestamp(core(word));
        if !is_now {
            kept.push(normalize_word(word, before));
        }
        before = [before[1], word];
    }
    kept.join(" ")
}

/// Normalizes one word, given the two words before it.
fn normalize_word<'a>(word: &'a str, before: [&str; 2]) -> Cow<'a, str> {
    let core = core(word);
    let instead = |part: &str, by: &str| Cow::Owned(word.replacen(part, by, 1));
    // Go's net: "read tcp 10.0.0.1:51234->10.0.0.2:4443"; the first port is a client's.
    if let Some((from, to)) = word.split_once("->")
        && let Some(host) = without_port(from)
    {
        return Cow::Owned(format!("{host}->{to}"));
    }
    if before[1] == "from"
        && let Some(host) = without_port(core)
    {
        return instead(core, host);
    }
    let is_number = !core.is_empty() && core.bytes().all(|byte| byte.is_ascii_digit());
    // golang.org/x/net/http2, and kube-apiserver of a watch.
    let counted = before == ["stream", "ID"] || before == ["resource", "version:"];
    if (is_number && counted)
        || is_uuid(core)
        || is_pointer(core)
        || (is_timestamp(core) && core.contains('.'))
        || core.starts_with("m=+")
    {
        return instead(core, OMITTED);
    }
    if before[1].ends_with("pods")
        && let Some((name, suffix)) = core.rsplit_once('-')
        && suffix.len() == 5
        && suffix.chars().all(|letter| GENERATED.contains(letter))
    {
        return instead(core, &format!("{name}-{OMITTED}"));
    }
    match whole_seconds(core) {
        Some(seconds) => instead(core, &seconds),
        None => Cow::Borrowed(word),
    }
}

/// Returns a word without the punctuation around it.
fn core(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '[' | ']'))
}

/// Returns the host of `host:port`.
fn without_port(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    // An IPv6 address without brackets has no port.
    let is_host = !host.contains(':') || host.ends_with(']');
    (is_port && is_host && !host.is_empty()).then_some(host)
}

fn is_timestamp(word: &str) -> bool {
    word.parse::<jiff::Timestamp>().is_ok()
}

fn is_uuid(word: &str) -> bool {
    let lengths = word.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Returns whether a word is a pointer as Go formats it.
fn is_pointer(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or_default();
    digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Rounds a Go duration with a fraction, such as `1m0.002s` or `12.345ms`, to whole seconds; omits the number below one
/// second.
fn whole_seconds(word: &str) -> Option<String> {
    if word.len() > 32 || !word.ends_with('s') || !word.contains('.') {
        return None;
    }
    let mut seconds = 0.0;
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "µs" | "us" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    let whole = seconds.round();
    Some(if whole < 1.0 { format!("{OMITTED}s") } else { format!("{whole}s") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{bounded, normalize, quote};

    #[test]
    fn removes_volatile_details() {
        for (text, normalized) in [
            (
                "read tcp 10.99.0.1:51234->10.244.0.3:4443: read: connection reset by peer",
                "read tcp 10.99.0.1->10.244.0.3:4443: read: connection reset by peer",
            ),
            (
                "write tcp [fd00::1]:40000->[fd00::2]:4443: broken pipe",
                "write tcp [fd00::1]->[fd00::2]:4443: broken pipe",
            ),
            (
                "x509: certificate has expired or is not yet valid: current time 2026-11-26T20:01:02Z is after 2021-01-01T00:00:00Z",
                "x509: certificate has expired or is not yet valid: current time is after 2021-01-01T00:00:00Z",
            ),
            ("TLS handshake error from 10.0.0.1:51234: EOF", "TLS handshake error from 10.0.0.1: EOF"),
            ("stream error: stream ID 13; INTERNAL_ERROR", "stream error: stream ID …; INTERNAL_ERROR"),
            ("Internal error (request 0f8fad5b-d9cb-469f-a165-70867728950e)", "Internal error (request …)"),
            ("too old resource version: 12 (34)", "too old resource version: … (34)"),
            (
                "Get \"https://10.96.0.9:443\": net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
                "Get \"https://10.96.0.9:443\": context deadline exceeded",
            ),
            ("timed out after 10.000123456s", "timed out after 10s"),
            ("took 1m0.2s, then 12.5ms", "took 60s, then …s"),
            ("at 2026-11-26T20:01:02.123456Z m=+12.3", "at … …"),
            ("panic at 0xc000123456", "panic at …"),
            (
                "pods \"metrics-core-5d9444559b-scfqx\" is forbidden: exceeded quota",
                "pods \"metrics-core-5d9444559b-…\" is forbidden: exceeded quota",
            ),
        ] {
            assert_eq!(normalize(text), normalized);
        }
    }

    #[test]
    fn keeps_meaningful_details() {
        for text in [
            "dial tcp 10.96.1.2:443: connect: connection refused",
            "bad status from https://10.244.0.3:4443/apis/metrics.k8s.io/v1beta1: 401",
            "the kubelet's certificate expired at 2021-01-01T00:00:00Z",
            "Client.Timeout exceeded while awaiting headers",
            "no response within 5 s",
            "[\"X-Remote-Extra- --requestheader-group-headers=X-Remote-Group\"]",
            "0/3 nodes are available: 1 Insufficient memory.",
            "CN=aggregator, O=a, sha256:0123456789abcdef",
            "fd00::1",
            "a  b",
        ] {
            assert_eq!(normalize(text), text);
        }
    }

    #[test]
    fn quotes_are_truncated_and_on_one_line() {
        assert_eq!(quote(" a\nb\u{7}c "), "a b c");
        assert_eq!(bounded("éééé", 2), "éé…");
        assert_eq!(quote(&"x".repeat(301)).chars().count(), 301);
    }

    proptest! {
        #[test]
        fn normalize_is_idempotent(text in "[a-z0-9:>. ()\\[\\]mµsh-]{0,60}") {
            let once = normalize(&text);
            prop_assert_eq!(normalize(&once), once.clone());
        }
    }
}
