//! The attributes of a request, and what is served for them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    metrics_core_fuzz::request_attributes(input);
});
