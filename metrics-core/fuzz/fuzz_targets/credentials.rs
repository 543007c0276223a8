//! The credentials of a client: headers and a certificate.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    metrics_core_fuzz::credentials(input);
});
