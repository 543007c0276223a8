//! Nodes, pods and bodies in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    metrics_core_fuzz::store(input);
});
