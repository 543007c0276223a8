//! The body of a kubelet's `/metrics/resource`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    metrics_core_fuzz::decode(input);
});
