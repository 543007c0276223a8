//! The rule that `extraArgs` does not override a flag that a field of the spec sets.

use serde_json::{Value, json};

/// The flags of metrics-core that fields of the spec set, with these fields. A flag is refused in `extraArgs` even
/// if its field is absent, because the operator evaluates the field.
pub const SPEC_FLAGS: [(&str, &str); 16] = [
    ("secure-port", "spec.metricsCore.securePort"),
    ("metric-resolution", "spec.metricsCore.metricResolution"),
    ("kubelet-request-timeout", "spec.metricsCore.kubelet.requestTimeout"),
    ("kubelet-preferred-address-types", "spec.metricsCore.kubelet.addressTypes"),
    ("kubelet-port", "spec.metricsCore.kubelet.port"),
    ("kubelet-use-node-status-port", "spec.metricsCore.kubelet.port"),
    ("kubelet-certificate-authority", "spec.metricsCore.kubelet.tls.certificateAuthority"),
    ("kubelet-insecure-tls", "spec.metricsCore.kubelet.tls.mode"),
    ("kubelet-tls-pin", "spec.metricsCore.kubelet.tls.mode"),
    ("node-selector", "spec.metricsCore.kubelet.nodeSelector"),
    ("watch", "spec.metricsCore.watch"),
    ("log-level", "spec.metricsCore.logLevel"),
    ("logging-format", "spec.metricsCore.logFormat"),
    ("tls-secret", "spec.certificates.source"),
    ("tls-cert-file", "spec.certificates.source"),
    ("tls-private-key-file", "spec.certificates.source"),
];

/// Returns the CEL rules of `extraArgs`.
pub(super) fn rules() -> Vec<Value> {
    let rule = |condition: &str, flag: &str, field: &str| {
        json!({
            "rule": format!("self.all(arg, {condition})"),
            "message": format!("--{flag}: can't be set here; set {field} instead"),
        })
    };
    let flags = SPEC_FLAGS.iter().map(|(flag, field)| {
        // metrics-core accepts one dash for two, and `_` for `-` within the name.
        let name = flag.replace('-', "[-_]");
        rule(&format!("!arg.matches('^--?{name}(=|$)')"), flag, field)
    });
    // The short form of --node-selector, with or without its value; other flags may be written with one dash, too.
    let short = rule(
        "!arg.startsWith('-l') || arg.matches('^-l(og|ivez|egacy)')",
        "node-selector",
        "spec.metricsCore.kubelet.nodeSelector",
    );
    flags.chain([short]).collect()
}
