//! A scrape from the socket to the body.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    metrics_core_fuzz::session(input);
});
