//! Bodies of one kubelet, one after the other.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    metrics_core_fuzz::scrapes(input);
});
