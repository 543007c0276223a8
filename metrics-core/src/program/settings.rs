//! Settings of other modules, made from the command line's options.

use crate::api;
use crate::flags::{Error, Options, TlsOptions};
use crate::server::authorization::AlwaysAllow;
use crate::server::tls::TlsPolicy;

/// Returns the TLS policy, and adds a note for each value that was adapted.
pub(super) fn tls_policy(options: &TlsOptions, notes: &mut Vec<String>) -> Result<TlsPolicy, Error> {
    TlsPolicy::from_flags(&options.min_version, &options.cipher_suites, &options.curve_preferences, notes)
        .map_err(|error| Error::value(error.flag, &error.value, &error.problem, &error.remedy))
}

/// Returns the paths that need no authorization.
pub(super) fn always_allow(paths: &[String]) -> Result<AlwaysAllow, Error> {
    AlwaysAllow::new(paths).map_err(|pattern| {
        Error::value(
            "authorization-always-allow-paths",
            &pattern,
            "has a * before its end",
            "use * only as the last character of a path",
        )
    })
}

/// Returns the API's configuration.
pub(super) fn api_config(options: &Options) -> api::ApiConfig {
    api::ApiConfig {
        swap: options.serve_swap,
        max_watches: options.max_watches,
        min_watch_duration: options.min_watch_timeout,
        ..api::ApiConfig::default()
    }
}
