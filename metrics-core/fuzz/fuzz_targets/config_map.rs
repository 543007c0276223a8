//! ConfigMap extension-apiserver-authentication.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    metrics_core_fuzz::config_map(input);
});
